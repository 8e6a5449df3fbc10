// Connects the parts: shows what arrives, and marks old data as stale.

const STALE_MS = 5000;

const link = { word: 'connecting', arrived: null, problem: null, retryAt: null };

const page = {
  latest: null,
  refusedText: 'The gateway asks for its admin token.',

  status(status) {
    Object.assign(link, { word: 'live', arrived: Date.now(), problem: null, retryAt: null });
    this.latest = modelOf(status);
    if (!document.hidden) this.render();
    showLink();
  },

  render() {
    if (!this.latest) return;
    show(byId('lock'), false);
    show(byId('content'), true);
    show(byId('forget'), gateway.token !== null);
    const { status } = this.latest;
    showHeader(this.latest);
    showFlow(this.latest);
    showPools(this.latest);
    showConsumers(status);
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

  // Without a valid token nothing that was shown before may stay.
  refused() {
    feed.stop();
    const wrong = gateway.token !== null;
    gateway.forget();
    this.lock(wrong ? 'The gateway refused this token.' : '');
  },

  lock(problem) {
    this.latest = null;
    Object.assign(link, { word: 'needs the admin token', arrived: null, problem: null, retryAt: null });
    show(byId('content'), false);
    show(byId('forget'), false);
    show(byId('lock'), true);
    say(byId('lock-problem'), problem);
    say(byId('node'), NONE);
    say(byId('version'), '');
    showState(byId('state'), 'out');
    say(byId('state-word'), 'no data yet');
    document.title = 'Spillway';
    showLink();
    byId('token').focus();
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

byId('lock').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = byId('token').value.trim();
  byId('token').value = '';
  if (!/^[\x21-\x7e]+$/.test(token)) {
    say(byId('lock-problem'), 'A token has only printable ASCII characters, without spaces.');
    return;
  }
  say(byId('lock-problem'), '');
  gateway.remember(token);
  feed.start();
});
byId('forget').addEventListener('click', () => {
  feed.stop();
  gateway.forget();
  // Reloaded, so that nothing that was shown stays in the page.
  location.reload();
});
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
