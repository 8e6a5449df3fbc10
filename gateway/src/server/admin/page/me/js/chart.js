// Usage by day and model: how it is stacked (pure), and as SVG. The table beside it has the same numbers.

const CHART_DAYS = 30;
const CHART_HEIGHT = 150;
// Further models are one colour: more could not be told apart.
const COLOURS = 5;

const MEASURES = {
  cost: { of: (row) => row.cost_usd ?? 0, text: dollars },
  tokens: { of: (row) => row.input_tokens + row.output_tokens, text: count },
  requests: { of: (row) => row.requests, text: count },
};

// The days with a value for each model, the largest model first; small ones are one series, `others`.
function stack(rows, measure, now) {
  const days = lastDays(now, CHART_DAYS);
  const at = new Map(days.map((day, index) => [day, index]));
  const byModel = new Map();
  for (const row of rows) {
    const day = at.get(row.day);
    if (day === undefined) continue;
    const name = row.model ?? '(no model)';
    if (!byModel.has(name)) byModel.set(name, new Array(CHART_DAYS).fill(0));
    byModel.get(name)[day] += MEASURES[measure].of(row);
  }
  const total = (values) => values.reduce((all, value) => all + value, 0);
  const all = [...byModel].map(([model, values]) => ({ model, values, total: total(values) }));
  all.sort((a, b) => b.total - a.total || a.model.localeCompare(b.model));
  const series = all.length > COLOURS ? all.slice(0, COLOURS - 1) : all;
  const rest = all.slice(series.length);
  if (rest.length) {
    const values = days.map((_, day) => rest.reduce((sum, one) => sum + one.values[day], 0));
    series.push({ model: `${rest.length} others`, values, total: total(values) });
  }
  const sums = days.map((_, day) => series.reduce((sum, one) => sum + one.values[day], 0));
  return { days, series, sums, most: Math.max(0, ...sums), total: total(sums) };
}

// A round number at or above `most`, for the scale.
function roundUp(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most * 0.999) ?? most;
}

function chartSentence(data, measure) {
  const { text } = MEASURES[measure];
  const name = { cost: 'Cost', tokens: 'Tokens', requests: 'Requests' }[measure];
  const range = `${dayLabel(data.days[0])} to ${dayLabel(data.days.at(-1))}`;
  if (data.total === 0) return `${name} by day and model, ${range}: none.`;
  const best = data.sums.indexOf(data.most);
  return `${name} by day and model, ${range}: ${text(data.total)} in all, most on ${dayLabel(data.days[best])} with ${text(data.most)}.`;
}

// Draws into `node`, which has this width in CSS pixels.
function drawChart(node, data, measure, width) {
  const { text } = MEASURES[measure];
  const [top, bottom, left] = [18, 20, 4];
  const scale = roundUp(data.most);
  const room = CHART_HEIGHT - top - bottom;
  const y = (value) => top + room * (1 - value / scale);
  const step = (width - left) / CHART_DAYS;
  const wide = Math.max(2, Math.min(22, step * 0.72));
  const parts = [0.5, 1].map((share) => svg('line', { x1: left, x2: width, y1: y(scale * share), y2: y(scale * share), 'class': 'grid' }));
  parts.push(svg('text', { x: left, y: y(scale) - 5, 'class': 'axis' }, text(scale)));
  data.days.forEach((day, at) => {
    const x = left + step * at + (step - wide) / 2;
    const bars = [];
    let below = 0;
    data.series.forEach((one, index) => {
      const value = one.values[at];
      if (value <= 0) return;
      const height = Math.max(1, y(below) - y(below + value));
      bars.push(svg('rect', { x, y: y(below) - height, width: wide, height, 'class': `c${index}` }));
      below += value;
    });
    const of = data.series.filter((one) => one.values[at] > 0).map((one) => `${one.model}: ${text(one.values[at])}`);
    const title = [`${dayLabel(day)}: ${data.sums[at] > 0 ? text(data.sums[at]) : 'none'}`, ...(of.length > 1 ? of : [])].join('\n');
    parts.push(svg('g', {}, svg('rect', { x: left + step * at, y: top, width: step, height: room, 'class': 'day' }), ...bars, svg('title', {}, title)));
  });
  parts.push(svg('line', { x1: left, x2: width, y1: y(0), y2: y(0), 'class': 'base' }));
  // The first day, the last one and, where they fit, some between.
  const last = CHART_DAYS - 1;
  for (const at of width < 420 ? [0, last] : [0, 7, 14, 21, last]) {
    const anchor = { 0: 'start', [last]: 'end' }[at] ?? 'middle';
    const x = { 0: left, [last]: width }[at] ?? left + step * (at + 0.5);
    parts.push(svg('text', { x, y: CHART_HEIGHT - 4, 'class': 'axis', 'text-anchor': anchor }, dayLabel(data.days[at])));
  }
  mark(node, 'viewBox', `0 0 ${width} ${CHART_HEIGHT}`);
  mark(node, 'aria-label', chartSentence(data, measure));
  node.replaceChildren(...parts);
}
