// Requests to the gateway, with the cookie of the session. What changes something has the session's CSRF token.

const api = {
  csrf: null,

  // Paths are relative, so that a proxy may put the page below a prefix.
  async fetch(path, options = {}) {
    const response = await reached(fetch(path, { ...options, cache: 'no-store', credentials: 'same-origin' }));
    if (response.status === 401) throw new Refused(await messageOf(response));
    if (!response.ok) throw new Error(await messageOf(response));
    return response;
  },

  // Asks who is signed in. This also says that somebody is there, which asking for what is theirs doesn't.
  async identify() {
    this.csrf = (await (await this.fetch('api/session?present=true')).json()).csrf ?? null;
  },

  async me() {
    if (this.csrf === null) await this.identify();
    return (await this.fetch('api/me')).json();
  },

  async change(method, path, body) {
    const headers = { 'x-spillway-admin': '1', 'x-spillway-csrf': this.csrf ?? '' };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await this.fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await response.text();
    return text ? JSON.parse(text) : {};
  },
};
