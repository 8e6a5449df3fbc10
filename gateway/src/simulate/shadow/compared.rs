//! Sums over all decisions: what the log says was done, what the config would have done, and where they differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use spillway_plugins::limits::LimitKind;
use spillway_plugins::prices::Money;

use super::decision::{Decision, End, Shown};
use super::limits::Limit;
use crate::simulate::request::Request;
use crate::simulate::seen::SeenEnd;
use crate::simulate::world::World;

/// Differences that are shown.
const SHOWN: usize = 20;
/// Names of which each is counted for itself.
const NAMES: usize = 200;

/// What a shadow says beside what a simulation does.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Requests of models that a pool has.
    pub requests: u64,
    /// By the log: how they ended.
    pub log: LogFigures,
    /// Requests to which the callers got a 429 that no limit of this config asks for, and that a deployment would have taken.
    pub spared_429s: u64,
    /// Requests that failed otherwise, and that a deployment would have taken.
    pub spared_failures: u64,
    /// Requests that were answered, and that a limit of this config would have refused.
    pub newly_limited: u64,
    /// Requests that were answered, and for which no deployment would have been left.
    pub newly_refused: u64,
    /// Requests whose consumer may not use the model.
    pub not_allowed: u64,
    /// Limits that would have refused requests.
    pub limits: Vec<LimitFigures>,
    /// What each deployment did, and would have done.
    pub deployments: Vec<DeploymentFigures>,
    /// Requests of which the log of this gateway itself says what was decided.
    pub compared: u64,
    /// Those of them for which the decision is the same.
    pub equal: u64,
    /// The first of the others.
    pub differences: Vec<Difference>,
    /// Names of backends in the log that the config doesn't have, and how many requests they answered.
    pub unknown_backends: Vec<(Arc<str>, u64)>,
    /// Consumers in the log that the config doesn't list, and their requests: no limits of consumers apply to them.
    pub unknown_consumers: Vec<(Arc<str>, u64)>,
}

/// How requests ended, by the log.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LogFigures {
    /// Requests whose end the log knows.
    pub known: u64,
    /// Answered by a backend.
    pub served: u64,
    /// 429s that callers got from a backend, or because none was left.
    pub status_429: u64,
    /// Requests that a limit of the logging gateway refused.
    pub limited: u64,
    /// Other failures.
    pub failed: u64,
    /// Answered from a cache, or stopped because of their content.
    pub unasked: u64,
    /// What was paid, in USD, as far as the log knows.
    pub cost_usd: f64,
    /// Answered requests whose cost the log doesn't know.
    pub unpriced: u64,
}

/// A limit that would have refused requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitFigures {
    /// Whose limit it is: `consumer 'crm-bot'`.
    pub owner: Arc<str>,
    /// Which limit.
    pub limit: &'static str,
    /// Requests that it would have refused.
    pub refused: u64,
    /// Those of them that were answered.
    pub answered: u64,
}

/// What a deployment did, by the log, and would have done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DeploymentFigures {
    /// Backend and deployment.
    pub name: String,
    /// Requests that it answered, by the log.
    pub log_requests: u64,
    /// Their tokens.
    pub log_tokens: u64,
    /// 429s that it sent, by the log.
    pub log_429s: u64,
    /// Requests that it would have answered.
    pub requests: u64,
    /// Their tokens.
    pub tokens: u64,
    /// 429s that it would have sent.
    pub status_429: u64,
}

/// A request for which something else was decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// When it was admitted.
    pub at: String,
    /// By the log.
    pub log: String,
    /// By the shadow.
    pub shadow: String,
}

/// The sums in progress.
#[derive(Debug)]
pub(in crate::simulate) struct Compared {
    names: Vec<Arc<str>>,
    requests: u64,
    log: LogFigures,
    log_cost: Money,
    spared_429s: u64,
    spared_failures: u64,
    newly_limited: u64,
    newly_refused: u64,
    not_allowed: u64,
    limits: BTreeMap<Limit, (u64, u64)>,
    deployments: Vec<DeploymentFigures>,
    compared: u64,
    equal: u64,
    differences: Vec<Difference>,
    unknown_backends: BTreeMap<Arc<str>, u64>,
    unknown_consumers: BTreeMap<Arc<str>, u64>,
}

impl Compared {
    pub(super) fn new(world: &World) -> Self {
        let named = |name: String| DeploymentFigures { name, ..DeploymentFigures::default() };
        let deployments: Vec<DeploymentFigures> = world.deployments.iter().map(|deployment| named(deployment.id.to_string())).collect();
        Compared {
            names: deployments.iter().map(|deployment| deployment.name.as_str().into()).collect(),
            requests: 0,
            log: LogFigures::default(),
            log_cost: Money::default(),
            spared_429s: 0,
            spared_failures: 0,
            newly_limited: 0,
            newly_refused: 0,
            not_allowed: 0,
            limits: BTreeMap::new(),
            deployments,
            compared: 0,
            equal: 0,
            differences: Vec::new(),
            unknown_backends: BTreeMap::new(),
            unknown_consumers: BTreeMap::new(),
        }
    }

