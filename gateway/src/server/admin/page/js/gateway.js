// Requests to the gateway: who sends them, plain requests, and the stream of events.

const TOKEN = 'spillway-admin-token';
const SILENCE_MS = 10_000;
const LONGEST_WAIT_MS = 15_000;

// Somebody who is known may not do this.
class Denied extends Error {}

const gateway = {
  token: sessionStorage.getItem(TOKEN),
  // Who sends requests, as the gateway sees it; null until it has answered.
  who: null,

  remember(token) {
    this.token = token;
    sessionStorage.setItem(TOKEN, token);
  },

  forget() {
    this.token = null;
    sessionStorage.removeItem(TOKEN);
  },

  // Paths are relative, so that a proxy may put the page below a prefix.
  async fetch(path, options = {}) {
    const headers = { ...options.headers };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    const response = await reached(fetch(path, { ...options, headers, cache: 'no-store', credentials: 'same-origin' }));
    if (response.status === 401) throw new Refused(await messageOf(response));
    if (response.status === 403) {
      const { message, code } = await problemOf(response);
      throw code === 'fresh_sign_in' ? new NotFresh(message) : new Denied(message);
    }
    if (!response.ok) throw new Error(await messageOf(response));
    return response;
  },

  async status(consumer) {
    const response = await this.fetch(consumer ? `api/status?consumer=${encodeURIComponent(consumer)}` : 'api/status');
    return response.json();
  },

  // Asks who sends requests. `present` says that somebody is there, which a session needs to go on.
  async identify(present = false) {
    this.who = await (await this.fetch(present ? 'api/session?present=true' : 'api/session')).json();
  },

  async change(path) {
    const headers = { 'x-spillway-admin': '1' };
    if (this.who?.csrf) headers['x-spillway-csrf'] = this.who.csrf;
    const response = await this.fetch(path, { method: 'POST', headers });
    const text = await response.text();
    try {
      return JSON.parse(text);
    } catch {
      return {};
    }
  },
};

// Events as they arrive; comment lines keep the stream alive and are dropped.
async function* events(body, alive) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let event = { name: 'message', data: [] };
  for (;;) {
    const { done, value } = await reached(reader.read());
    if (done) return;
    alive();
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (event.data.length) yield { name: event.name, data: event.data.join('\n') };
        event = { name: 'message', data: [] };
      } else if (line.startsWith('event:')) {
        event.name = line.slice(6).trim();
      } else if (line.startsWith('data:')) {
        event.data.push(line.slice(line.charAt(5) === ' ' ? 6 : 5));
      }
    }
  }
}

// Follows /api/events until stopped; reconnects with growing pauses.
class Feed {
  #on;
  #abort = null;
  #wake = null;
  #generation = 0;

  constructor(on) {
    this.#on = on;
  }

  stop() {
    this.#generation += 1;
    this.#abort?.abort();
    this.#wake?.();
  }

  retryNow() {
    this.#wake?.();
  }

  async start() {
    this.stop();
    const generation = this.#generation;
    const current = () => generation === this.#generation;
    for (let failures = 0; current(); failures += 1) {
      try {
        this.#on.connecting();
        await this.#follow((status) => {
          failures = 0;
          if (current()) this.#on.status(status);
        });
        throw new Error('The gateway closed the stream.');
      } catch (error) {
        if (!current()) return;
        if (error instanceof Refused) {
          this.#on.refused();
          return;
        }
        if (error instanceof Denied && gateway.who?.role) {
          this.#on.denied(error.message);
          return;
        }
        const pause = Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
        this.#on.lost(error.message, Date.now() + pause);
        await this.#pause(pause);
      }
    }
  }

  async #follow(tell) {
    const abort = new AbortController();
    this.#abort = abort;
    let silence;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    alive();
    try {
      // Again for each stream: meanwhile somebody else may have signed in.
      await gateway.identify();
      this.#on.identified();
      const response = await gateway.fetch('api/events', { signal: abort.signal, headers: { accept: 'text/event-stream' } });
      for await (const event of events(response.body, alive)) {
        if (event.name === 'status') tell(JSON.parse(event.data));
      }
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
