// What the scripts share: where to ask, and what.

const base = __ENV.URL || 'http://127.0.0.1:8080';
const model = __ENV.MODEL || 'gpt-4o';

export function url(path) {
  return base + path;
}

export function headers() {
  const all = { 'Content-Type': 'application/json' };
  if (__ENV.KEY) all['api-key'] = __ENV.KEY;
  return { headers: all };
}

export function body(stream) {
  return JSON.stringify({
    model,
    stream,
    max_tokens: 60,
    messages: [{ role: 'user', content: 'What is a spillway, and why would a dam have one?' }],
  });
}
