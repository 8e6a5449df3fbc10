// The flow picture: how many requests each tier serves, and what flows over to the next.

const canvas = byId('flow-canvas');
const choice = byId('flow-pool');
const WIDE = { top: 74, drop: 34, side: 56, most: 58, foot: 96 };
const NARROW = { top: 54, drop: 26, side: 14, most: 34, foot: 40 };
// The picture is to scale with the busiest moment of the last minutes, so that a quiet hour looks quiet.
const PEAK_FADES_MS = 180_000;
const peaks = new Map();
let drawn = null;
let lastModel = null;

function stagesOf(model, name) {
  const pools = name ? model.pools.filter((pool) => pool.name === name) : model.pools;
  const stages = new Map();
  for (const tier of pools.flatMap((pool) => pool.tiers)) {
    const id = tier.isLastResort ? 'last' : tier.rank;
    const stage = stages.get(id) ?? { id, name: tierName(tier), perSecond: null, open: 0, members: 0 };
    stage.perSecond = sum([stage.perSecond, tier.perSecond]);
    stage.open += tier.open;
    stage.members += tier.members.length;
    stages.set(id, stage);
  }
  const order = (stage) => (stage.id === 'last' ? Infinity : stage.id);
  const sorted = [...stages.values()].sort((a, b) => order(a) - order(b));
  // Requests that no tier could serve are refused; their number is known only for the whole gateway.
  if (!name || model.pools.length === 1) {
    sorted.push({ id: 'refused', name: '429 to callers', perSecond: model.refusedPerSecond, open: 0, members: 0 });
  }
  const total = sum(sorted.map((stage) => stage.perSecond));
  for (const stage of sorted) stage.share = total ? shareOf(stage.perSecond, total) : null;
  return { sorted, total };
}

// A rate that is shown as 0/s is also shown as 0 %.
function shareOf(rate, total) {
  return rate >= 0.05 ? rate / total : 0;
}

function peakOf(name, total, now) {
  const peak = peaks.get(name) ?? { value: 0, at: now };
  const faded = peak.value * Math.exp(-(now - peak.at) / PEAK_FADES_MS);
  const next = { value: Math.max(total ?? 0, faded, 1), at: now };
  peaks.set(name, next);
  return next.value;
}

function showFlow(model) {
  lastModel = model;
  const names = model.pools.map((pool) => pool.name);
  show(byId('flow-choice'), names.length > 1);
  keep(choice, ['', ...names], (name) => name, (name) => ({ node: el('option', { value: name }, name || 'all') }), () => {});
  const { sorted, total } = stagesOf(model, choice.value);
  const peak = peakOf(choice.value, total, model.status.now);
  say(byId('flow-scale'), total === null ? 'measuring…' : `${perSecond(total)} requests/s`);
  showLegend(sorted);
  draw(sorted, peak);
}

function membersText(stage) {
  if (stage.id === 'refused') return stage.perSecond >= 0.05 ? 'no room left' : 'none now';
  return `${count(stage.open)} of ${count(stage.members)} open`;
}

function showLegend(stages) {
  keep(byId('flow-legend'), stages, (stage) => String(stage.id), (stage) => {
    const parts = { name: el('span', { 'class': 'water' }), rate: el('strong'), share: el('span', { 'class': 'quiet' }), open: el('span', { 'class': 'quiet' }) };
    return { ...parts, node: el('li', { 'data-stage': stage.id }, parts.name, ' ', parts.rate, ' ', parts.share, ' ', parts.open) };
  }, (view, stage) => {
    say(view.name, stage.name);
    say(view.rate, `${perSecond(stage.perSecond)}/s`);
    say(view.share, stage.share === null ? '' : percent(stage.share));
    say(view.open, membersText(stage));
  });
}

