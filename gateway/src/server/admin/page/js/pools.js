// Pools by tier, with the live state of each member.

const COLUMNS = ['Member', 'State', 'Req/s', 'In flight', 'First token', 'Headroom', 'Served', '429', 'Failed', 'Actions'];
const onlyOut = byId('only-out');
const closed = new Map();
let poolModel = null;

function showPools(model) {
  poolModel = model;
  const out = model.members.filter(isOut);
  say(byId('pools-count'), `${plural(model.members.length, 'member')} in ${plural(model.pools.length, 'pool')}, ${out.length ? count(out.length) : 'none'} out`);
  keep(byId('pools'), model.pools, (pool) => pool.name, makePool, updatePool);
  mark(byId('pools'), 'class', model.pools.length > 8 ? 'many' : null);
  show(byId('pools-empty'), onlyOut.checked && out.length === 0);
  for (const key of closed.keys()) {
    if (!model.members.some((member) => member.key === key)) closed.delete(key);
  }
}

function makePool(pool) {
  const view = { name: el('h3'), about: el('p', { 'class': 'quiet' }) };
  view.table = el('table', { role: 'table', 'class': 'members' },
    el('caption', { 'class': 'unseen' }, `Members of pool ${pool.name}`),
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...COLUMNS.map((name) => el('th', { role: 'columnheader', scope: 'col', 'class': name === 'Actions' && 'act' }, name)))));
  view.region = el('div', { 'class': 'scroll', role: 'group', 'aria-label': `Members of pool ${pool.name}` }, view.table);
  view.node = el('article', { 'class': 'pool' }, el('header', {}, view.name, view.about), view.region);
  view.bodies = new Map();
  watchScroll(view.region);
  return view;
}

function updatePool(view, pool) {
  say(view.name, pool.name);
  const lastResort = pool.last_resort ? `last resort ${pool.last_resort}` : 'no last resort';
  say(view.about, `${listed(pool.models, 5)} · ${pool.policy} · ${lastResort}`);
  mark(view.about, 'title', pool.models.length > 5 ? pool.models.join(', ') : null);
  keepTiers(view, pool);
  show(view.node, !onlyOut.checked || view.node.contains(document.activeElement)
    || pool.tiers.some((tier) => tier.members.some(isOut)));
}

// Each tier is a body of the pool's one table.
function keepTiers(view, pool) {
  const wanted = new Set(pool.tiers.map((tier) => tier.priority));
  for (const [priority, body] of view.bodies) {
    if (!wanted.has(priority)) {
      body.node.remove();
      view.bodies.delete(priority);
    }
  }
  let before = view.table.tHead;
  for (const tier of pool.tiers) {
    let body = view.bodies.get(tier.priority);
    if (!body) {
      body = makeTier();
      view.bodies.set(tier.priority, body);
    }
    if (before.nextElementSibling !== body.node) before.after(body.node);
    before = body.node;
    updateTier(body, tier, pool);
  }
}

function makeTier() {
  const view = { name: el('span', { 'class': 'water' }), note: el('span', { 'class': 'quiet' }), level: el('i'), rate: el('span', { 'class': 'number' }) };
  view.bar = el('span', { 'class': 'share', 'aria-hidden': 'true' }, view.level);
  view.head = el('tr', { role: 'row', 'class': 'tier' },
    el('th', { role: 'rowheader', scope: 'rowgroup', colspan: COLUMNS.length }, el('span', { 'class': 'line' }, view.name, view.note, view.bar, view.rate)));
  view.node = el('tbody', { role: 'rowgroup' }, view.head);
  view.rows = new Map();
  return view;
}

function updateTier(view, tier, pool) {
  say(view.name, tierName(tier));
  const priority = tier.isLastResort || tier.priority !== tier.rank ? `priority ${tier.priority}, ` : '';
  say(view.note, `${priority}${count(tier.open)} of ${count(tier.members.length)} open`);
  const share = pool.perSecond >= 0.05 ? shareOf(tier.perSecond, pool.perSecond) : null;
  say(view.rate, share === null ? `${perSecond(tier.perSecond)}/s` : `${perSecond(tier.perSecond)}/s · ${percent(share)}`);
  // Through the style object, which a strict content security policy allows, unlike the attribute.
  const level = `${Math.round((share ?? 0) * 1000) / 10}%`;
  if (view.level.style.width !== level) view.level.style.width = level;
  const wanted = new Set(tier.members.map((member) => member.key));
  for (const [key, row] of view.rows) {
    if (!wanted.has(key)) {
      row.node.remove();
      view.rows.delete(key);
    }
  }
  let before = view.head;
  let shown = 0;
  for (const member of tier.members) {
    let row = view.rows.get(member.key);
    if (!row) {
      row = makeMember();
      view.rows.set(member.key, row);
    }
    if (before.nextElementSibling !== row.node) before.after(row.node);
    before = row.node;
    updateMember(row, member, pool);
    if (!row.node.hidden) shown += 1;
  }
  show(view.node, shown > 0);
}

function cell(name, ...children) {
  return el('td', { role: 'cell', 'data-label': name }, ...children);
}

