// What an operator can change. Each change is confirmed in a dialog, and its result is announced.

const dialog = byId('ask');
const SAID_MS = 20_000;
let asked = null;
let saidTimer = 0;

// `run` makes the change and returns the announcement; if it throws, the dialog stays and shows the error.
function ask({ title, text, yes, doing, run }) {
  asked = { yes, doing, run, busy: false };
  say(byId('ask-title'), title);
  byId('ask-text').replaceChildren(...text.map((line) => el('p', {}, line)));
  byId('ask-problem').replaceChildren();
  mark(byId('ask-yes'), 'aria-disabled', null);
  say(byId('ask-yes'), yes);
  dialog.showModal();
  // The cancel button has the focus first: pressing Enter twice must not drain anything.
  byId('ask-no').focus();
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
      announce('failed', 'You are no longer signed in.');
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

function targetQuery(member) {
  const query = new URLSearchParams({ backend: member.backend });
  if (member.deployment) query.set('deployment', member.deployment);
  return query;
}

// State belongs to the target, so a change here shows in every pool that has it.
function otherPools(member, model) {
  const names = model.members
    .filter((other) => other.backend === member.backend && other.deployment === member.deployment && other.pool !== member.pool)
    .map((other) => other.pool);
  return [...new Set(names)];
}

function askDrain(member, model) {
  const text = [`No new request goes to it. ${member.in_flight ? `${plural(member.in_flight, 'request')} in flight may finish.` : 'Nothing is in flight there.'}`];
  const elsewhere = otherPools(member, model);
  if (elsewhere.length) text.push(`It serves ${elsewhere.length === 1 ? 'pool' : 'pools'} ${listed(elsewhere, 6)} too.`);
  const pool = model.pools.find((each) => each.name === member.pool);
  const left = pool.tiers.flatMap((tier) => tier.members).filter((other) => other.key !== member.key && !other.isLastResort && isOpen(other));
  if (!left.length && !member.isLastResort) {
    const rest = pool.last_resort ? `only its last resort, ${pool.last_resort}, would answer` : 'callers would be refused';
    text.push(`It is the last open member of ${member.pool}: ${rest}.`);
  }
  ask({
    title: `Drain ${nameOf(member)}?`,
    text,
    yes: 'Drain',
    doing: 'Draining…',
    run: async () => {
      await gateway.change(`api/drain?${targetQuery(member)}`);
      page.refresh();
      return `${nameOf(member)} is drained: it takes no new requests.`;
    },
  });
}

function askUndrain(member) {
  ask({
    title: `Undrain ${nameOf(member)}?`,
    text: ['It takes requests again, as far as its circuit and throttle allow.'],
    yes: 'Undrain',
    doing: 'Undraining…',
    run: async () => {
      await gateway.change(`api/undrain?${targetQuery(member)}`);
      page.refresh();
      return `${nameOf(member)} is back in traffic.`;
    },
  });
}

function askReset(member) {
  ask({
    title: `Reset ${nameOf(member)}?`,
    text: ['The gateway forgets its throttle, its circuit and its outage, and tries it with the next request. If it is still full, it says 429 again and is closed again.'],
    yes: 'Reset',
    doing: 'Resetting…',
    run: async () => {
      await gateway.change(`api/reset?${targetQuery(member)}`);
      page.refresh();
      return `${nameOf(member)} was reset.`;
    },
  });
}

function askReload(config) {
  ask({
    title: 'Reload the config?',
    text: [`The gateway re-reads ${config.file}. A file with an error changes nothing.`, 'Streams in flight go on.'],
    yes: 'Reload',
    doing: 'Reloading…',
    run: async () => {
      const answer = await gateway.change('api/reload');
      page.refresh();
      const restart = answer.needs_restart?.length ? ` A restart is needed for ${listed(answer.needs_restart)}.` : '';
      if (answer.result === 'unchanged') return `The file has not changed.${restart}`;
      return `The new config is active${answer.hash ? ` (${answer.hash.slice(0, 12)})` : ''}.${restart}`;
    },
  });
}
