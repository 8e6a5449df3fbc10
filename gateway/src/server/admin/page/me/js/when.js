// Points in time as people read them: days in UTC, as the gateway counts them, and distances from now.

const DAY_MS = 86_400_000;
const dayOnly = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric', timeZone: 'UTC' });
const shortDay = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });
const minuteTime = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', timeZone: 'UTC' });

// Milliseconds since 1970 everywhere.
function momentOf(ms) {
  return ms % DAY_MS === 0 ? `on ${dayOnly.format(ms)}` : `on ${minuteTime.format(ms)} UTC`;
}

function daysUntil(ms, now) {
  return Math.ceil((ms - now) / DAY_MS);
}

function inDays(ms, now) {
  const days = daysUntil(ms, now);
  if (ms <= now) return 'over';
  return ms - now < DAY_MS ? `in ${duration(Math.max(60_000, ms - now)).split(' ').slice(0, 2).join(' ')}` : `in ${plural(days, 'day')}`;
}

function ago(ms, now) {
  const past = now - ms;
  if (past < 90_000) return 'just now';
  if (past < DAY_MS) return `${duration(past).split(' ').slice(0, 2).join(' ')} ago`;
  return `${plural(Math.floor(past / DAY_MS), 'day')} ago`;
}

// The last `days` days up to `now`, as the ledger names them.
function lastDays(now, days) {
  const today = Math.floor(now / DAY_MS);
  return Array.from({ length: days }, (_, at) => new Date((today - days + 1 + at) * DAY_MS).toISOString().slice(0, 10));
}

function dayLabel(day) {
  return shortDay.format(Date.parse(day));
}
