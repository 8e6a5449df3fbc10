// A card for each consumer that is the person's.

const slug = (name) => `app-${encodeURIComponent(name).replaceAll('%', '_')}`;

function makeCard(consumer) {
  const id = slug(consumer.name);
  const title = el('h2', { id: `${id}-title` }, consumer.name);
  const of = el('p', { 'class': 'quiet' });
  const left = el('ul', { 'class': 'left', 'aria-label': `What ${consumer.name} has left` });
  const unlimited = el('p', { 'class': 'empty' }, 'It has no limits of its own.');
  const models = el('ul', { 'class': 'chips', 'aria-label': `Models of ${consumer.name}` });
  const noModels = el('p', { 'class': 'empty' }, 'It may use no model with a key.');
  const usage = makeUsage();
  const keys = makeKeys(consumer.name);
  const side = el('div', { 'class': 'side' }, el('h3', {}, 'Left now'), left, unlimited, el('h3', {}, 'Models'), models, noModels);
  const node = el('section', { 'class': 'card', id, 'aria-labelledby': `${id}-title`, tabindex: -1 },
    el('div', { 'class': 'head' }, title, of), el('div', { 'class': 'columns' }, usage.node, side), keys.node);
  return { node, of, left, unlimited, models, noModels, usage, keys };
}

function updateCard(card, consumer, me, now) {
  say(card.of, consumer.group === null ? '' : `group ${consumer.group}`);
  showLeft(card, consumer.limits);
  keep(card.models, consumer.models, (model) => model, (model) => ({ node: el('li', { 'class': 'mono' }, model) }), () => {});
  show(card.models, consumer.models.length > 0);
  show(card.noModels, consumer.models.length === 0);
  showUsage(card.usage, consumer, me, now);
  showKeys(card.keys, consumer, now);
}

function showCards(me, now) {
  keep(byId('consumers'), me.consumers, (consumer) => consumer.name, makeCard, (card, consumer) => updateCard(card, consumer, me, now));
  show(byId('jump'), me.consumers.length > 2);
  keep(byId('jump-list'), me.consumers, (consumer) => consumer.name,
    (consumer) => ({ node: el('li', {}, el('a', { href: `#${slug(consumer.name)}` }, consumer.name)) }), () => {});
}
