// The keys of a consumer: a table, and the dialogs that make, rotate and revoke one.

const SOON_DAYS = 14;
const GRACES = [['0s', 'at once'], ['1h', 'for an hour'], ['1d', 'for a day'], ['7d', 'for 7 days']];

// What is wrong with a key, if anything; the kind picks glyph and colour.
function keyState(key, now) {
  if (key.revoked !== null) return { kind: 'out', word: 'revoked', note: `${ago(key.revoked * 1000, now)}` };
  if (key.expires !== null && key.expires * 1000 <= now) return { kind: 'out', word: 'expired', note: `${ago(key.expires * 1000, now)}` };
  if (key.not_before !== null && key.not_before * 1000 > now) return { kind: 'wait', word: 'not yet valid', note: `from ${dayOnly.format(key.not_before * 1000)}` };
  if (key.expires === null) return { kind: 'open', word: 'valid', note: 'never expires' };
  if (key.replaced) return { kind: 'wait', word: 'replaced', note: `ends ${momentOf(key.expires * 1000)}` };
  const soon = daysUntil(key.expires * 1000, now) <= SOON_DAYS;
  return { kind: soon ? 'wait' : 'open', word: soon ? 'expires soon' : 'valid', note: `until ${dayOnly.format(key.expires * 1000)}, ${inDays(key.expires * 1000, now)}` };
}

const isOver = (key, now) => ['revoked', 'expired'].includes(keyState(key, now).word);

const keyName = (key) => key.label || key.hint || key.id;

function makeKeyRow() {
  const name = el('span', { 'class': 'name' });
  const hint = el('span', { 'class': 'quiet mono' });
  const word = el('b');
  const state = el('span', { 'class': 'mark' }, glyph(), word);
  const note = el('span', { 'class': 'why' });
  const made = el('td', { 'data-label': 'Made' });
  const used = el('td', { 'data-label': 'Last used at this node' });
  const models = el('td', { 'data-label': 'Models' });
  const rotate = el('button', { type: 'button' }, 'Rotate…');
  const revoke = el('button', { type: 'button' }, 'Revoke…');
  const fixed = el('span', { 'class': 'quiet' }, 'in the config');
  const node = el('tr', {}, el('th', { scope: 'row' }, name, hint), el('td', { 'class': 'key-state' }, state, note), made, used, models, el('td', { 'class': 'actions' }, rotate, revoke, fixed));
  const view = { node, name, hint, word, state, note, made, used, models, rotate, revoke, fixed, key: null, consumer: null };
  rotate.addEventListener('click', () => askRotate(view.consumer, view.key));
  revoke.addEventListener('click', () => askRevoke(view.consumer, view.key));
  return view;
}

function updateKeyRow(view, key, consumer, now) {
  Object.assign(view, { key, consumer });
  const state = keyState(key, now);
  const over = isOver(key, now);
  say(view.name, key.label ?? 'No label');
  mark(view.name, 'data-empty', key.label === null);
  say(view.hint, key.hint ?? key.id);
  mark(view.state, 'data-kind', state.kind);
  mark(view.state.querySelector('use'), 'href', `#g-${state.kind}`);
  say(view.word, state.word);
  say(view.note, state.note);
  say(view.made, key.created === null ? NONE : dayOnly.format(key.created * 1000));
  say(view.used, key.last_use === null ? 'not since the start' : ago(key.last_use * 1000, now));
  say(view.models, key.models === null ? 'all' : listed(key.models, 3));
  const issued = key.source === 'issued';
  show(view.rotate, issued && !over && !key.replaced);
  show(view.revoke, issued && !over);
  show(view.fixed, !issued);
  mark(view.rotate, 'aria-label', `Rotate ${keyName(key)}`);
  mark(view.revoke, 'aria-label', `Revoke ${keyName(key)}`);
}