function makeMember() {
  const view = {
    backend: el('span', { 'class': 'name' }), deployment: el('span', { 'class': 'mono' }), place: el('span', { 'class': 'quiet' }),
    state: el('span', { 'class': 'mark' }, glyph(), el('b')), until: el('span', { 'class': 'until' }), why: el('span', { 'class': 'why' }),
    level: el('i'), left: el('span'),
    toggle: el('button', { type: 'button' }), reset: el('button', { type: 'button' }, 'Reset…'),
  };
  view.gauge = el('span', { 'class': 'gauge', 'aria-hidden': 'true' }, view.level);
  view.numbers = COLUMNS.slice(2, 5).concat(COLUMNS.slice(6, 9)).map((name) => cell(name));
  const [rate, flight, first, served, throttled, failed] = view.numbers;
  for (const each of view.numbers) each.className = 'number';
  view.node = el('tr', { role: 'row', 'class': 'member' },
    el('th', { role: 'rowheader', scope: 'row' }, view.backend, view.deployment, view.place),
    el('td', { role: 'cell', 'class': 'status', 'data-label': 'State' }, el('span', { 'class': 'line' }, view.state, view.until), view.why),
    rate, flight, first, el('td', { role: 'cell', 'data-label': 'Headroom', 'class': 'number' }, view.left, view.gauge), served, throttled, failed,
    el('td', { role: 'cell', 'class': 'actions act', 'data-label': 'Actions' }, view.toggle, view.reset));
  view.toggle.addEventListener('click', () => (view.member.state === 'drained' ? askUndrain(view.member) : askDrain(view.member, poolModel)));
  view.reset.addEventListener('click', () => askReset(view.member));
  return view;
}

function updateMember(view, member, pool) {
  view.member = member;
  // A last resort can't be drained, and has no state.
  for (const button of [view.toggle, view.reset]) show(button, member.backend !== pool.last_resort);
  say(view.backend, member.backend);
  say(view.deployment, member.deployment ?? '');
  const models = member.models.length < pool.models.length ? `for ${listed(member.models, 2)}` : null;
  const weight = member.weight === 0 ? 'weight 0: gets no requests' : `weight ${member.weight}`;
  const quota = member.quota_pool ? `quota pool ${member.quota_pool}` : null;
  const tier = member.service_tier ? `service tier ${member.service_tier}` : null;
  const spill = member.spills_to ? `Azure spills over to ${member.spills_to}` : null;
  say(view.place, [member.location, weight, tier, models, quota, spill, fullness(member.ptu)].filter(Boolean).join(' · '));
  const { kind, meaning } = stateOf(member.state);
  showState(view.state, kind);
  say(view.state.lastChild, member.state);
  say(view.why, member.why ?? meaning);
  noteReopening(view, member);
  const { numbers } = view;
  [perSecond(member.perSecond), count(member.in_flight), milliseconds(member.first_token_ms),
    count(member.served_total), count(member.throttled_total), count(member.failed_total)].forEach((text, index) => say(numbers[index], text));
  say(view.left, percent(member.headroom));
  show(view.gauge, member.headroom !== null);
  const level = `${Math.round((member.headroom ?? 0) * 100)}%`;
  if (view.level.style.width !== level) view.level.style.width = level;
  const verb = member.state === 'drained' ? 'Undrain' : 'Drain';
  say(view.toggle, `${verb}…`);
  mark(view.toggle, 'aria-label', `${verb} ${nameOf(member)} in pool ${member.pool}`);
  mark(view.reset, 'aria-label', `Reset ${nameOf(member)} in pool ${member.pool}`);
  show(view.node, !onlyOut.checked || isOut(member) || view.node.contains(document.activeElement));
}

// How full provisioned throughput is, and how much of it was used in the last minute, by the gateway's own account.
function fullness(ptu) {
  if (!ptu) return null;
  if (ptu.utilisation === null) return 'PTU: its rate is not known before its first 429';
  const room = ptu.fill >= 1 && ptu.room_in_ms !== null ? `, room in ${countdown(ptu.room_in_ms)}` : '';
  return `PTU ${percent(ptu.fill)} full, ${percent(ptu.utilisation)} used${room}`;
}

// Two snapshots never agree to the millisecond; the countdown must not jump back and forth for that.
function noteReopening(view, member) {
  if (member.reopens_in_ms === null) {
    closed.delete(member.key);
    say(view.until, '');
    return;
  }
  const at = performance.now() + member.reopens_in_ms;
  const known = closed.get(member.key);
  const until = known && Math.abs(known.until - at) < 1500 ? Math.min(known.until, at) : at;
  const probe = member.failed_probes > 0 ? `, try ${member.failed_probes + 1}` : '';
  closed.set(member.key, { until, probe, node: view.until });
  showCountdown(closed.get(member.key));
}

function showCountdown({ until, probe, node }) {
  const left = until - performance.now();
  say(node, left > 0 ? `opens in ${countdown(left)}${probe}` : `opens now${probe}`);
}

function tickPools() {
  for (const reopening of closed.values()) showCountdown(reopening);
}

onlyOut.addEventListener('change', () => poolModel && showPools(poolModel));
