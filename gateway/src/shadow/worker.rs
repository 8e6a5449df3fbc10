//! The thread that decides for mirrored requests: a simulation whose virtual time follows the clock.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::warn;

use super::mirrored::{Came, Mirrored};
use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::runtime::Runtime;
use crate::simulate::request::{Names, Request};
use crate::simulate::run::Run;
use crate::simulate::scenario::Scenario;
use crate::simulate::seen::{Seen, place_name};
use crate::simulate::trace::csv;
use crate::simulate::world::Assumptions;
use crate::telemetry::metrics::Mirrored as Counted;

/// How long hours are remembered.
const REMEMBERED: Duration = Duration::from_secs(32 * 86_400);
/// Different names of consumers, and of backends, that are kept beside the config's; further ones are one.
const NAMES: usize = 1000;
/// Most requests that may be under way: a mirror may say that each takes as long as it likes.
const UNDER_WAY: usize = 100_000;
/// The name of a model that no pool has.
const UNKNOWN: &str = "(other models)";
const OTHER: &str = "(others)";

/// What the thread does.
#[derive(Debug)]
pub(super) enum Job {
    /// Decides for a request.
    Request(Box<Mirrored>),
    /// Says what it came to.
    Figures(oneshot::Sender<Value>),
}

/// The thread's state.
pub(super) struct Worker {
    gateway: Gateway,
    current: Option<Current>,
}

/// The shadow of one config.
struct Current {
    /// The config that it is for.
    runtime: Arc<Runtime>,
    run: Run,
    names: Names,
    consumers: Strangers,
    places: Strangers,
    since: String,
    requests: u64,
    /// Requests that were left out because too many were under way.
    left_out: u64,
    notes: Vec<String>,
    last: Tick,
}

impl Worker {
    pub(super) fn new(gateway: Gateway) -> Self {
        Worker { gateway, current: None }
    }

    /// Works until all senders are dropped.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Request(mirrored) => {
                    self.gateway.metrics.shadow.waiting.dec();
                    let at = mirrored.at;
                    let is_taken = self.current(at).is_some_and(|current| current.arrive(*mirrored));
                    self.gateway.metrics.shadow.count(if is_taken { Counted::Taken } else { Counted::LeftOut });
                }
                Job::Figures(reply) => {
                    let now = now(&self.gateway);
                    let figures = self.current(now).map_or(Value::Null, |current| current.figures(now));
                    let _ = reply.send(figures);
                }
            }
        }
    }

    /// The shadow of the config that is active now: a new config begins anew.
    fn current(&mut self, at: Tick) -> Option<&mut Current> {
        let runtime = self.gateway.runtime.load_full();
        if self.current.as_ref().is_none_or(|current| !Arc::ptr_eq(&current.runtime, &runtime)) {
            self.current = Current::new(runtime, at);
        }
        self.current.as_mut()
    }
}

/// The wall clock, in nanoseconds since 1970.
pub(super) fn now(gateway: &Gateway) -> Tick {
    Tick(gateway.clock.wall().timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0))
}

impl Current {
    fn new(runtime: Arc<Runtime>, at: Tick) -> Option<Self> {
        let mut scenario = Scenario { name: "shadow".to_owned(), config: runtime.config.clone(), units: BTreeMap::new() };
        let notes = scenario.take_everything_unknown();
        let run = match Run::shadow(scenario, &Assumptions::default(), at) {
            Ok(run) => run,
            Err(error) => {
                warn!(%error, "mirrored requests can't be shadowed with this config");
                return None;
            }
        };
        let since = crate::simulate::outcome::time_text(at);
        Some(Current {
            runtime,
            run,
            names: Names::default(),
            consumers: Strangers::default(),
            places: Strangers::default(),
            since,
            requests: 0,
            left_out: 0,
            notes,
            last: at,
        })
    }

    /// A request arrives. Returns whether it is decided: not if too many are under way.
    fn arrive(&mut self, mirrored: Mirrored) -> bool {
        let Mirrored { at, model, consumer, api, usage, prompt_bound, cap, class, deadline, came } = mirrored;
        let known = self.runtime.model(&model).map(|known| known.pool);
        let model = if known.is_some() { model } else { UNKNOWN.to_owned() };
        let consumer = consumer.map(|name| match self.run.knows_consumer(&name) {
            true => name.to_string(),
            false => self.consumers.kept(name.to_string()),
        });
        let place = came.as_ref().and_then(|came| came.backend.as_ref()).map(|(backend, deployment)| place_name(backend, deployment));
        let place = place.map(|name| self.run.known_place(&name).unwrap_or_else(|| self.places.kept(name)));
        // Else it would be under way here for as long as the mirror likes.
        let longest = known.and_then(|pool| self.runtime.pools.get(pool)).map_or(Duration::ZERO, |pool| pool.config.timeouts.total);
        let came = came.map(|came| Came { took: came.took.map(|took| took.min(longest)), ..came });
        let took = came.as_ref().and_then(|came| came.took);
        let mut seen = match came {
            Some(Came { status, took, cost, .. }) => csv::seen(status, place.map(|name| self.names.number(&name)), took, cost),
            None => Seen::default(),
        };
        seen.prompt_bound = prompt_bound;
        // The clock may be set back.
        self.last = self.last.max(at);
        self.run.advance(self.last);
        if self.run.under_way() >= UNDER_WAY {
            self.left_out += 1;
            return false;
        }
        self.requests += 1;
        let request = Request {
            at: self.last,
            model: self.names.number(&model),
            consumer: consumer.map(|name| self.names.number(&name)),
            api,
            class,
            usage,
            cap,
            took: took.filter(|took| !took.is_zero()),
            first: None,
            deadline,
            seen: Some(Arc::new(seen)),
        };
        self.run.arrive(&request, &self.names);
        let oldest = self.last.0.saturating_sub(u64::try_from(REMEMBERED.as_nanos()).unwrap_or(u64::MAX));
        self.run.forget_before(Tick(oldest));
        true
    }

    fn figures(&mut self, now: Tick) -> Value {
        self.last = self.last.max(now);
        self.run.advance(self.last);
        let mut outcome = self.run.outcome(&self.names);
        outcome.notes.extend(self.notes.iter().cloned());
        json!({ "since": self.since, "requests": self.requests, "left_out": self.left_out, "under_way": self.run.under_way(), "outcome": outcome, "comparison": self.run.comparison() })
    }
}

/// Names that the config doesn't have: a mirror may send any number of different ones.
#[derive(Debug, Default)]
struct Strangers(HashSet<String>);

impl Strangers {
    /// The name, or the one of all others.
    fn kept(&mut self, name: String) -> String {
        if self.0.contains(&name) {
            return name;
        }
        if self.0.len() >= NAMES {
            return OTHER.to_owned();
        }
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_names_are_kept_and_no_more() {
        let mut strangers = Strangers::default();
        let all: HashSet<String> = (0..5000).map(|number| strangers.kept(number.to_string())).collect();
        assert_eq!(all.len(), NAMES + 1);
        assert_eq!((strangers.kept("7".to_owned()).as_str(), strangers.kept("4999".to_owned()).as_str()), ("7", OTHER));
    }
}
