// What a consumer used at this node: today, this month, and by day and model.

function partOf(name, sums) {
  const value = el('dd');
  const note = el('dd', { 'class': 'quiet' });
  return { node: el('div', {}, el('dt', {}, name), value, note), value, note, sums };
}

function makeUsage() {
  const parts = [
    partOf('Cost today', (usage) => [costOf(usage.today), plural(usage.today.requests, 'request')]),
    partOf('Cost this month', (usage) => [costOf(usage.month), plural(usage.month.requests, 'request')]),
    partOf('Tokens today', (usage) => [count(usage.today.input_tokens + usage.today.output_tokens), inAndOut(usage.today)]),
    partOf('Tokens this month', (usage) => [count(usage.month.input_tokens + usage.month.output_tokens), inAndOut(usage.month)]),
  ];
  const stats = el('dl', { 'class': 'stats' }, ...parts.map((part) => part.node));
  const measure = el('select', {}, el('option', { value: 'cost' }, 'Cost'), el('option', { value: 'tokens' }, 'Tokens'), el('option', { value: 'requests' }, 'Requests'));
  const picture = svg('svg', { role: 'img', height: CHART_HEIGHT });
  const canvas = el('div', { 'class': 'chart' }, picture);
  const caption = el('caption', { 'class': 'unseen' });
  const head = el('thead', {}, el('tr', {}, ...['Model', 'Requests', 'Tokens', 'Cost'].map((text, at) => el('th', { scope: 'col', 'class': at ? 'number' : null }, text))));
  const models = el('tbody');
  const days = el('tbody');
  const dayCaption = el('caption', { 'class': 'unseen' });
  const dayHead = el('thead', {}, el('tr', {}, ...['Day', 'Model', 'Requests', 'Tokens', 'Cost'].map((text, at) => el('th', { scope: 'col', 'class': at > 1 ? 'number' : null }, text))));
  const scroll = el('div', { 'class': 'scroll tall', role: 'group', 'aria-label': 'Usage by day and model' }, el('table', { 'class': 'plain-table' }, dayCaption, dayHead, days));
  const details = el('details', {}, el('summary', {}, 'The same as a table'), scroll);
  const titled = el('div', { 'class': 'head small' }, el('h3', {}, 'The last 30 days'), el('label', { 'class': 'tool' }, el('span', { 'class': 'unseen' }, 'Show '), measure));
  const chart = el('div', { 'class': 'days' }, titled, canvas, el('table', { 'class': 'plain-table by-model' }, caption, head, models), details);
  const none = el('p', { 'class': 'empty' });
  const scope = el('p', { 'class': 'quiet' });
  const node = el('div', { 'class': 'usage' }, scope, none, stats, chart);
  const view = { node, scope, parts, stats, measure, picture, canvas, caption, models, days, dayCaption, chart, none, usage: null, now: 0, drawn: '' };
  measure.addEventListener('change', () => drawUsage(view));
  new ResizeObserver(() => drawUsage(view)).observe(canvas);
  watchScroll(scroll);
  return view;
}

// Some of it may have no known price: then the sum is only a part.
function costOf(sums) {
  if (sums.cost_usd === null) return sums.requests === 0 ? dollars(0) : 'unknown';
  return `${sums.unpriced ? 'at least ' : ''}${dollars(sums.cost_usd)}`;
}

function inAndOut(sums) {
  return `${count(sums.input_tokens)} in, ${count(sums.output_tokens)} out`;
}

function drawUsage(view) {
  const width = Math.round(view.canvas.clientWidth);
  if (!view.usage || width < 50) return;
  const measure = view.measure.value;
  const drawn = JSON.stringify([width, measure, view.now - (view.now % DAY_MS), view.usage.days]);
  if (drawn === view.drawn) return;
  view.drawn = drawn;
  const data = stack(view.usage.days, measure, view.now);
  drawChart(view.picture, data, measure, width);
  const colour = new Map(data.series.map((one, at) => [one.model, at]));
  showModels(view, colour, data.series.length - 1);
}

// The legend is the table of sums by model.
function showModels(view, colour, last) {
  const first = lastDays(view.now, CHART_DAYS)[0];
  const byModel = new Map();
  for (const row of view.usage.days.filter((row) => row.day >= first)) {
    const name = row.model ?? '(no model)';
    const sums = byModel.get(name) ?? { model: name, requests: 0, tokens: 0, cost_usd: null };
    sums.requests += row.requests;
    sums.tokens += row.input_tokens + row.output_tokens;
    if (row.cost_usd !== null) sums.cost_usd = (sums.cost_usd ?? 0) + row.cost_usd;
    byModel.set(name, sums);
  }
  const rows = [...byModel.values()].sort((a, b) => (colour.get(a.model) ?? last) - (colour.get(b.model) ?? last) || b.requests - a.requests);
  say(view.caption, 'Usage of the last 30 days by model');
  view.models.replaceChildren(...rows.map((row) => el('tr', {},
    el('th', { scope: 'row' }, el('i', { 'class': `swatch c${colour.get(row.model) ?? last}`, 'aria-hidden': 'true' }), row.model),
    el('td', { 'class': 'number' }, count(row.requests)), el('td', { 'class': 'number' }, count(row.tokens)), el('td', { 'class': 'number' }, dollars(row.cost_usd)))));
  say(view.dayCaption, 'Usage by day and model, the latest day first');
  const days = [...view.usage.days].filter((row) => row.day >= first).sort((a, b) => b.day.localeCompare(a.day) || (a.model ?? '').localeCompare(b.model ?? ''));
  view.days.replaceChildren(...days.map((row) => el('tr', {}, el('th', { scope: 'row' }, dayLabel(row.day)), el('td', {}, row.model ?? '(no model)'),
    el('td', { 'class': 'number' }, count(row.requests)), el('td', { 'class': 'number' }, count(row.input_tokens + row.output_tokens)), el('td', { 'class': 'number' }, dollars(row.cost_usd)))));
}

// Each node's ledger has what that node answered.
function scopeOf(consumer, me) {
  if (!me.all_nodes) return 'Used at this node.';
  return `Used at this node. For a report over all nodes ask ${me.contact ?? 'those who run the gateway'}: spillway usage --all-nodes --consumer ${consumer.name}`;
}

function showUsage(view, consumer, me, now) {
  const { usage, usage_problem: problem } = consumer;
  Object.assign(view, { usage, now });
  const some = usage !== null && usage.days.length > 0;
  show(view.stats, usage !== null && (some || usage.month.requests > 0));
  show(view.chart, some);
  show(view.none, !some);
  show(view.scope, usage !== null);
  say(view.scope, scopeOf(consumer, me));
  if (usage === null) say(view.none, problem ?? 'This gateway has no ledger, so it can\'t say what was used.');
  else if (!some) say(view.none, 'Nothing was used at this node in the last 30 days.');
  if (usage === null) return;
  for (const part of view.parts) {
    const [value, note] = part.sums(usage);
    say(part.value, value);
    say(part.note, note);
  }
  drawUsage(view);
}
