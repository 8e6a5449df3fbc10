// The meaning of member states and attempt outcomes.

// The kind picks glyph and colour; the word itself is always shown beside them.
const STATES = {
  'ready': { kind: 'open', meaning: '' },
  'half-open': { kind: 'half', meaning: 'The next request is its only probe, or that probe is in flight.' },
  'throttled': { kind: 'wait', meaning: 'It answered 429, or its headers say that nothing is left.' },
  'quota-pool': { kind: 'wait', meaning: 'Another member of its quota pool answered 429.' },
  'busy': { kind: 'wait', meaning: 'All its slots are taken.' },
  'out-of-quota': { kind: 'broken', meaning: "The account's quota or spend limit is used up." },
  'tripped': { kind: 'broken', meaning: 'Repeated failures opened its circuit.' },
  'misconfigured': { kind: 'broken', meaning: "It refuses our credentials or doesn't know the deployment." },
  'unhealthy': { kind: 'broken', meaning: 'Its health check fails.' },
  'unresolved': { kind: 'broken', meaning: 'Its host name has no address.' },
  'no-token': { kind: 'broken', meaning: 'Its identity has no valid token.' },
  'drained': { kind: 'out', meaning: 'Taken out by an operator.' },
};

function stateOf(word) {
  return STATES[word] ?? { kind: 'broken', meaning: '' };
}

function isOut(member) {
  return !['open', 'half'].includes(stateOf(member.state).kind);
}

// Whether it takes new requests now: one with weight 0 isn't out, but gets nothing either.
function isOpen(member) {
  return !isOut(member) && member.weight > 0;
}

const OUTCOMES = {
  ok: 'answered',
  caller_fault: "caller's fault",
  out_of_quota: 'out of quota',
  connect: 'no connection',
  tls: 'TLS failed',
  timeout: 'timed out',
  first_token: 'no first token in time',
  idle: 'stopped sending',
  no_credential: 'no credential',
  no_answer: 'success without an answer',
};

function outcomeOf(word) {
  return OUTCOMES[word] ?? word.replaceAll('_', ' ');
}

const LOADED_BY = { start: 'at the start', signal: 'by signal', api: 'by the API', file: 'as the file changed', upgrade: 'by an upgrade' };

function loadedBy(word) {
  return LOADED_BY[word] ?? `by ${word}`;
}
