//! Which faults a config can meet. Pure: a config and the lines of its file give a list.

use std::collections::{BTreeMap, BTreeSet};

use crate::balance::target::TargetId;
use crate::config::{BackendAuth, BackendConfig, Config, PoolConfig};
use crate::rehearse::fault::{Fault, FaultKind, NotApplicable};
use crate::rehearse::place::Lines;

/// The faults of a config, in the order of [`FaultKind::ALL`], and the kinds that don't apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// What is to be rehearsed.
    pub all: Vec<Fault>,
    /// What is not, and why.
    pub not_applicable: Vec<NotApplicable>,
}

/// Consumers that are rehearsed as the source of a flood.
const FLOODS: usize = 5;

/// Derives the faults of a config.
pub fn faults(config: &Config, lines: &Lines) -> Faults {
    let derive = Derive { config, lines };
    let mut faults = Faults { all: Vec::new(), not_applicable: Vec::new() };
    for kind in FaultKind::ALL.into_iter().filter(|kind| *kind != FaultKind::None) {
        match derive.of_kind(kind) {
            Ok(found) => faults.all.extend(found),
            Err(reason) => faults.not_applicable.push(NotApplicable { kind, reason: reason.to_owned() }),
        }
    }
    faults
}

/// No fault, for all pools.
pub fn baseline(config: &Config, lines: &Lines) -> Fault {
    Derive { config, lines }.fault(FaultKind::None, String::new(), "pools")
}

struct Derive<'c> {
    config: &'c Config,
    lines: &'c Lines,
}

type Found = Result<Vec<Fault>, &'static str>;

fn some(found: Vec<Fault>, reason: &'static str) -> Found {
    if found.is_empty() { Err(reason) } else { Ok(found) }
}

