// Who looks at the page: signing in and out, the admin token, and what the role allows.

const LOOKS = ['member', 'viewer'];
const PRESENCE_MS = 60_000;
const SIGNED_OUT = 'spillway-signed-out';
let present = 0;

function showWho() {
  const { who } = gateway;
  const person = who?.actor === 'person';
  show(byId('who'), person);
  show(byId('sign-out'), person);
  show(byId('own'), person);
  show(byId('forget'), !person && gateway.token !== null && who?.actor !== null);
  if (person) {
    sessionStorage.removeItem(SIGNED_OUT);
    say(byId('who-name'), who.name);
    say(byId('who-role'), who.role);
    mark(byId('who-name'), 'title', who.subject);
  }
  // The gateway refuses what a role doesn't allow; here it is not even offered.
  mark(document.documentElement, 'data-looks', who?.role && LOOKS.includes(who.role) ? 'yes' : null);
}

// Somebody without a role for this page gets no form: another account is a matter of signing out.
function showLock(problem) {
  const { who } = gateway;
  const known = Boolean(who?.role);
  const offers = Boolean(who?.sign_in) && !known;
  const asks = !known && (who === null || who.token || !who.sign_in);
  show(byId('lock'), true);
  show(byId('lock-sign-in'), offers);
  // Otherwise single sign-on would undo the sign-out with one click, by anybody at this machine.
  if (sessionStorage.getItem(SIGNED_OUT)) byId('sign-in').href = 'sign-in?again=true';
  show(byId('lock-token'), asks);
  show(byId('lock-or'), offers && asks);
  show(byId('lock-denied'), known);
  say(byId('lock-problem'), problem);
}

function focusLock() {
  if (!byId('lock-sign-in').hidden) byId('sign-in').focus();
  else if (!byId('lock-token').hidden) byId('token').focus();
  else byId('sign-out').focus();
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
byId('sign-out').addEventListener('click', async () => {
  try {
    await gateway.change('sign-out');
    sessionStorage.setItem(SIGNED_OUT, 'yes');
  } catch (error) {
    // A session that is over already is what was wanted.
    if (!(error instanceof Refused)) {
      announce('failed', `You are still signed in. ${error.message}`);
      return;
    }
  }
  location.reload();
});

// The stream alone doesn't keep a session: only somebody who is there does.
function noticePresence() {
  if (gateway.who?.actor !== 'person' || Date.now() - present < PRESENCE_MS) return;
  present = Date.now();
  gateway.identify(true).then(showWho, () => {});
}
for (const kind of ['pointerdown', 'keydown', 'wheel']) addEventListener(kind, noticePresence, { passive: true });
