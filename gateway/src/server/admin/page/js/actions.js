// What an operator can change. Each change is confirmed in a dialog, and its result is announced.

// A login takes ten minutes at most.
const PENDING_MS = 600_000;

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
    later: { act: 'drain', key: member.key },
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
    later: { act: 'undrain', key: member.key },
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
    later: { act: 'reset', key: member.key },
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
    later: { act: 'reload' },
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

// Somebody was sent to sign in afresh for a change: asks for it again.
function resume(model) {
  const text = sessionStorage.getItem(PENDING);
  if (text === null) return;
  sessionStorage.removeItem(PENDING);
  const { act, key, at } = JSON.parse(text);
  if (Date.now() - at > PENDING_MS || dialog.open) return;
  if (act === 'reload') {
    askReload(model.status.config);
    return;
  }
  const member = model.members.find((each) => each.key === key);
  if (!member) announce('failed', 'What you wanted to change is no longer in the config.');
  else if (act === 'drain') askDrain(member, model);
  else if (act === 'undrain') askUndrain(member);
  else askReset(member);
}
