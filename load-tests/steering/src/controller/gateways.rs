//! Gateways: the routes, targets, and accounts of the PTU are the gateway's own. Without steering they send until they are
//! refused, then go elsewhere for as long as the refusal says.

use std::sync::Arc;
use std::time::Duration;

use spillway::balance::circuit::CircuitRules;
use spillway::balance::policy::Policy;
use spillway::balance::provisioned::{Booking, Demand, PtuConfig, Tally};
use spillway::balance::ptu::shares::Caller;
use spillway::balance::ptu::steer::{Prefer, Rules};
use spillway::balance::route::{Member, NoneReady, PickRequest, Route};
use spillway::balance::target::{Lease, Outcome, RequestKey, Target, TargetId};
use spillway::clock::Tick;
use spillway_plugins::limits::Class;
use spillway_plugins::retry::ThrottleScope;

use super::{Asking, Controller, Way};
use crate::call::{Call, ELSEWHERE};
use crate::scenario::Scenario;
use crate::truth::configured;

/// The share of attempts that may be refused.
const REFUSALS: f64 = 0.004;

struct Node {
    route: Route,
    ptu: Arc<Target>,
    /// What the others have last heard of its account.
    told: Tally,
}

/// The gateways.
pub struct Gateways {
    nodes: Vec<Node>,
    is_steered: bool,
    under_way: Vec<Option<(Lease, Option<Booking>)>>,
    rules: CircuitRules,
    rng: fastrand::Rng,
}

impl Gateways {
    /// The gateways of a scenario, for so many calls. `prefer`: which calls get the room first; `None` if nothing is steered.
    pub fn new(scenario: &Scenario, prefer: Option<Prefer>, calls: usize, now: Tick) -> Self {
        // Batch calls may wait as long as their deadline allows.
        let patience = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(7200)];
        let rules = prefer.map(|prefer| Rules { prefer, patience, ..Rules::default() });
        Gateways {
            nodes: (0..scenario.nodes).map(|_| node(scenario, rules, now)).collect(),
            is_steered: rules.is_some(),
            under_way: (0..calls).map(|_| None).collect(),
            rules: CircuitRules::default(),
            rng: fastrand::Rng::with_seed(1),
        }
    }
}

fn node(scenario: &Scenario, rules: Option<Rules>, now: Tick) -> Node {
    let member = |name: &str, priority: u32| Member {
        target: Arc::new(Target::new(TargetId { backend: name.into(), deployment: "gpt-5.1".into() }, None)),
        priority,
        weight: 1,
        location: None,
        backend: 0,
        up: Default::default(),
        serves: Default::default(),
    };
    let members = vec![member("ptu", 1), member("standard", 2)];
    let ptu = Arc::clone(&members[0].target);
    let mut route = Route::new(members, Policy::Weighted);
    if rules.is_some() {
        let (per_second, output_ratio) = configured(scenario.units);
        let (depth, shares) = (scenario.depth, Arc::default());
        ptu.provisioned.configure(Some(PtuConfig { per_second: Some(per_second), output_ratio, depth, refusals: REFUSALS, shares }), now);
        route = route.provisioned(rules);
    }
    Node { route, ptu, told: Tally::default() }
}

impl Controller for Gateways {
    fn ask(&mut self, id: usize, call: &Call, asking: &Asking) -> Way {
        let demand = Demand {
            ask: call.ask(),
            caller: Caller { consumer: call.consumer, group: None, class: call.class },
            elsewhere: Some(ELSEWHERE),
            needed_by: call.deadline,
            takes: Duration::from_secs(30),
            waited: asking.waited,
            may_wait: call.class == Class::Batch,
            is_new: asking.waited.is_zero(),
        };
        let request = PickRequest {
            excluded: &[],
            throttled: &[],
            tried: &[],
            fence: None,
            affinity_key: call.consumer,
            key: RequestKey { by: call.consumer, ..RequestKey::default() },
            demand: self.is_steered.then_some(&demand),
            class: call.class,
            is_late: false,
        };
        match self.nodes[call.node].route.pick(&request, asking.now, &mut self.rng) {
            Ok(pick) if pick.index == 0 => {
                self.under_way[id] = Some((pick.lease, pick.booking));
                Way::Ptu
            }
            Err(NoneReady { room_at: Some(at), .. }) => Way::Wait(at.since(asking.now)),
            _ => Way::Elsewhere,
        }
    }

    fn refused(&mut self, id: usize, _: &Call, wait: Duration, now: Tick) {
        let Some((mut lease, booking)) = self.under_way[id].take() else { return };
        lease.record(Outcome::Throttled { retry_after: Some(wait), scope: ThrottleScope::Deployment }, &self.rules, now);
        if let Some(mut booking) = booking {
            booking.refused(Some(wait), now);
        }
    }

    fn head(&mut self, id: usize, call: &Call, now: Tick) {
        let Some((lease, booking)) = &mut self.under_way[id] else { return };
        lease.record(Outcome::Success { first: call.first_token(true), signal: Default::default() }, &self.rules, now);
        if let Some(booking) = booking {
            booking.accepted(now);
        }
    }

    fn ended(&mut self, id: usize, call: &Call, now: Tick) {
        if let Some((_, Some(booking))) = self.under_way[id].take() {
            booking.settle(Some(call.used()), now);
        }
    }

    fn exchange(&mut self, now: Tick) {
        for from in 0..self.nodes.len() {
            let others = || self.nodes.iter().enumerate().filter(|(to, _)| *to != from).map(|(_, node)| &node.ptu);
            if let Some(until) = self.nodes[from].ptu.throttled_until(now) {
                others().for_each(|ptu| ptu.throttle_until(until, now));
            }
            let Some((tally, full)) = self.nodes[from].ptu.provisioned.tally(now) else { continue };
            if let Some(news) = tally.since(&self.nodes[from].told) {
                others().for_each(|ptu| ptu.provisioned.note_peer(&news, full, now));
            }
            self.nodes[from].told = tally;
        }
    }

    fn utilisations(&self, now: Tick) -> Vec<f64> {
        self.nodes.iter().filter_map(|node| node.ptu.provisioned.view(now)?.utilisation).collect()
    }
}