impl Derive<'_> {
    fn of_kind(&self, kind: FaultKind) -> Found {
        match kind {
            FaultKind::None => Ok(Vec::new()),
            FaultKind::Throttled | FaultKind::ThrottledSilently | FaultKind::Failing => Ok(self.of_members(kind, |_| true)),
            FaultKind::Refused => some(
                self.of_members(kind, |(pool, tier)| in_tier(self.config, pool, *tier).len() > 1),
                "every tier has one member: see tier-out",
            ),
            FaultKind::SharedQuota => self.shared_quotas(),
            FaultKind::TierOut => Ok(self.tiers()),
            FaultKind::LocationOut => self.locations(),
            FaultKind::DnsGone => self.of_backends(kind, is_name, "every backend has an IP address"),
            FaultKind::TlsBroken => self.of_backends(kind, speaks_tls, "no backend speaks TLS"),
            FaultKind::KeyRevoked => {
                self.of_backends(kind, |backend| matches!(backend.auth, BackendAuth::ApiKey(_)), "no backend has a key")
            }
            FaultKind::TokenExpired | FaultKind::RoleMissing => {
                self.of_backends(kind, |backend| matches!(backend.auth, BackendAuth::Token(_)), "no backend takes tokens of an identity")
            }
            FaultKind::SlowFirstToken
            | FaultKind::Silence
            | FaultKind::Cut
            | FaultKind::Stall
            | FaultKind::Malformed
            | FaultKind::Oversized
            | FaultKind::ContentFilter
            | FaultKind::ContextTooLong => Ok(self.first_tiers(kind)),
            FaultKind::RedisSlow | FaultKind::RedisGone => {
                self.of_gateway(kind, "redis", self.config.redis.is_some(), "there is no [redis]")
            }
            FaultKind::LedgerFull => {
                self.of_gateway(kind, "server.state_dir", self.config.ledger.is_some(), "there is no ledger: server.state_dir is not set")
            }
            FaultKind::TokenIssuerGone => {
                let used = self.config.backends.iter().any(|backend| matches!(backend.auth, BackendAuth::Token(_)));
                let backends = self.backends(|backend| matches!(backend.auth, BackendAuth::Token(_)));
                let key = backends.first().map_or_else(String::new, |at| format!("backends[{at}].auth"));
                let mut found = self.of_gateway(kind, &key, used, "no backend takes tokens of an identity")?;
                found.iter_mut().for_each(|fault| fault.backends.clone_from(&backends));
                Ok(found)
            }
            FaultKind::CallerIssuerGone => {
                let used = self.config.plugins.auth.tokens.is_some();
                self.of_gateway(kind, "plugins.auth.jwt", used, "callers' tokens are not accepted: there is no [plugins.auth.jwt]")
            }
            FaultKind::Flood => self.floods(),
            FaultKind::Reload | FaultKind::Upgrade => self.of_gateway(kind, "server", true, ""),
        }
    }

    fn fault(&self, kind: FaultKind, what: String, key: &str) -> Fault {
        Fault {
            kind,
            what,
            place: self.lines.place(key),
            pools: (0..self.config.pools.len()).collect(),
            backends: Vec::new(),
            targets: Vec::new(),
            full: Vec::new(),
            consumer: None,
        }
    }

    fn of_gateway(&self, kind: FaultKind, key: &str, applies: bool, otherwise: &'static str) -> Found {
        if applies { Ok(vec![self.fault(kind, String::new(), key)]) } else { Err(otherwise) }
    }

    fn backends(&self, is: impl Fn(&BackendConfig) -> bool) -> Vec<usize> {
        let used = |at: &usize| !self.pools_of(&[*at]).is_empty();
        (0..self.config.backends.len()).filter(|at| is(&self.config.backends[*at])).filter(used).collect()
    }

    fn of_backends(&self, kind: FaultKind, is: impl Fn(&BackendConfig) -> bool, otherwise: &'static str) -> Found {
        let found = self.backends(is).into_iter().map(|at| {
            let name = self.config.backends[at].name.to_string();
            let pools = self.pools_of(&[at]);
            let full = self.better(&pools, &[at]);
            Fault { pools, backends: vec![at], full, ..self.fault(kind, name, &format!("backends[{at}]")) }
        });
        some(found.collect(), otherwise)
    }

    fn pools_of(&self, backends: &[usize]) -> Vec<usize> {
        let has = |index: &usize| {
            let pool = &self.config.pools[*index];
            (0..pool.members.len()).any(|at| takes_requests(self.config, pool, at) && backends.contains(&pool.members[at].backend))
        };
        (0..self.config.pools.len()).filter(has).collect()
    }

    /// The backends of tiers that come before the first one of `backends`, in these pools: as far as a pool has others, or
    /// nobody would be left to serve, whatever the fault is.
    fn better(&self, pools: &[usize], backends: &[usize]) -> Vec<usize> {
        let mut better = BTreeSet::new();
        for pool in pools.iter().map(|pool| &self.config.pools[*pool]) {
            let real = (0..pool.members.len()).filter(|at| takes_requests(self.config, pool, *at)).map(|at| &pool.members[at]);
            let (hit, others): (Vec<_>, Vec<_>) = real.partition(|member| backends.contains(&member.backend));
            let Some(first) = hit.iter().map(|member| member.priority).min() else { continue };
            let above: BTreeSet<usize> = others.iter().filter(|member| member.priority < first).map(|member| member.backend).collect();
            let hit: Vec<usize> = hit.iter().map(|member| member.backend).collect();
            let is_left = |backend: usize| !above.contains(&backend) && !self.share_a_quota(pool, backend, &hit);
            if others.iter().any(|member| is_left(member.backend)) {
                better.extend(above);
            }
        }
        better.into_iter().collect()
    }

    /// Whether a backend shares a quota of this pool's models with one of `others`: a 429 of those closes it, too.
    fn share_a_quota(&self, pool: &PoolConfig, backend: usize, others: &[usize]) -> bool {
        let label = |backend: usize, model: &str| self.config.quota_pools.get(&target(&self.config.backends[backend], model));
        let shares = |model: &String| {
            let own = label(backend, model);
            own.is_some() && others.iter().any(|other| label(*other, model) == own)
        };
        pool.models.iter().any(shares)
    }

    /// A fault for each member of each pool; a backend that is a member more than once has one.
    fn of_members(&self, kind: FaultKind, is: impl Fn(&(&PoolConfig, u32)) -> bool) -> Vec<Fault> {
        let mut found = Vec::new();
        for (index, pool) in self.config.pools.iter().enumerate() {
            let mut seen = BTreeSet::new();
            for (at, member) in pool.members.iter().enumerate() {
                if !takes_requests(self.config, pool, at) || !is(&(pool, member.priority)) || !seen.insert(member.backend) {
                    continue;
                }
                let backend = &self.config.backends[member.backend];
                let what =
                    if self.config.pools.len() > 1 { format!("{} in {}", backend.name, pool.name) } else { backend.name.to_string() };
                let targets = pool.models.iter().map(|model| target(backend, model)).collect::<BTreeSet<_>>().into_iter().collect();
                found.push(Fault {
                    pools: vec![index],
                    backends: vec![member.backend],
                    full: self.better(&[index], &[member.backend]),
                    targets,
                    ..self.fault(kind, what, &format!("pools[{index}].members[{at}]"))
                });
            }
        }
        found
    }

    fn tiers(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        for (index, pool) in self.config.pools.iter().enumerate() {
            let all: Vec<usize> = (0..pool.members.len()).filter(|at| takes_requests(self.config, pool, *at)).collect();
            let tiers: BTreeSet<u32> = all.iter().map(|at| pool.members[*at].priority).collect();
            for tier in tiers {
                let backends = in_tier(self.config, pool, tier);
                let at = all.iter().find(|at| pool.members[**at].priority == tier).copied().unwrap_or_default();
                let what = format!("tier {tier} of {}", pool.name);
                found.push(Fault {
                    pools: vec![index],
                    full: self.better(&[index], &backends),
                    backends,
                    ..self.fault(FaultKind::TierOut, what, &format!("pools[{index}].members[{at}]"))
                });
            }
        }
        found
    }

    fn first_tiers(&self, kind: FaultKind) -> Vec<Fault> {
        let firsts = self.tiers().into_iter();
        let mut seen = BTreeSet::new();
        firsts.filter(|fault| seen.insert(fault.pools.clone())).map(|fault| Fault { kind, ..fault }).collect()
    }

    fn locations(&self) -> Found {
        let mut by_location: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for at in self.backends(|backend| backend.endpoint.is_some()) {
            if let Some(location) = &self.config.backends[at].location {
                by_location.entry(location).or_default().push(at);
            }
        }
        let found = by_location.into_iter().map(|(location, backends)| {
            let key = format!("backends[{}].location", backends.first().copied().unwrap_or_default());
            Fault { pools: self.pools_of(&backends), backends, ..self.fault(FaultKind::LocationOut, location.to_owned(), &key) }
        });
        some(found.collect(), "no backend has a location")
    }

    /// Deployments that share a quota: by `quota_pool`, or because two backends are one resource.
    fn shared_quotas(&self) -> Found {
        let mut groups: BTreeMap<String, BTreeSet<TargetId>> = BTreeMap::new();
        for (target, label) in &self.config.quota_pools {
            groups.entry(format!("quota pool {label}")).or_default().insert(target.clone());
        }
        for pool in &self.config.pools {
            for (at, member) in pool.members.iter().enumerate().filter(|(at, _)| takes_requests(self.config, pool, *at)) {
                let backend = &self.config.backends[member.backend];
                let others = pool.members[..at].iter().map(|other| &self.config.backends[other.backend]);
                for other in others.filter(|other| other.name != backend.name && is_same_resource(backend, other)) {
                    for model in pool.models.iter().filter(|model| backend.deployment(model) == other.deployment(model)) {
                        let name = format!("{} and {}", other.name, backend.name);
                        groups.entry(name).or_default().extend([target(other, model), target(backend, model)]);
                    }
                }
            }
        }
        let found = groups.into_iter().filter(|(_, targets)| targets.len() > 1).map(|(name, targets)| {
            let is_of = |at: &usize| targets.iter().any(|target| target.backend == self.config.backends[*at].name);
            let backends: Vec<usize> = (0..self.config.backends.len()).filter(is_of).collect();
            let (pool, member) = self.first_member(&backends);
            Fault {
                pools: self.pools_of(&backends),
                backends,
                targets: targets.into_iter().collect(),
                ..self.fault(FaultKind::SharedQuota, name, &format!("pools[{pool}].members[{member}]"))
            }
        });
        some(found.collect(), "no deployments share a quota: there is no quota_pool, and every backend is another resource")
    }

    fn first_member(&self, backends: &[usize]) -> (usize, usize) {
        let pools = self.config.pools.iter().enumerate();
        let mut places = pools.filter_map(|(index, pool)| {
            let at = pool.members.iter().position(|member| backends.contains(&member.backend))?;
            Some((index, at))
        });
        places.next().unwrap_or_default()
    }

    fn floods(&self) -> Found {
        let is_limited = |at: &usize| {
            let limits = &self.config.consumers[*at].limits;
            !limits.rules.is_empty() || !limits.models.is_empty() || self.config.consumers[*at].group.is_some()
        };
        let all = 0..self.config.consumers.len();
        let mut chosen: Vec<usize> = all.clone().filter(is_limited).take(FLOODS).collect();
        chosen.extend(all.filter(|at| !is_limited(at)).take(1));
        chosen.sort_unstable();
        let found = chosen.into_iter().map(|at| {
            let name = self.config.consumers[at].name.to_string();
            Fault { consumer: Some(at), ..self.fault(FaultKind::Flood, name, &format!("consumers[{at}]")) }
        });
        some(found.collect(), "there are no [[consumers]]")
    }
}

