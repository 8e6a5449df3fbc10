// What is left of each limit: a bar, and always the same in words.

const KINDS = {
  requests_per_minute: { name: () => 'Requests per minute', amount: count },
  tokens_per_minute: { name: () => 'Tokens per minute', amount: count },
  concurrent_requests: { name: () => 'Requests at once', amount: count },
  request_quota: { name: (period) => `Requests per ${period}`, amount: count },
  token_quota: { name: (period) => `Tokens per ${period}`, amount: count },
  budget: { name: (period) => `Budget per ${period}`, amount: dollars },
};

function limitName(limit) {
  return KINDS[limit.kind]?.name(limit.period ?? 'period') ?? limit.kind.replaceAll('_', ' ');
}

function amountOf(limit, value) {
  return (KINDS[limit.kind]?.amount ?? count)(value);
}

// The share that is left; null if only the limit is known.
function shareLeft(limit) {
  if (limit.left === null) return null;
  return limit.limit > 0 ? Math.min(1, limit.left / limit.limit) : 0;
}

function kindOf(share) {
  if (share === null || share >= 0.2) return null;
  return share > 0 ? 'wait' : 'broken';
}

function leftText(limit) {
  const all = amountOf(limit, limit.limit);
  if (limit.left === null) return `${all} for the whole group`;
  return limit.left === 0 ? `none of ${all} left` : `${amountOf(limit, limit.left)} of ${all} left`;
}

// Limits per minute are back within a minute: only longer periods say when.
function againText(limit) {
  const notes = [];
  if (isLong(limit) && limit.resets_at) notes.push(`starts again ${momentOf(limit.resets_at * 1000)}`);
  if (limit.shadow) notes.push('only counted, nothing is refused');
  return notes.join('; ');
}

// Whose the limit is, and whose calendar has its period.
function ownerOf(limit) {
  const of = { model: `only for ${limit.name}`, group: `shared with group ${limit.name}` }[limit.of];
  const zone = limit.time_zone && limit.time_zone !== 'UTC' ? `in ${limit.time_zone.replaceAll('_', ' ')}` : null;
  return [of, zone].filter(Boolean).join(', ');
}

// Long enough that being at its end is news.
const isLong = (limit) => Boolean(limit.period) && limit.period !== 'minute';

const limitKey = (limit) => [limit.of, limit.name, limit.kind, limit.period, limit.time_zone].join('\u0001');

function makeLimit() {
  const name = el('b');
  const whose = el('span', { 'class': 'quiet' });
  const fill = el('i');
  const bar = el('span', { 'class': 'left-bar', 'aria-hidden': 'true' }, fill);
  const text = el('span', { 'class': 'left-text' });
  const again = el('span', { 'class': 'quiet again' });
  const node = el('li', {}, el('span', { 'class': 'left-name' }, name, ' ', whose), bar, el('span', { 'class': 'left-words' }, text, again));
  return { node, name, whose, fill, bar, text, again };
}

function updateLimit(view, limit) {
  const share = shareLeft(limit);
  say(view.name, limitName(limit));
  say(view.whose, ownerOf(limit));
  say(view.text, leftText(limit));
  const again = againText(limit);
  say(view.again, again);
  show(view.again, again !== '');
  mark(view.node, 'data-level', kindOf(share));
  mark(view.bar, 'data-unknown', share === null);
  view.fill.style.width = share === null ? '0' : `${(share * 100).toFixed(1)}%`;
}

function showLeft(card, limits) {
  show(card.left, limits.length > 0);
  show(card.unlimited, limits.length === 0);
  keep(card.left, limits, limitKey, makeLimit, updateLimit);
}
