//! What the gateway does without a twin: it sends until it is refused, then goes elsewhere for as long as the refusal says.
//! The route and the targets are the gateway's own.

use std::sync::Arc;
use std::time::Duration;

use spillway::balance::circuit::CircuitRules;
use spillway::balance::policy::Policy;
use spillway::balance::route::{Member, PickRequest, Route};
use spillway::balance::target::{Lease, Outcome, RequestKey, Target, TargetId};
use spillway::clock::Tick;
use spillway_plugins::retry::ThrottleScope;

use super::{Asking, Controller, Way};
use crate::call::Call;

/// Gateways that react.
pub struct Today {
    routes: Vec<Route>,
    leases: Vec<Option<Lease>>,
    rules: CircuitRules,
    rng: fastrand::Rng,
}

impl Today {
    /// So many gateways, for so many calls.
    pub fn new(nodes: usize, calls: usize) -> Self {
        let member = |name: &str, priority: u32| Member {
            target: Arc::new(Target::new(TargetId { backend: name.into(), deployment: "gpt-5.1".into() }, None)),
            priority,
            weight: 1,
            location: None,
            backend: 0,
            up: Default::default(),
            serves: Default::default(),
        };
        let route = || Route::new(vec![member("ptu", 1), member("standard", 2)], Policy::Weighted);
        Today {
            routes: (0..nodes).map(|_| route()).collect(),
            leases: (0..calls).map(|_| None).collect(),
            rules: CircuitRules::default(),
            rng: fastrand::Rng::with_seed(1),
        }
    }

    fn record(&mut self, id: usize, outcome: Outcome, now: Tick) {
        if let Some(lease) = &mut self.leases[id] {
            lease.record(outcome, &self.rules, now);
        }
    }
}

impl Controller for Today {
    fn ask(&mut self, id: usize, call: &Call, asking: &Asking) -> Way {
        let request = PickRequest {
            excluded: &[],
            throttled: &[],
            tried: &[],
            fence: None,
            affinity_key: call.consumer,
            key: RequestKey { by: call.consumer, ..RequestKey::default() },
            demand: None,
            class: call.class,
            is_late: false,
        };
        match self.routes[call.node].pick(&request, asking.now, &mut self.rng) {
            Ok(pick) if pick.index == 0 => {
                self.leases[id] = Some(pick.lease);
                Way::Ptu
            }
            _ => Way::Elsewhere,
        }
    }

    fn refused(&mut self, id: usize, _: &Call, wait: Duration, now: Tick) {
        self.record(id, Outcome::Throttled { retry_after: Some(wait), scope: ThrottleScope::Deployment }, now);
        self.leases[id] = None;
    }

    fn head(&mut self, id: usize, call: &Call, now: Tick) {
        self.record(id, Outcome::Success { first: call.first_token(true), signal: Default::default() }, now);
    }

    fn ended(&mut self, id: usize, _: &Call, _: Tick) {
        self.leases[id] = None;
    }

    fn exchange(&mut self, now: Tick) {
        let ptu = |route: &Route| Arc::clone(&route.members()[0].target);
        for from in &self.routes {
            let Some(until) = ptu(from).throttled_until(now) else { continue };
            self.routes.iter().for_each(|to| ptu(to).throttle_until(until, now));
        }
    }
}