fn target(backend: &BackendConfig, model: &str) -> TargetId {
    TargetId { backend: backend.name.clone(), deployment: backend.deployment(model).into() }
}

/// Whether a member is asked over the network, and is not weighted out.
pub(super) fn takes_requests(config: &Config, pool: &PoolConfig, member: usize) -> bool {
    let member = &pool.members[member];
    member.weight > 0 && config.backends[member.backend].endpoint.is_some()
}

/// The backends of a tier.
fn in_tier(config: &Config, pool: &PoolConfig, tier: u32) -> Vec<usize> {
    let members = (0..pool.members.len()).filter(|at| takes_requests(config, pool, *at) && pool.members[*at].priority == tier);
    members.map(|at| pool.members[at].backend).collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_name(backend: &BackendConfig) -> bool {
    backend.endpoint.as_ref().is_some_and(|endpoint| endpoint.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err())
}

fn speaks_tls(backend: &BackendConfig) -> bool {
    backend.endpoint.as_ref().is_some_and(|endpoint| endpoint.tls)
}

/// Whether two backends are the same resource behind two names.
fn is_same_resource(one: &BackendConfig, other: &BackendConfig) -> bool {
    let place = |backend: &BackendConfig| backend.endpoint.as_ref().map(|at| (at.host.to_lowercase(), at.port, at.prefix.clone()));
    place(one).is_some() && place(one) == place(other)
}

#[cfg(test)]
mod tests;
