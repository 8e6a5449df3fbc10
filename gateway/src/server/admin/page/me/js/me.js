// Connects the parts: asks who is there and what is theirs, and shows it.

const EVERY_MS = 15_000;

const page = {
  me: null,
  now: 0,
  refusedText: 'Your session is over: sign in again.',

  show(me) {
    this.me = me;
    this.now = me.now * 1000;
    this.only('content');
    show(byId('stale'), false);
    show(byId('who'), true);
    say(byId('who-name'), me.person.name ?? me.person.subject);
    show(byId('status'), me.sees_status);
    if (!me.consumers.length) {
      this.only('nothing');
      showNothing(me);
      return;
    }
    sessionStorage.removeItem(SIGNED_OUT);
    say(byId('verdict'), verdictOf(me, this.now));
    showCards(me, this.now);
    showUse(me);
  },

  only(id) {
    for (const each of ['loading', 'door', 'nothing', 'content']) show(byId(each), each === id);
  },

  async refresh() {
    try {
      this.show(await api.me());
    } catch (error) {
      if (error instanceof Refused) this.refused();
      else this.lost(error.message);
    }
  },

  // Nothing that was shown may stay when the session is over.
  refused() {
    const was = this.me !== null;
    this.me = null;
    api.csrf = null;
    byId('consumers').replaceChildren();
    show(byId('who'), false);
    show(byId('stale'), false);
    this.only('door');
    if (was) announce('failed', this.refusedText);
  },

  lost(message) {
    show(byId('stale'), true);
    say(byId('stale-text'), this.me ? `${message} What you see may be old.` : message);
    if (!this.me) show(byId('loading'), false);
  },
};

function showNothing(me) {
  const contact = me.contact ?? 'your administrator';
  say(byId('nothing-text'), `Ask ${contact}.`);
  say(byId('nothing-code'), [`Please make me an owner of our application at the AI gateway:`, ``, `owners = [${JSON.stringify(me.person.subject)}]   # ${me.person.name ?? ''}`.trimEnd()].join('\n'));
}

// The worst first; there is also a sentence if nothing is wrong.
function verdictOf(me, now) {
  const names = (consumers) => listed(consumers.map((consumer) => consumer.name), 3);
  const isDry = (limit) => isLong(limit) && limit.left === 0 && !limit.shadow;
  const dry = me.consumers.filter((consumer) => consumer.limits.some(isDry));
  if (dry.length === 1) {
    const limit = dry[0].limits.find(isDry);
    const what = { request_quota: 'requests', token_quota: 'tokens', budget: 'budget' }[limit.kind] ?? 'share';
    const model = limit.of === 'model' ? ` for ${limit.name}` : '';
    const period = limit.period === 'day' ? "today's" : `this ${limit.period}'s`;
    return `${dry[0].name} has used up ${period} ${what}${model}. Requests${model} are refused until it starts again ${momentOf(limit.resets_at * 1000)}.`;
  }
  if (dry.length) return `${names(dry)} have used a whole quota or budget: their requests are refused until it starts again.`;
  const soon = me.consumers.flatMap((consumer) => consumer.keys.filter((key) => keyState(key, now).word === 'expires soon').map((key) => ({ consumer, key })));
  soon.sort((a, b) => a.key.expires - b.key.expires);
  if (soon.length) {
    const [{ consumer, key }] = soon;
    const others = soon.length > 1 ? `, and ${plural(soon.length - 1, 'other')} soon after` : '';
    return `The key ${keyName(key)} of ${consumer.name} expires ${inDays(key.expires * 1000, now)}${others}.`;
  }
  const low = me.consumers.filter((consumer) => consumer.limits.some((limit) => isLong(limit) && limit.left !== null && shareLeft(limit) < 0.2));
  if (low.length) return `${names(low)} ${low.length === 1 ? 'is' : 'are'} near the end of a quota or budget.`;
  const keys = me.consumers.flatMap((consumer) => consumer.keys).filter((key) => !isOver(key, now)).length;
  const mine = me.consumers.length === 1 ? `${me.consumers[0].name} is yours` : `${plural(me.consumers.length, 'application')} are yours`;
  return keys ? `${mine}, with ${plural(keys, 'valid key')}.` : `${mine}. Make a key to call the gateway.`;
}

const SIGNED_OUT = 'spillway-signed-out';

byId('sign-out').addEventListener('click', async () => {
  try {
    await api.change('POST', 'sign-out');
    sessionStorage.setItem(SIGNED_OUT, 'yes');
  } catch (error) {
    if (!(error instanceof Refused)) return announce('failed', error.message);
  }
  // Reloaded, so that nothing that was shown stays in the page.
  location.reload();
});
copies(byId('nothing-copy'), byId('nothing-code'));
// A page that is open keeps no session: only somebody who is there does.
// Otherwise single sign-on would undo the sign-out with one click, by anybody at this machine.
if (sessionStorage.getItem(SIGNED_OUT)) byId('sign-in').href += '&again=true';

const PRESENCE_MS = 60_000;
let present = Date.now();

function noticePresence() {
  if (page.me === null || Date.now() - present < PRESENCE_MS) return;
  present = Date.now();
  api.identify(true).catch(() => {});
}

for (const kind of ['pointerdown', 'keydown', 'wheel']) addEventListener(kind, noticePresence, { passive: true });
document.addEventListener('visibilitychange', () => document.hidden || page.refresh());
setInterval(() => document.hidden || page.me === null || page.refresh(), EVERY_MS);
page.refresh();
