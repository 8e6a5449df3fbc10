//! The circuit of the content safety service: while the service fails, requests don't wait for it.
//!
//! A text can make the service fail. So the circuit works like that of a deployment: what one consumer met counts for
//! that consumer only, until a second one met the same.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::{RateSignal, StatusRange, StatusSet};

use crate::balance::circuit::{CircuitRules, ErrorKind, Failure, Threshold};
use crate::balance::target::{Change, Lease, Outcome, RequestKey, Target, TargetId};
use crate::clock::Tick;
use crate::config::number_of;
use crate::shares::Owner;

/// The circuit.
#[derive(Debug)]
pub(super) struct Gate {
    rules: CircuitRules,
    service: Arc<Target>,
}

/// Permission to send a question. Dropped without a result, it changes nothing.
pub(super) struct Pass<'g> {
    rules: &'g CircuitRules,
    lease: Lease,
}

impl Gate {
    pub(super) fn new() -> Self {
        let rules = CircuitRules {
            threshold: Threshold::Percent { percent: 50, min_calls: 10 },
            first_trip: Duration::from_secs(10),
            trip: Duration::from_secs(10),
            // A failure that says nothing about the service is not recorded at all.
            statuses: StatusSet::new([StatusRange::ALL]),
            errors: ErrorKind::NAMES.map(|(_, kind)| kind).to_vec(),
            ..CircuitRules::default()
        };
        let id = TargetId { backend: "content safety".into(), deployment: "".into() };
        Gate { rules, service: Arc::new(Target::new(id, None)) }
    }

    /// Permission for `owner` at `now`, if the circuit is closed or a probe is due.
    pub(super) fn enter(&self, owner: &Owner, now: Tick) -> Option<Pass<'_>> {
        let by = owner.as_deref().map_or(0, number_of);
        let lease = self.service.acquire(RequestKey { by, ..RequestKey::default() }, now)?;
        Some(Pass { rules: &self.rules, lease })
    }
}

impl Pass<'_> {
    /// Records the result; returns what it changed.
    pub(super) fn end(mut self, failure: Option<Failure>, now: Tick) -> Change {
        let outcome = match failure {
            None => Outcome::Success { first: Duration::ZERO, signal: RateSignal::default() },
            Some(failure) => Outcome::Failed { failure, retry_after: None },
        };
        self.lease.record(outcome, self.rules, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BROKEN: Option<Failure> = Some(Failure::Error(ErrorKind::Timeout));

    fn at(seconds: u64) -> Tick {
        Tick::default() + Duration::from_secs(seconds)
    }

    fn owner(name: &str) -> Owner {
        Some(name.into())
    }

    #[test]
    fn it_closes_after_failures_and_lets_one_probe_through() {
        let gate = Gate::new();
        let fails = || gate.enter(&None, at(0)).unwrap().end(BROKEN, at(0));
        assert_eq!((0..10).map(|_| fails()).filter(|change| *change == Change::Tripped).count(), 1);
        assert!(gate.enter(&None, at(5)).is_none());
        let probe = gate.enter(&None, at(11)).unwrap();
        assert!(gate.enter(&None, at(11)).is_none(), "one at a time");
        drop(probe);
        assert_eq!(gate.enter(&None, at(11)).unwrap().end(None, at(11)), Change::Recovered);
        assert!(gate.enter(&None, at(11)).is_some() && gate.enter(&None, at(11)).is_some());
    }

    #[test]
    fn a_service_that_cannot_be_reached_is_down_for_everybody() {
        let gate = Gate::new();
        for _ in 0..10 {
            gate.enter(&owner("a"), at(0)).unwrap().end(Some(Failure::Error(ErrorKind::Connect)), at(0));
        }
        assert!(gate.enter(&owner("b"), at(1)).is_none());
    }

    proptest! {
        /// Whatever one consumer's texts do to the service, and over whatever time: another consumer may ask.
        #[test]
        fn one_consumer_closes_it_for_itself_alone(steps in prop::collection::vec((0u8..5, 0u64..20, any::<bool>()), 1..200)) {
            let gate = Gate::new();
            let (a, b) = (owner("a"), owner("b"));
            let (mut now, mut held) = (at(1), Vec::new());
            for (what, later, keep) in steps {
                now = now + Duration::from_secs(later);
                let failure = match what {
                    0 => None,
                    1 => Some(Failure::Status(http::StatusCode::INTERNAL_SERVER_ERROR)),
                    2 => Some(Failure::Status(http::StatusCode::TOO_MANY_REQUESTS)),
                    3 => Some(Failure::Error(ErrorKind::Reset)),
                    _ => BROKEN,
                };
                match gate.enter(&a, now) {
                    Some(pass) if keep => held.push(pass),
                    Some(pass) => drop(pass.end(failure, now)),
                    None => {}
                }
                prop_assert!(gate.enter(&b, now).is_some());
            }
        }
    }
}