function keyTable(caption) {
  const heads = ['Key', 'State', 'Made', 'Last used at this node', 'Models', ''];
  const rows = el('tbody');
  const last = heads.length - 1;
  const cells = heads.map((text, at) => (at === last ? el('td') : el('th', { scope: 'col' }, text)));
  const table = el('table', { 'class': 'keys' }, el('caption', { 'class': 'unseen' }, caption), el('thead', {}, el('tr', {}, ...cells)), rows);
  return { table, rows };
}

function makeKeys(name) {
  const now = keyTable(`Keys of ${name}`);
  const past = keyTable(`Keys of ${name} that are over`);
  const room = el('p', { 'class': 'quiet' });
  const make = el('button', { type: 'button', 'class': 'strong tool', 'aria-label': `Make a key for ${name}` }, 'Make a key…');
  const none = el('p', { 'class': 'empty' });
  const summary = el('summary');
  const over = el('details', {}, summary, past.table);
  const node = el('div', { 'class': 'key-list' }, el('div', { 'class': 'head small' }, el('h3', {}, 'Keys'), room, make), none, now.table, over);
  const view = { node, now, past, room, make, none, summary, over, consumer: null };
  make.addEventListener('click', () => askMake(view.consumer));
  return view;
}

function showKeys(view, consumer, now) {
  view.consumer = consumer;
  const { making } = consumer;
  const [past, valid] = [consumer.keys.filter((key) => isOver(key, now)), consumer.keys.filter((key) => !isOver(key, now))];
  const full = making.possible && making.valid >= making.max;
  const tooMany = making.valid - making.max + 1;
  const why = making.possible ? (full ? `Revoke ${tooMany === 1 ? 'one' : count(tooMany)} to make another.` : '') : making.why;
  // Administrators may have made more than owners may.
  const number = making.valid > making.max ? `${plural(making.valid, 'valid key')}; owners may make up to ${count(making.max)}.` : `${count(making.valid)} of at most ${plural(making.max, 'key')}.`;
  say(view.room, [making.possible ? number : '', why].filter(Boolean).join(' '));
  show(view.make, making.possible && !full);
  show(view.none, valid.length === 0);
  say(view.none, making.possible ? 'No key is valid. Make one to call the gateway.' : 'There is no key.');
  show(view.now.table, valid.length > 0);
  show(view.over, past.length > 0);
  say(view.summary, past.length === 1 ? 'One key is over' : `${count(past.length)} keys are over`);
  for (const [rows, keys] of [[view.now.rows, valid], [view.past.rows, past]]) {
    keep(rows, keys, (key) => key.id, makeKeyRow, (row, key) => updateKeyRow(row, key, consumer, now));
  }
}

function askRevoke(consumer, key) {
  const used = key.last_use === null ? 'It has not been used at this node since the node started.' : `It was last used at this node ${ago(key.last_use * 1000, page.now)}.`;
  ask({
    title: `Revoke ${keyName(key)}?`,
    text: [`Requests with this key of ${consumer.name} are refused from now on. ${used}`, 'This can\'t be undone.'],
    yes: 'Revoke',
    doing: 'Revoking…',
    run: async () => {
      await api.change('DELETE', `api/me/keys/${encodeURIComponent(key.id)}`);
      await page.refresh();
      return `${keyName(key)} is revoked.`;
    },
  });
}

function askRotate(consumer, key) {
  const grace = el('select', { id: 'ask-grace' }, ...GRACES.map(([value, text]) => el('option', { value }, text)));
  grace.value = '1d';
  ask({
    title: `Rotate ${keyName(key)}?`,
    text: [`A new key of ${consumer.name} takes its place, with the same label, models and lifetime. The old key stays valid for the time that you need to replace it.`],
    more: [el('label', { 'for': 'ask-grace' }, 'The old key works'), grace],
    yes: 'Rotate',
    doing: 'Rotating…',
    run: async () => {
      const made = await api.change('POST', `api/me/keys/${encodeURIComponent(key.id)}/rotate`, { grace: grace.value });
      await page.refresh();
      showMade(consumer, key.label, made);
      return '';
    },
  });
}