function draw(stages, peak) {
  const width = Math.round(canvas.clientWidth);
  if (!width || !stages.length) return;
  const wide = (width - WIDE.side) / stages.length >= 158;
  const frame = wide ? WIDE : NARROW;
  const height = frame.top + (stages.length - 1) * frame.drop + frame.foot;
  const id = `${width}/${wide}/${stages.map((stage) => stage.id).join()}`;
  if (drawn?.id !== id) {
    drawn?.root.remove();
    drawn = { id, ...blank(stages, width, height, wide) };
    canvas.append(drawn.root);
    mark(byId('flow-legend'), 'class', wide ? 'legend unseen' : 'legend');
  }
  // A very small flow must be visible; no flow must not.
  const widths = stages.map(({ perSecond: rate }) => (rate >= 0.05 ? Math.max(1.5, (rate / peak) * frame.most) : 0));
  const shape = shapeOf(widths.map((value) => Math.round(value * 10) / 10), { ...frame, width, height });
  mark(drawn.mass, 'd', shape.mass);
  mark(drawn.bed, 'd', shape.bed);
  shape.steps.forEach((step, index) => drawStage(drawn.stages[index], stages[index], step, height, wide));
}

function blank(stages, width, height, wide) {
  const mass = svg('path', { 'class': 'mass' });
  const bed = svg('path', { 'class': 'bed' });
  const parts = stages.map((stage) => {
    const view = {
      pipe: svg('path', { 'class': 'pipe' }),
      overflow: svg('path', { 'class': 'flows over' }),
      served: svg('path', { 'class': 'flows served' }),
      overLine: svg('path', { 'class': 'streak' }),
      servedLine: svg('path', { 'class': 'streak' }),
      name: svg('text', { 'class': 'water' }),
      rate: svg('text', { 'class': 'rate' }),
      unit: svg('tspan', { 'class': 'unit' }),
      number: svg('tspan'),
      open: svg('text', { 'class': 'small' }),
    };
    view.rate.append(view.number, view.unit);
    view.group = svg('g', { 'data-stage': stage.id });
    return view;
  });
  const root = svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true', focusable: 'false' }, mass, bed);
  // Pipes under the water, water under the words.
  for (const layer of ['pipe', 'overflow', 'served', 'overLine', 'servedLine']) {
    root.append(...parts.map((view, index) => svg('g', { 'data-stage': stages[index].id }, view[layer])));
  }
  parts.forEach((view) => {
    view.group.append(view.name, ...(wide ? [view.rate, view.open] : []));
    root.append(view.group);
  });
  return { root, mass, bed, stages: parts };
}

function drawStage(view, stage, step, height, wide) {
  const flows = step.served > 0;
  const over = step.remains - step.served > 0 && step.next;
  mark(view.pipe, 'd', `M${step.outlet} ${step.bed}h${Math.max(3, step.served)}V${height}h-${Math.max(3, step.served)}Z`);
  mark(view.served, 'd', servedPath(step, height));
  mark(view.servedLine, 'd', servedLine(step, height));
  mark(view.overflow, 'd', overflowPath(step));
  mark(view.overLine, 'd', overflowLine(step));
  mark(view.served, 'data-dry', flows ? null : 'yes');
  mark(view.servedLine, 'data-dry', flows && step.served > 5 ? null : 'yes');
  mark(view.overflow, 'data-dry', over ? null : 'yes');
  mark(view.overLine, 'data-dry', over && step.remains - step.served > 5 ? null : 'yes');
  const x = step.outlet + Math.max(3, step.served) + 12;
  if (!wide) {
    mark(view.name, 'x', step.outlet + Math.max(3, step.served) + 6);
    mark(view.name, 'y', height - 10);
    say(view.name, stage.id === 'last' ? 'last' : stage.id === 'refused' ? '429' : String(stage.id));
    return;
  }
  const y = step.bed + 28;
  for (const [text, dy] of [[view.name, 0], [view.rate, 27], [view.open, 47]]) {
    mark(text, 'x', x);
    mark(text, 'y', y + dy);
  }
  say(view.name, stage.name);
  say(view.number, perSecond(stage.perSecond));
  say(view.unit, stage.share === null ? '/s' : `/s  ${percent(stage.share)}`);
  say(view.open, membersText(stage));
}

choice.addEventListener('change', () => lastModel && showFlow(lastModel));
new ResizeObserver(() => lastModel && showFlow(lastModel)).observe(canvas);
