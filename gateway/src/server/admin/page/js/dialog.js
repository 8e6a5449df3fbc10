// The dialog that asks before a change, and the line that announces its result.

const dialog = byId('ask');
const SAID_MS = 20_000;
const PENDING = 'spillway-pending';
let asked = null;
let saidTimer = 0;

// `run` makes the change and returns the announcement; if it throws, the dialog stays and shows the error. `more` are
// further nodes, such as fields; `first` gets the focus. `later` describes the change, to be asked for again after a sign-in.
function ask({ title, text, more = [], first = byId('ask-no'), yes, doing, run, later = null }) {
  asked = { yes, doing, run, later, busy: false };
  say(byId('ask-title'), title);
  byId('ask-text').replaceChildren(...text.map((line) => el('p', {}, line)), ...more);
  byId('ask-problem').replaceChildren();
  mark(byId('ask-yes'), 'aria-disabled', null);
  say(byId('ask-yes'), yes);
  show(byId('ask-yes'), true);
  dialog.showModal();
  // The cancel button has the focus first, unless there is a field: pressing Enter twice must not drain anything.
  first.focus();
}

async function confirmed() {
  const question = asked;
  if (!question || question.busy) return;
  question.busy = true;
  // Not `disabled`: that would move the focus out of the dialog.
  mark(byId('ask-yes'), 'aria-disabled', 'true');
  say(byId('ask-yes'), question.doing);
  byId('ask-problem').replaceChildren();
  try {
    const sentence = await question.run();
    if (asked === question) dialog.close();
    announce('done', sentence);
  } catch (error) {
    const reason = error.message;
    if (asked !== question) {
      announce('failed', reason);
    } else if (error instanceof Refused) {
      dialog.close();
      announce('failed', page.refusedText);
      page.refused();
    } else if (error instanceof NotFresh) {
      showNotFresh(question.later);
    } else {
      byId('ask-problem').replaceChildren(el('p', {}, el('strong', {}, 'That failed.')), problemView(reason));
    }
  } finally {
    question.busy = false;
    if (asked === question) {
      mark(byId('ask-yes'), 'aria-disabled', null);
      say(byId('ask-yes'), question.yes);
    }
  }
}

// The session is too old for a change. What was asked for waits in this tab until the person is back.
function showNotFresh(later) {
  const link = el('a', { 'class': 'strong', href: 'sign-in?fresh=true' }, 'Sign in again');
  link.addEventListener('click', () => {
    if (later) sessionStorage.setItem(PENDING, JSON.stringify({ ...later, at: Date.now() }));
  });
  byId('ask-problem').replaceChildren(el('p', {}, el('strong', {}, 'Show again who you are.')),
    el('p', { 'class': 'sentence' }, 'It is too long ago that you signed in. Afterwards you come back here and are asked once more; nothing has changed yet.'),
    el('p', {}, link));
  // It would be refused again.
  show(byId('ask-yes'), false);
  link.focus();
}

// A config's errors come in lines whose columns matter; anything else is a sentence.
function problemView(reason) {
  return reason.includes('\n') ? el('pre', { tabindex: 0, role: 'group', 'aria-label': 'Why' }, reason) : el('p', { 'class': 'sentence' }, reason);
}

function announce(kind, sentence) {
  mark(byId('said'), 'data-kind', sentence ? kind : 'empty');
  say(byId('said-text'), sentence);
  clearTimeout(saidTimer);
  if (kind === 'done') saidTimer = setTimeout(() => byId('said').matches(':hover, :focus-within') || announce('', ''), SAID_MS);
}

byId('ask-form').addEventListener('submit', (event) => {
  event.preventDefault();
  confirmed();
});
byId('ask-no').addEventListener('click', () => dialog.close());
dialog.addEventListener('close', () => { asked = null; });
byId('said-close').addEventListener('click', () => {
  announce('', '');
  byId('main').focus({ preventScroll: true });
});
