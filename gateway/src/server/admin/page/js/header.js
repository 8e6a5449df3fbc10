// The gateway's name, its state in one sentence, and the most important numbers.

const figures = [
  { name: 'Requests/s', of: (model) => perSecond(model.perSecond), note: (model) => `${count(model.status.totals.requests)} since the start` },
  { name: 'In flight', of: (model) => count(model.status.in_flight), note: (model) => plural(model.status.connections, 'connection') },
  {
    name: '429s callers saw',
    of: (model) => count(model.status.totals.visible_429),
    note: (model) => grown(model.lastMinute.refused),
    kind: (model) => (model.lastMinute.refused ? 'bad' : null),
  },
  { name: 'Failovers', of: (model) => count(model.status.totals.failovers), note: (model) => grown(model.lastMinute.failovers) },
  { name: 'Last-resort answers', of: (model) => count(model.status.totals.last_resort), note: (model) => grown(model.lastMinute.lastResort) },
  { name: 'Uptime', of: (model) => duration(model.status.now - model.status.started), note: (model) => `since ${atClock(model.status.started)}` },
];

const figureViews = figures.map((figure) => {
  const value = el('dd');
  const note = el('dd', { 'class': 'quiet' });
  byId('stats').append(el('div', {}, el('dt', {}, figure.name), value, note));
  return { figure, value, note };
});

// The page knows only what it has seen: since it was opened, at most a minute.
function grown(amount) {
  return `${amount ? `+${count(amount)}` : 'none'} in the last minute`;
}

function showHeader(model) {
  const { status } = model;
  say(byId('node'), status.node);
  say(byId('version'), `${status.version} · pid ${status.pid}`);
  const ready = status.state === 'ready';
  showState(byId('state'), ready ? 'open' : 'wait');
  say(byId('state-word'), status.state);
  say(byId('verdict'), verdictOf(model));
  for (const { figure, value, note } of figureViews) {
    say(value, figure.of(model));
    say(note, figure.note(model));
    mark(value, 'data-kind', figure.kind?.(model));
  }
  const title = `${ready ? '' : 'stopping: '}${status.node} – Spillway`;
  if (document.title !== title) document.title = title;
}

function showState(node, kind) {
  mark(node, 'data-kind', kind);
  mark(node.querySelector('use'), 'href', `#g-${kind}`);
}

// The worst problem first; there is also a sentence if nothing is wrong.
function verdictOf({ status, pools, members }) {
  if (status.state === 'stopping') return `Stopping: ${plural(status.in_flight, 'request')} in flight may finish.`;
  const real = (pool) => pool.tiers.filter((tier) => !tier.isLastResort);
  const dry = pools.filter((pool) => real(pool).every((tier) => tier.open === 0));
  const unanswered = dry.filter((pool) => !pool.tiers.some((tier) => tier.isLastResort && tier.open));
  if (unanswered.length) return `${named(unanswered)} ${unanswered.length === 1 ? 'has' : 'have'} no open member: callers are refused.`;
  if (dry.length) return `${named(dry)} ${dry.length === 1 ? 'answers' : 'answer'} from the last resort only.`;
  const out = members.filter(isOut);
  const over = pools.filter((pool) => real(pool)[0]?.open === 0);
  if (over.length) return `Tier 1 is closed in ${listed(over.map((pool) => pool.name), 3)}; requests flow over to the next tier.`;
  const state = out.length ? `${count(out.length)} of ${plural(members.length, 'member')} ${out.length === 1 ? 'is' : 'are'} out` : 'Every member is open';
  return `${state}; ${spillOf(pools)}.`;
}

// Tier 1 can be open and still not serve everything.
function spillOf(pools) {
  const total = sum(pools.map((pool) => pool.perSecond));
  const first = sum(pools.map((pool) => pool.tiers[0]?.perSecond ?? null));
  if (!total || total < 0.05) return 'every first tier is open';
  const spills = 1 - (first ?? 0) / total;
  return spills < 0.005 ? 'tier 1 serves everything' : `${percent(spills)} of requests flow over from tier 1`;
}

function named(pools) {
  return `${pools.length === 1 ? 'Pool' : 'Pools'} ${listed(pools.map((pool) => pool.name), 4)}`;
}
