//! Virtual time: calls come, the PTU's bucket takes or refuses them, answers end.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use spillway::balance::ptu::steer::Prefer;
use spillway::clock::Tick;
use spillway::mock::buckets::{Buckets, Limits};
use spillway_plugins::limits::Class;

use crate::call::{BEGIN, Call, Demand, calls};
use crate::controller::{Asking, Ceiling, Clairvoyant, Controller, Gateways, Kind, Native, Way};
use crate::figures::{Figures, Tally};
use crate::scenario::Scenario;
use crate::truth::Truth;

/// From a call to its refusal.
const ROUND_TRIP: Duration = Duration::from_millis(50);
const EXCHANGE: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask(usize),
    Refused(usize, Duration),
    Head(usize),
    Ended(usize),
    Exchange,
    Second,
}

struct World<'s> {
    scenario: &'s Scenario,
    truth: Truth,
    calls: Vec<Call>,
    demand: Demand,
    buckets: Buckets,
    controller: Box<dyn Controller>,
    events: BinaryHeap<Reverse<(Tick, u64, Event)>>,
    number: u64,
    /// Batch calls that wait at each gateway, by deadline.
    waiting: Vec<BTreeSet<(Tick, usize)>>,
    /// Calls that were sent on their way.
    sent: Vec<bool>,
    tally: Tally,
}

/// Runs a scenario with a controller.
pub fn run(scenario: &Scenario, kind: Kind, seed: u64) -> Figures {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let truth = Truth::draw(scenario, seed, &mut rng);
    let (calls, demand) = calls(scenario, &truth, &mut rng);
    let controller: Box<dyn Controller> = match kind {
        Kind::Today => Box::new(Gateways::new(scenario, None, calls.len(), BEGIN)),
        Kind::Native => Box::new(Native),
        Kind::Ceiling => Box::new(Ceiling::new(scenario.nodes, scenario.units)),
        Kind::Clairvoyant => Box::new(Clairvoyant),
        Kind::Twin => Box::new(Gateways::new(scenario, Some(Prefer::FirstCome), calls.len(), BEGIN)),
        Kind::Savings => Box::new(Gateways::new(scenario, Some(Prefer::Savings), calls.len(), BEGIN)),
    };
    let mut world = World {
        scenario,
        truth,
        demand,
        buckets: Buckets::new(rng.u64(..)),
        controller,
        events: BinaryHeap::new(),
        number: 0,
        waiting: vec![BTreeSet::new(); scenario.nodes],
        sent: vec![false; calls.len()],
        tally: Tally::default(),
        calls,
    };
    world.run();
    world.tally.figures()
}

impl World<'_> {
    fn run(&mut self) {
        for id in 0..self.calls.len() {
            self.at(self.calls[id].at, Event::Ask(id));
        }
        self.at(BEGIN, Event::Exchange);
        self.at(BEGIN, Event::Second);
        let end = BEGIN + SECOND * (self.scenario.minutes * 60) as u32;
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > end {
                break;
            }
            self.tally.now(now.since(BEGIN));
            match event {
                Event::Ask(id) => self.ask(id, now),
                Event::Refused(id, wait) => {
                    self.controller.refused(id, &self.calls[id], wait, now);
                    self.elsewhere(id, now);
                }
                Event::Head(id) => self.controller.head(id, &self.calls[id], now),
                Event::Ended(id) => self.ended(id, now),
                Event::Exchange => {
                    self.controller.exchange(now);
                    self.at(now + EXCHANGE, Event::Exchange);
                }
                Event::Second => {
                    self.second(now);
                    self.at(now + SECOND, Event::Second);
                }
            }
        }
    }

    fn at(&mut self, at: Tick, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn limits(&self, now: Tick) -> Limits {
        let minute = now.since(BEGIN).as_secs() as usize / 60;
        let share = self.scenario.changes.iter().rev().find(|(from, _)| minute >= *from).map_or(1.0, |(_, share)| *share);
        self.truth.limits(share)
    }

    fn ask(&mut self, id: usize, now: Tick) {
        // A call that waits may be woken twice.
        if self.sent[id] {
            return;
        }
        let call = &self.calls[id];
        let limits = self.limits(now);
        let place = (call.deadline.unwrap_or(Tick::NEVER), id);
        let first = self.waiting[call.node].first().copied();
        let late = call.deadline.is_some_and(|deadline| deadline.since(now) < Duration::from_secs(100));
        if call.class == Class::Batch && !late && first.is_some_and(|first| first < place) {
            self.waiting[call.node].insert(place);
            self.at(now + SECOND, Event::Ask(id));
            return;
        }
        let full = self.buckets.utilisation(&limits, now).is_some_and(|level| level >= 1.0);
        let asking = Asking { now, waited: now.since(call.at), full };
        match self.controller.ask(id, call, &asking) {
            Way::Wait(time) => {
                self.waiting[call.node].insert(place);
                self.at(now + time, Event::Ask(id));
                return;
            }
            Way::Elsewhere => self.elsewhere(id, now),
            Way::Ptu => self.ptu(id, &limits, now),
        }
        self.sent[id] = true;
        let node = self.calls[id].node;
        if self.waiting[node].remove(&place)
            && let Some(&(_, next)) = self.waiting[node].first()
        {
            self.at(now, Event::Ask(next));
        }
    }

    fn ptu(&mut self, id: usize, limits: &Limits, now: Tick) {
        let call = &self.calls[id];
        let standing = self.buckets.admit(limits, &call.arrival(), now);
        self.tally.attempt(standing.refused_for.is_some());
        if let Some(wait) = standing.refused_for {
            self.at(now + ROUND_TRIP, Event::Refused(id, wait.saturating_sub(ROUND_TRIP)));
            return;
        }
        let first = now + call.first_token(true);
        self.tally.served(call, first, now);
        let ended = first + call.rest();
        self.at(first, Event::Head(id));
        self.at(ended, Event::Ended(id));
    }

    fn elsewhere(&mut self, id: usize, now: Tick) {
        let call = &self.calls[id];
        self.tally.spilled(call, self.truth.ptu.used(&call.arrival(), call.output));
        self.tally.served(call, now + call.first_token(false), now);
    }

    fn ended(&mut self, id: usize, now: Tick) {
        let call = &self.calls[id];
        let limits = self.limits(now);
        let ptu = &self.truth.ptu;
        self.buckets.settle(&limits, ptu.reserved(&call.arrival()), ptu.used(&call.arrival(), call.output), now);
        self.controller.ended(id, call, now);
    }

    fn second(&mut self, now: Tick) {
        let limits = self.limits(now);
        let second = now.since(BEGIN).as_secs() as usize;
        let takes = limits.ptu.map_or(0.0, |ptu| ptu.per_second());
        // Half of the most that others ask for is their mean.
        let demand = self.scenario.demand * self.demand.at(second) * self.truth.ptu.per_second() / takes + self.scenario.foreign / 2.0;
        let done = self.buckets.done(&limits, now).unwrap_or_default();
        self.tally.second(second, takes, demand, done, &self.controller.utilisations(now));
    }
}
