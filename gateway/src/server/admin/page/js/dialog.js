// The dialog that asks before a change, and the line that announces its result.

const dialog = byId('ask');
const SAID_MS = 20_000;
let asked = null;
let saidTimer = 0;

// `run` makes the change and returns the announcement; if it throws, the dialog stays and shows the error. `more` are
// further nodes, such as fields; `first` gets the focus.
function ask({ title, text, more = [], first = byId('ask-no'), yes, doing, run }) {
  asked = { yes, doing, run, busy: false };
  say(byId('ask-title'), title);
  byId('ask-text').replaceChildren(...text.map((line) => el('p', {}, line)), ...more);
  byId('ask-problem').replaceChildren();
  mark(byId('ask-yes'), 'aria-disabled', null);
  say(byId('ask-yes'), yes);
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
