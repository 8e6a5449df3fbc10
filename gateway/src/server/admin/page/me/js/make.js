// Makes a key: what it is for, how long it lives, which models it may use. Then shows it, once.

const LIFETIMES = [7, 30, 90, 180, 365];

// The lifetimes that the consumer allows, the longest one included.
function lifetimes(seconds) {
  const most = Math.floor(seconds / 86_400);
  const days = LIFETIMES.filter((each) => each < most);
  return most >= 1 ? [...days, most].map((each) => ({ value: `${each}d`, text: plural(each, 'day') })) : [{ value: `${seconds}s`, text: duration(seconds * 1000) }];
}

function modelChoice(models) {
  const boxes = models.map((model) => ({ model, box: el('input', { type: 'checkbox' }) }));
  boxes.forEach(({ box }) => { box.checked = true; });
  const lines = boxes.map(({ model, box }) => el('label', { 'class': 'choice' }, box, ' ', el('span', { 'class': 'mono' }, model)));
  const node = el('details', { 'class': 'models-choice' }, el('summary', {}, 'Only some models'), el('fieldset', {}, el('legend', { 'class': 'unseen' }, 'Models that the key may use'), ...lines));
  const chosen = () => boxes.filter(({ box }) => box.checked).map(({ model }) => model);
  return { node, chosen: () => (chosen().length === models.length ? null : chosen()) };
}

function askMake(consumer) {
  const label = el('input', { id: 'make-label', maxlength: 64, autocomplete: 'off', spellcheck: 'false', required: true, placeholder: 'production, notebook, CI …' });
  const choices = lifetimes(consumer.making.max_lifetime_s);
  const lifetime = el('select', { id: 'make-lifetime' }, ...choices.map(({ value, text }) => el('option', { value }, text)));
  lifetime.value = (choices.find(({ value }) => value === '30d') ?? choices.at(-1)).value;
  const models = modelChoice(consumer.models);
  ask({
    title: `Make a key for ${consumer.name}`,
    text: [],
    more: [
      el('label', { 'for': 'make-label' }, 'What is it for?'), label,
      el('label', { 'for': 'make-lifetime' }, 'It expires in'), lifetime,
      ...(consumer.models.length > 1 ? [models.node] : []),
    ],
    first: label,
    yes: 'Make the key',
    doing: 'Making…',
    run: async () => {
      const chosen = models.chosen();
      if (chosen?.length === 0) throw new Error('Choose at least one model.');
      const made = await api.change('POST', 'api/me/keys', { consumer: consumer.name, label: label.value.trim(), expires: lifetime.value, models: chosen });
      await page.refresh();
      showMade(consumer, label.value.trim(), made);
      return '';
    },
  });
}

const made = byId('made');

// The key is in this field only, until the dialog is closed.
function showMade(consumer, label, answer) {
  // Closed first: a dialog gives the focus back to where it was, which must not be behind this one.
  dialog.close();
  say(byId('made-title'), `The new key of ${consumer.name}`);
  const until = answer.expires === null ? '' : ` It expires on ${dayOnly.format(answer.expires * 1000)}.`;
  say(byId('made-text'), `Copy ${label ? `the key “${label}”` : 'it'} now, into a password manager or your deployment's secrets. The gateway stores only its hash and can't show it again.${until}`);
  byId('made-key').value = answer.key;
  say(byId('made-said'), '');
  made.showModal();
  byId('made-copy').focus();
}

byId('made-copy').addEventListener('click', async () => {
  const done = await copyText(byId('made-key').value, byId('made-key'));
  say(byId('made-said'), done ? 'Copied.' : 'The key is selected: press Ctrl+C, or ⌘C on a Mac.');
});
// Escape would lose the key: only the button closes.
made.addEventListener('cancel', (event) => {
  event.preventDefault();
  say(byId('made-said'), 'Store the key first: it can\'t be shown again.');
});
byId('made-done').addEventListener('click', () => made.close());
made.addEventListener('close', () => {
  byId('made-key').value = '';
  byId('main').focus({ preventScroll: true });
});
