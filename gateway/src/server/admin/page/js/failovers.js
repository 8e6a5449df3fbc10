// Requests that moved from one member to another, and why.

const FEW = 8;
let allFailovers = false;
let lastFailovers = null;

function showFailovers(status) {
  lastFailovers = status;
  const all = status.failovers;
  const shown = allFailovers ? all : all.slice(0, FEW);
  keep(byId('failovers'), shown, (failover) => failover.id, makeFailover, () => {});
  say(byId('failovers-count'), all.length ? `${plural(status.totals.failovers, 'request')} moved since the start` : '');
  show(byId('failovers-empty'), all.length === 0);
  const more = byId('failovers-more');
  show(more, all.length > FEW);
  say(more, allFailovers ? 'Show fewer' : `Show ${count(all.length - FEW)} more`);
  mark(more, 'aria-expanded', String(allFailovers));
}

// A listed failover doesn't change any more, so it is drawn once.
function makeFailover(failover) {
  const path = el('span', { 'class': 'path' });
  for (const move of failover.moves) {
    path.append(el('span', { 'class': 'step' }, el('span', { 'class': 'name' }, move.deployment ? `${move.backend} / ${move.deployment}` : move.backend),
      ' ', el('span', { 'class': 'reason' }, reasonOf(move))), el('span', { 'class': 'arrow', 'aria-hidden': 'true' }, ' → '));
  }
  path.append(failover.served_by
    ? el('span', { 'class': 'step' }, el('span', { 'class': 'name' }, failover.served_by), ' ', el('span', { 'class': failover.status < 400 ? 'fine' : 'reason' }, `${failover.status < 400 ? 'served' : 'answered'} ${failover.status}`))
    : el('span', { 'class': 'step' }, el('span', { 'class': 'reason' }, `no member left: the caller got ${failover.status}`)));
  const about = [failover.consumer ?? 'unnamed caller', failover.model, `pool ${failover.pool}`].join(' · ');
  return {
    node: el('li', {}, el('time', { datetime: new Date(failover.at).toISOString() }, atClock(failover.at)), path,
      el('span', { 'class': 'quiet about' }, about, ' · ', el('span', { 'class': 'mono' }, failover.id))),
  };
}

function reasonOf(move) {
  const outcome = outcomeOf(move.outcome);
  return move.status ? `${outcome}, ${move.status}` : outcome;
}

byId('failovers-more').addEventListener('click', () => {
  allFailovers = !allFailovers;
  if (lastFailovers) showFailovers(lastFailovers);
});
