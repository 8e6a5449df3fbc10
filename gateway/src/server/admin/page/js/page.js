// Connects the parts: shows what arrives, and marks old data as stale.

const STALE_MS = 5000;

const link = { word: 'connecting', arrived: null, problem: null, retryAt: null };

const page = {
  latest: null,
  refusedText: 'You are no longer signed in.',
  // Whether the last status was shown to a person who had signed in.
  forPerson: false,

  status(status) {
    Object.assign(link, { word: 'live', arrived: Date.now(), problem: null, retryAt: null });
    this.latest = modelOf(status);
    this.forPerson = gateway.who?.actor === 'person';
    if (!document.hidden) this.render();
    showLink();
    if (this.forPerson) resume(this.latest);
  },

  render() {
    if (!this.latest) return;
    show(byId('lock'), false);
    show(byId('content'), true);
    const { status } = this.latest;
    showHeader(this.latest);
    showFlow(this.latest);
    showPools(this.latest);
    showConsumers(status);
    showLimits();
    showFailovers(status);
    showConfig(status);
  },

  // After a change: don't wait for the next event.
  async refresh() {
    try {
      this.status(await gateway.status());
    } catch {
      // The stream reports the error.
    }
  },

  connecting() {
    Object.assign(link, { word: link.arrived ? 'reconnecting' : 'connecting', retryAt: null });
    showLink();
  },

  lost(problem, retryAt) {
    Object.assign(link, { word: 'disconnected', problem, retryAt });
    showLink();
  },

  identified() {
    showWho();
  },

  // Nothing that was shown before may stay for somebody who isn't known.
  async refused() {
    feed.stop();
    const before = { token: gateway.token !== null, person: this.forPerson };
    this.forPerson = false;
    gateway.forget();
    // How to sign in. Without an answer the page asks for the token.
    await gateway.identify().catch(() => { gateway.who = null; });
    if (before.token) this.lock('The gateway refused this token.');
    else this.lock(before.person ? 'Your session has ended. Sign in again.' : '');
  },

  // Somebody who is known may not see this page.
  denied(message) {
    feed.stop();
    say(byId('denied-why'), `${message.charAt(0).toUpperCase()}${message.slice(1)}.`);
    this.lock('');
  },

  lock(problem) {
    this.latest = null;
    const words = gateway.who?.role ? 'not allowed' : gateway.who?.sign_in ? 'not signed in' : 'needs the admin token';
    Object.assign(link, { word: words, arrived: null, problem: null, retryAt: null });
    show(byId('content'), false);
    showLock(problem);
    showWho();
    say(byId('node'), NONE);
    say(byId('version'), '');
    showState(byId('state'), 'out');
    say(byId('state-word'), 'no data yet');
    document.title = 'Spillway';
    showLink();
    focusLock();
  },
};

const feed = new Feed(page);

function showLink() {
  say(byId('link-word'), link.word);
  const age = link.arrived === null ? null : Date.now() - link.arrived;
  const stale = age !== null && age > STALE_MS;
  const waits = link.retryAt !== null && link.retryAt > Date.now();
  say(byId('link-age'), waits ? `, next try in ${countdown(link.retryAt - Date.now())}` : '');
  show(byId('retry'), waits);
  show(byId('stale'), stale || link.problem !== null);
  mark(document.documentElement, 'data-stale', stale ? 'yes' : null);
  if (stale && page.latest) {
    showState(byId('state'), 'out');
    say(byId('state-word'), `was ${page.latest.status.state}`);
  }
  if (stale) say(byId('stale-text'), `What you see is ${duration(age)} old. ${link.problem ?? 'The gateway has sent nothing since.'}`);
  else if (link.problem !== null) say(byId('stale-text'), `${link.problem}${link.arrived ? '' : ' There is nothing to show yet.'}`);
}

byId('retry').addEventListener('click', () => feed.retryNow());
addEventListener('online', () => feed.retryNow());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) page.render();
});
setInterval(() => {
  if (document.hidden) return;
  tickPools();
  showLink();
}, 1000);
feed.start();
