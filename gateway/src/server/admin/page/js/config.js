// The active config, and the result of the last reload.

const configFacts = ['File', 'Hash', 'Loaded'].map((name) => {
  const value = el('dd');
  byId('config-facts').append(el('dt', {}, name), value);
  return value;
});
let config = null;

function showConfig(status) {
  config = status.config;
  const [file, hash, loaded] = configFacts;
  say(file, config.file);
  say(hash, config.hash.slice(0, 12));
  mark(hash, 'title', config.hash);
  say(loaded, `${atClock(config.loaded_at)} ${loadedBy(config.loaded_by)}`);
  show(byId('config-restart'), config.needs_restart.length > 0);
  keep(byId('config-restart-list'), config.needs_restart, (key) => key, (key) => ({ node: el('li', {}, el('code', {}, key)) }), () => {});
  const { rejected } = config;
  show(byId('config-rejected'), rejected !== null);
  if (rejected) {
    say(byId('config-rejected-when'), `${atClock(rejected.at)} ${loadedBy(rejected.by)}.`);
    say(byId('config-reason'), rejected.reason);
  }
}

watchScroll(byId('config-reason'));
byId('reload').addEventListener('click', () => config && askReload(config));
