// The gateway's status as the page shows it: tiers with ranks and rates, the last resort apart.

const rates = new Rates();
const refusals = new LastMinute();
const failoversSeen = new LastMinute();
const lastResorts = new LastMinute();

function keyOf(pool, tier, member) {
  return [pool.name, tier.priority, member.backend, member.deployment].join('\u0001');
}

function modelOf(status) {
  rates.begin(status);
  const pools = status.pools.map((pool) => poolOf(pool, status.now));
  return {
    status,
    pools,
    members: pools.flatMap((pool) => pool.tiers.flatMap((tier) => tier.members)),
    perSecond: rates.see('requests', status.totals.requests, status.now),
    refusedPerSecond: rates.see('visible_429', status.totals.visible_429, status.now),
    lastMinute: {
      refused: refusals.see(status.totals.visible_429, status.now),
      failovers: failoversSeen.see(status.totals.failovers, status.now),
      lastResort: lastResorts.see(status.totals.last_resort, status.now),
    },
  };
}

function poolOf(pool, now) {
  let rank = 0;
  const tiers = pool.tiers.map((tier) => {
    const members = tier.members.map((member) => ({
      ...member,
      key: keyOf(pool, tier, member),
      pool: pool.name,
      isLastResort: member.backend === pool.last_resort,
      perSecond: rates.see(keyOf(pool, tier, member), member.served_total, now),
    }));
    const isLastResort = members.length > 0 && members.every((member) => member.isLastResort);
    return {
      priority: tier.priority,
      rank: isLastResort ? null : ++rank,
      isLastResort,
      members,
      open: members.filter(isOpen).length,
      perSecond: sum(members.map((member) => member.perSecond)),
    };
  });
  // The last resort comes last, whatever its priority says.
  tiers.sort((a, b) => Number(a.isLastResort) - Number(b.isLastResort));
  return { ...pool, tiers, perSecond: sum(tiers.map((tier) => tier.perSecond)) };
}

// Unknown only if all parts are.
function sum(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((total, value) => total + value, 0) : null;
}

function tierName(tier) {
  return tier.isLastResort ? 'Last resort' : `Tier ${tier.rank}`;
}

function nameOf(member) {
  return member.deployment ? `${member.backend} / ${member.deployment}` : member.backend;
}
