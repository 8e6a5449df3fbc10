//! Gateways with a twin of the PTU each, that exchange what they send. Twin and decisions are the gateway's own.

use std::time::Duration;

use spillway::balance::ptu::load::{Averages, Capacity};
use spillway::balance::ptu::steer::{Call as Request, Decision, Prefer, Rules, Steering};
use spillway::balance::ptu::twin::Twin;
use spillway::clock::Tick;
use spillway_plugins::limits::Class;

use super::{Asking, Controller, Way};
use crate::call::Call;
use crate::scenario::Scenario;
use crate::truth::configured;

/// The share of attempts that may be refused.
const REFUSALS: f64 = 0.004;

/// What a gateway tells the others.
#[derive(Debug, Clone, Copy)]
enum News {
    Admitted(f64),
    Accepted(f64),
    Settled(f64, Option<f64>),
    Refused(Tick, f64),
}

struct Node {
    twin: Twin,
    steering: Steering,
    averages: Averages,
    news: Vec<News>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Booking {
    booked: f64,
    above: f64,
}

/// The gateways.
pub struct Twins {
    nodes: Vec<Node>,
    capacity: Capacity,
    rules: Rules,
    bookings: Vec<Booking>,
}

impl Twins {
    /// The gateways of a scenario, for so many calls.
    pub fn new(scenario: &Scenario, prefer: Prefer, calls: usize, now: Tick) -> Self {
        let (per_second, output_ratio) = configured(scenario.units);
        let node = || Node {
            twin: Twin::new(scenario.depth, REFUSALS, now),
            steering: Steering::default(),
            averages: Averages::default(),
            news: Vec::new(),
        };
        // Batch calls may wait as long as their deadline allows.
        let patience = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(7200)];
        Twins {
            nodes: (0..scenario.nodes).map(|_| node()).collect(),
            capacity: Capacity { per_second, output_ratio },
            rules: Rules { prefer, patience, ..Rules::default() },
            bookings: vec![Booking::default(); calls],
        }
    }
}

impl Controller for Twins {
    fn ask(&mut self, id: usize, call: &Call, asking: &Asking) -> Way {
        let node = &mut self.nodes[call.node];
        let usual = node.averages.usual(call.consumer, call.prompt);
        let ask = call.ask();
        let booked = self.capacity.booked(&ask, usual.cached, usual.output as u64);
        let expected = self.capacity.expected(&ask, usual);
        let request = Request {
            class: call.class,
            booked,
            price: call.expected_price(usual.cached, usual.output) / expected.max(1e-9),
            deadline: call.deadline,
            takes: Duration::from_secs(30),
            waited: asking.waited,
            is_new: asking.waited.is_zero(),
            reserved: 0.0,
            // The first of those that wait asks for all.
            queued: (call.class == Class::Batch).then_some(0.0),
        };
        match node.steering.decide(&mut node.twin, &self.rules, &request, asking.now) {
            Decision::Use { .. } => {
                let above = node.twin.admitted(asking.now, booked);
                self.bookings[id] = Booking { booked, above };
                node.news.push(News::Admitted(booked));
                Way::Ptu
            }
            Decision::Wait(time) => Way::Wait(time),
            Decision::Spill(_) => Way::Elsewhere,
        }
    }

    fn refused(&mut self, id: usize, call: &Call, wait: Duration, now: Tick) {
        let node = &mut self.nodes[call.node];
        let booked = self.bookings[id].booked;
        node.twin.settled(now, booked, Some(0.0));
        node.twin.refused(now, wait);
        node.news.push(News::Settled(booked, Some(0.0)));
        node.news.push(News::Refused(now + wait, node.twin.drain()));
    }

    fn head(&mut self, id: usize, call: &Call, now: Tick) {
        let node = &mut self.nodes[call.node];
        node.twin.accepted(now, self.bookings[id].above);
        node.news.push(News::Accepted(self.bookings[id].booked));
    }

    fn ended(&mut self, id: usize, call: &Call, now: Tick) {
        let node = &mut self.nodes[call.node];
        let (booked, used) = (self.bookings[id].booked, Some(self.capacity.used(&call.used())));
        node.twin.settled(now, booked, used);
        node.averages.learn(call.consumer, &call.used());
        node.news.push(News::Settled(booked, used));
    }

    fn exchange(&mut self, now: Tick) {
        for from in 0..self.nodes.len() {
            let news = std::mem::take(&mut self.nodes[from].news);
            for (_, to) in self.nodes.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                for one in &news {
                    match *one {
                        News::Admitted(booked) => to.twin.peer_admitted(now, booked),
                        News::Accepted(booked) => to.twin.peer_accepted(now, booked),
                        News::Settled(booked, used) => to.twin.peer_settled(now, booked, used),
                        News::Refused(until, drain) => to.twin.peer_refused(now, until.since(now), drain),
                    }
                }
            }
        }
    }

    fn utilisations(&self, now: Tick) -> Vec<f64> {
        self.nodes.iter().map(|node| node.twin.utilisation(now)).collect()
    }
}
