// The code to copy: a tab for each client.

let usedClient = CLIENTS[0];

const tabs = CLIENTS.map((client) => {
  const tab = el('button', { type: 'button', role: 'tab', id: `use-tab-${client.id}`, 'aria-controls': 'use-panel' }, client.name);
  tab.addEventListener('click', () => chooseClient(client));
  byId('use-tabs').append(tab);
  return { client, tab };
});

function chooseClient(client) {
  usedClient = client;
  showUse(page.me);
}

// Arrow keys go from tab to tab; Tab leaves them, as in any list of tabs.
byId('use-tabs').addEventListener('keydown', (event) => {
  const at = tabs.findIndex(({ client }) => client === usedClient);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = tabs[(to + tabs.length) % tabs.length];
  chooseClient(next.client);
  next.tab.focus();
});
byId('use-model').addEventListener('change', () => showUse(page.me));
for (const [box, shown] of [['use-key', 'use-export'], ['use-panel', 'use-code']]) copies(byId(box).querySelector('button'), byId(shown));

function showUse(me) {
  const models = [...new Set(me.consumers.flatMap((consumer) => consumer.models))];
  models.sort((a, b) => isEmbedding(a) - isEmbedding(b));
  const select = byId('use-model');
  const chosen = models.includes(select.value) ? select.value : models[0];
  keep(select, models, (model) => model, (model) => ({ node: el('option', { value: model }, model) }), () => {});
  show(byId('use'), models.length > 0);
  if (!models.length) return;
  if (select.value !== chosen) select.value = chosen;
  say(byId('use-base'), me.gateway_url);
  say(byId('use-export'), exportOf());
  for (const { client, tab } of tabs) {
    mark(tab, 'aria-selected', String(client === usedClient));
    mark(tab, 'tabindex', client === usedClient ? 0 : -1);
  }
  mark(byId('use-panel'), 'aria-labelledby', `use-tab-${usedClient.id}`);
  show(byId('use-install'), usedClient.install !== '');
  say(byId('use-install'), usedClient.install);
  say(byId('use-code'), snippetOf(usedClient, me.gateway_url, chosen));
}
watchScroll(byId('use-code'));
