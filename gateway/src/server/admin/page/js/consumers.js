// Tokens and money by consumer. The stream brings the hundred that used most; the search asks for others.

const SEARCH_PAUSE_MS = 250;
const SEARCH_AGAIN_MS = 5000;
const consumerColumns = [
  { name: 'Consumer', of: (row) => row.consumer, text: (row) => row.consumer, first: 'ascending' },
  { name: 'Requests', of: (row) => row.requests, text: (row) => count(row.requests) },
  { name: 'Input tokens', of: (row) => row.input_tokens, text: (row) => count(row.input_tokens) },
  { name: 'Output tokens', of: (row) => row.output_tokens, text: (row) => count(row.output_tokens) },
  { name: 'All tokens', of: (row) => row.input_tokens + row.output_tokens, text: (row) => count(row.input_tokens + row.output_tokens) },
  { name: 'Cost', of: (row) => row.cost_usd, text: (row) => dollars(row.cost_usd) },
];
const searchBox = byId('consumer');
const sorting = { column: 4, order: 'descending' };
const names = new Intl.Collator('en', { numeric: true });
let usage;
let searched = null;
let searchTimer = 0;

const sortHeads = consumerColumns.map((column, index) => {
  const button = el('button', { type: 'button', 'class': 'sort' }, column.name, el('span', { 'class': 'arrow', 'aria-hidden': 'true' }));
  button.addEventListener('click', () => sortBy(index));
  const head = el('th', { scope: 'col' }, button);
  byId('consumers-head').append(head);
  return head;
});

function sortBy(index) {
  const first = consumerColumns[index].first ?? 'descending';
  const other = first === 'ascending' ? 'descending' : 'ascending';
  sorting.order = sorting.column === index && sorting.order === first ? other : first;
  sorting.column = index;
  renderConsumers();
}

function showConsumers(status) {
  usage = status.consumers;
  if (!searchBox.value.trim()) searched = null;
  renderConsumers();
}

function renderConsumers() {
  const shown = searched ?? usage;
  show(byId('consumers-search'), usage !== null);
  show(byId('consumers-region'), shown !== null && shown.rows.length > 0);
  show(byId('consumers-empty'), shown === null || shown.rows.length === 0);
  say(byId('consumers-count'), countText(shown));
  if (shown === null) say(byId('consumers-empty'), 'Nothing is written down: the gateway has no ledger. Set server.state_dir to have one.');
  else if (searched) say(byId('consumers-empty'), `No consumer's name contains “${searched.text}”.`);
  else say(byId('consumers-empty'), 'No consumer has used anything since midnight UTC.');
  if (!shown) return;
  consumerColumns.forEach((_, index) => mark(sortHeads[index], 'aria-sort', sorting.column === index ? sorting.order : null));
  const rows = [...shown.rows].sort(inOrder);
  keep(byId('consumers-rows'), rows, (row) => row.consumer, makeConsumer, (view, row) => {
    consumerColumns.forEach((column, index) => say(view.cells[index], column.text(row)));
  });
}

function inOrder(a, b) {
  const { of } = consumerColumns[sorting.column];
  const [left, right] = [of(a), of(b)];
  // Unknown values come last, in both sort orders.
  if (left === null || right === null) return Number(left === null) - Number(right === null) || names.compare(a.consumer, b.consumer);
  const order = typeof left === 'string' ? names.compare(left, right) : left - right;
  return (sorting.order === 'ascending' ? order : -order) || names.compare(a.consumer, b.consumer);
}

function makeConsumer() {
  const cells = consumerColumns.map((_, index) => (index ? el('td', { 'class': 'number' }) : el('th', { scope: 'row' })));
  return { cells, node: el('tr', {}, ...cells) };
}

function countText(shown) {
  if (!shown) return '';
  const since = `since ${atClock(shown.since)}`;
  if (searched) return `${count(shown.rows.length)}${shown.rows.length >= 100 ? ' or more' : ''} with “${searched.text}” in their name, ${since}`;
  if (shown.rows.length < shown.count) return `${count(shown.rows.length)} of ${count(shown.count)}, those that used most tokens ${since}`;
  return `${plural(shown.count, 'consumer')}, ${since}`;
}

async function search() {
  clearTimeout(searchTimer);
  const text = searchBox.value.trim();
  if (!text) {
    searched = null;
    renderConsumers();
    return;
  }
  try {
    const status = await gateway.status(text);
    if (searchBox.value.trim() !== text) return;
    searched = { ...(status.consumers ?? { rows: [], since: 0, count: 0 }), text };
    renderConsumers();
  } catch (error) {
    if (error instanceof Refused) page.refused();
    else say(byId('consumers-count'), `The search failed. ${error.message}`);
  }
  if (searchBox.value.trim()) searchTimer = setTimeout(search, SEARCH_AGAIN_MS);
}

searchBox.addEventListener('input', () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(search, SEARCH_PAUSE_MS);
});
watchScroll(byId('consumers-region'));
