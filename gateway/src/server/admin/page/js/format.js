// Numbers and times as people read them. Every function is pure.

const NONE = '–';
const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayTime = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

function count(value) {
  return value === null || value === undefined ? NONE : whole.format(value);
}

function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

function perSecond(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 0.05) return '0';
  return value < 9.95 ? value.toFixed(1) : whole.format(value);
}

function percent(share) {
  if (share === null || share === undefined) return NONE;
  if (share > 0 && share < 0.01) return '<1 %';
  if (share < 1 && share > 0.99) return '>99 %';
  return `${Math.round(share * 100)} %`;
}

function milliseconds(value) {
  if (value === null || value === undefined) return NONE;
  return value < 10_000 ? `${whole.format(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

// An unknown price is an unknown cost, never zero.
function dollars(value) {
  if (value === null || value === undefined) return 'unknown';
  if (value > 0 && value < 0.01) return '<$0.01';
  return `$${value.toLocaleString('en-GB', { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

// The two largest units: `3 d 4 h`, `12 min 5 s`.
function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [[Math.floor(seconds / 86400), 'd'], [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'], [seconds % 60, 's']];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map(([amount, unit]) => `${amount} ${unit}`).join(' ');
}

// A countdown rounds up, so that it never says "0 s" while something is still closed.
function countdown(ms) {
  return duration(Math.ceil(ms / 1000) * 1000);
}

function atClock(ms) {
  const date = new Date(ms);
  return date.toDateString() === new Date().toDateString() ? clockTime.format(date) : dayTime.format(date);
}

function listed(words, most = words.length) {
  if (words.length > most) return `${words.slice(0, most).join(', ')} and ${count(words.length - most)} more`;
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}
