// The limits of which the greatest part is used. The page asks for them every few seconds; the search asks for others. They are the last
// section, so that what comes and goes here moves nothing.

const LIMITS_MOST = 25;
const LIMITS_AGAIN_MS = 10_000;
const limitBox = byId('limit');
let limitsAsked = -Infinity;
let limitsTimer = 0;
let limitsShown = null;

// As they are: names like `tokens_per_minute` need no list here.
function limitName(row) {
  const name = row.limit.replaceAll('_', ' ');
  return row.period ? `${name} per ${row.period}` : name;
}

function limitAmount(row, value) {
  return row.limit === 'budget' ? dollars(value) : count(value);
}

function makeLimit() {
  const view = {
    whose: el('span', { 'class': 'name' }), group: el('span', { 'class': 'quiet' }), limit: el('span'), again: el('span', { 'class': 'quiet' }),
    used: el('span'), level: el('i'), left: el('span'), kept: el('span', { 'class': 'quiet' }), guaranteed: el('span'),
  };
  const number = (name, ...children) => el('td', { role: 'cell', 'class': 'number', 'data-label': name }, ...children);
  view.node = el('tr', { role: 'row' }, el('th', { role: 'rowheader', scope: 'row' }, view.whose, view.group), el('td', { role: 'cell' }, view.limit, view.again),
    number('Used', view.used, el('span', { 'class': 'gauge', 'aria-hidden': 'true' }, view.level)),
    number('Left', view.left, view.kept), number('Guaranteed', view.guaranteed));
  return view;
}

function updateLimit(view, row) {
  say(view.whose, row.scope);
  say(view.group, [row.parent && `in ${row.parent}`, row.shadow && 'only counted, refuses nothing'].filter(Boolean).join(' · '));
  say(view.limit, `${limitAmount(row, row.amount)} ${limitName(row)}`);
  say(view.again, row.starts_again ? `starts again in ${countdown(Date.parse(row.starts_again) - Date.now())}` : '');
  say(view.used, `${limitAmount(row, row.used)} (${percent(row.share)})`);
  const level = `${Math.min(100, Math.round(row.share * 100))}%`;
  if (view.level.style.width !== level) view.level.style.width = level;
  say(view.left, limitAmount(row, row.left));
  say(view.kept, row.kept_for_others ? `of it ${limitAmount(row, row.kept_for_others)} for guarantees below` : '');
  say(view.guaranteed, row.guaranteed === null ? NONE : limitAmount(row, row.guaranteed));
}

function renderLimits() {
  const { rows, count: all, text } = limitsShown;
  show(byId('limits-region'), rows.length > 0);
  show(byId('limits-empty'), rows.length === 0);
  say(byId('limits-empty'), text ? `Nobody with “${text}” in their name has a limit.` : 'The config has no limits, or none has been used since the start.');
  const some = rows.length < all ? `${count(rows.length)} of ${count(all)}, the fullest first` : plural(all, 'limit');
  say(byId('limits-count'), text ? `${some}, with “${text}” in the name` : some);
  keep(byId('limits-rows'), rows, (row) => [row.scope, row.limit, row.period, row.time_zone].join('\u0001'), makeLimit, updateLimit);
}

async function askLimits() {
  clearTimeout(limitsTimer);
  limitsAsked = Date.now();
  const text = limitBox.value.trim();
  try {
    const answer = await gateway.fetch(`api/limits?rows=${LIMITS_MOST}${text ? `&search=${encodeURIComponent(text)}` : ''}`);
    const shown = await answer.json();
    if (limitBox.value.trim() !== text) return;
    limitsShown = { ...shown, text };
    renderLimits();
  } catch (error) {
    // The stream reports what concerns the page as a whole.
    if (error instanceof Refused) page.refused();
    else say(byId('limits-count'), `The limits can't be read. ${error.message}`);
  }
}

// Called with each status.
function showLimits() {
  if (Date.now() - limitsAsked >= LIMITS_AGAIN_MS) askLimits();
}

limitBox.addEventListener('input', () => {
  clearTimeout(limitsTimer);
  limitsTimer = setTimeout(askLimits, SEARCH_PAUSE_MS);
});
watchScroll(byId('limits-region'));