    /// Counts what the log says of a request that arrives. `asked`: the deployments that it was sent to, in order, and the
    /// statuses 429 among them.
    pub(in crate::simulate) fn arrives(&mut self, request: &Request, asked: &[(usize, bool)]) {
        self.requests += 1;
        let Some(seen) = &request.seen else { return };
        let log = &mut self.log;
        match seen.end {
            SeenEnd::Unknown => return,
            SeenEnd::Served => {
                log.served += 1;
                match seen.cost {
                    Some(money) => self.log_cost += money,
                    None => log.unpriced += 1,
                }
            }
            SeenEnd::Limit(..) => log.limited += 1,
            SeenEnd::Unasked => log.unasked += 1,
            SeenEnd::NoBackend | SeenEnd::Failed if seen.status == Some(429) => log.status_429 += 1,
            SeenEnd::NoBackend | SeenEnd::Failed => log.failed += 1,
        }
        log.known += 1;
        for (deployment, refused) in asked {
            self.deployments[*deployment].log_429s += u64::from(*refused);
        }
        if let (SeenEnd::Served, Some((deployment, _))) = (&seen.end, asked.last()) {
            let figures = &mut self.deployments[*deployment];
            figures.log_requests += 1;
            figures.log_tokens = figures.log_tokens.saturating_add(request.usage.tokens());
        }
    }

    /// A deployment would have answered 429.
    pub(in crate::simulate) fn throttled(&mut self, deployment: usize) {
        self.deployments[deployment].status_429 += 1;
    }

    /// What was decided for a request, and what the log of this gateway says was decided.
    pub(in crate::simulate) fn decided(&mut self, request: &Request, decision: &Decision, logged: Option<Decision>) {
        let (seen, status) = request.seen.as_ref().map_or((None, None), |seen| (Some(&seen.end), seen.status));
        match &decision.end {
            End::Served(deployment) => {
                let figures = &mut self.deployments[*deployment];
                figures.requests += 1;
                figures.tokens = figures.tokens.saturating_add(request.usage.tokens());
                match seen {
                    Some(SeenEnd::NoBackend | SeenEnd::Failed) if status == Some(429) => self.spared_429s += 1,
                    Some(SeenEnd::NoBackend | SeenEnd::Failed) => self.spared_failures += 1,
                    _ => {}
                }
            }
            End::Limit(limit) => {
                let answered = u64::from(seen == Some(&SeenEnd::Served));
                let sums = self.limits.entry(limit.clone()).or_default();
                sums.0 += 1;
                sums.1 += answered;
                self.newly_limited += answered;
            }
            End::NoBackend => self.newly_refused += u64::from(seen == Some(&SeenEnd::Served)),
            End::NotAllowed => self.not_allowed += 1,
            End::Left | End::Unasked => {}
        }
        let Some(logged) = logged else { return };
        self.compared += 1;
        if logged == *decision {
            self.equal += 1;
        } else if self.differences.len() < SHOWN {
            let text = |decision: &Decision| Shown(decision, &self.names).to_string();
            let at = crate::simulate::outcome::precise_time_text(request.at);
            self.differences.push(Difference { at, log: text(&logged), shadow: text(decision) });
        }
    }

    /// A request names a backend that the config doesn't have.
    pub(in crate::simulate) fn unknown_backend(&mut self, name: &str) {
        let name: Arc<str> = name.trim_end_matches('\n').replace('\n', "/").into();
        count_name(&mut self.unknown_backends, name);
    }

    /// A request of a consumer that the config doesn't list.
    pub(in crate::simulate) fn unknown_consumer(&mut self, name: &Arc<str>) {
        count_name(&mut self.unknown_consumers, Arc::clone(name));
    }

    /// The figures so far.
    pub(in crate::simulate) fn figures(&self) -> Comparison {
        let limit = |(limit, (refused, answered)): (&Limit, &(u64, u64))| {
            let label = LimitKind::label(limit.kind);
            LimitFigures { owner: Arc::clone(&limit.owner), limit: label, refused: *refused, answered: *answered }
        };
        let names = |names: &BTreeMap<Arc<str>, u64>| {
            let mut names: Vec<(Arc<str>, u64)> = names.iter().map(|(name, count)| (Arc::clone(name), *count)).collect();
            names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            names
        };
        Comparison {
            requests: self.requests,
            log: LogFigures { cost_usd: self.log_cost.usd(), ..self.log.clone() },
            spared_429s: self.spared_429s,
            spared_failures: self.spared_failures,
            newly_limited: self.newly_limited,
            newly_refused: self.newly_refused,
            not_allowed: self.not_allowed,
            limits: self.limits.iter().map(limit).collect(),
            deployments: self.deployments.clone(),
            compared: self.compared,
            equal: self.equal,
            differences: self.differences.clone(),
            unknown_backends: names(&self.unknown_backends),
            unknown_consumers: names(&self.unknown_consumers),
        }
    }
}

fn count_name(names: &mut BTreeMap<Arc<str>, u64>, name: Arc<str>) {
    let name = if names.len() < NAMES || names.contains_key(&name) { name } else { "(others)".into() };
    *names.entry(name).or_default() += 1;
}
