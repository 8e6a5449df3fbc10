//! The account of a deployment with provisioned throughput: its twin, what is usual for its calls, who used how much.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::demand::{Demand, PtuConfig};
use super::told::{Decided, Tally};
use crate::balance::ptu::fading::FadingSum;
use crate::balance::ptu::load::{Ask, Averages, Capacity, Usual};
use crate::balance::ptu::saved::Saved;
use crate::balance::ptu::shares::Shares;
use crate::balance::ptu::steer::{Call, Decision, Rules, Steering};
use crate::balance::ptu::twin::Twin;
use crate::balance::ptu::under_way::{GUESS_UNIT, Load};
use crate::clock::Tick;

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: PtuConfig,
    /// The rate that is used: the configured one, or the one that was learned.
    pub(super) capacity: Option<Capacity>,
    pub(super) twin: Twin,
    pub(super) steering: Steering,
    pub(super) averages: Averages,
    pub(super) shares: Shares,
    /// The normalised tokens that were sent in the last while: a first guess of the rate.
    pub(super) flow: FadingSum<30>,
    pub(super) refused: Option<Tick>,
    /// Until when the last 429 said that there is no room.
    pub(super) full_until: Tick,
    pub(super) decided: Decided,
    pub(super) tally: Tally,
}

/// What is booked for a request.
pub(super) struct Booked {
    /// In input tokens; `None` if no rate is known.
    pub(super) load: Option<Load>,
    /// How far the level was above the line before.
    pub(super) above: f64,
    /// The share of the PTU that it uses.
    pub(super) share: Option<usize>,
}

/// The rates that are learned, in tokens per second: no deployment takes more than the greatest.
const RATES: RangeInclusive<f64> = 1.0..=1e12;

/// A rate within [`RATES`]: the nearest one, or the least one for what is no number.
pub(super) fn as_rate(per_second: f64) -> f64 {
    if per_second.is_nan() { *RATES.start() } else { per_second.clamp(*RATES.start(), *RATES.end()) }
}

/// A drain outside of this shows that a learned rate is off: it is learned again.
const PLAUSIBLE: std::ops::Range<f64> = 0.5..1.4;

impl State {
    pub(super) fn new(config: PtuConfig, now: Tick) -> Self {
        let capacity = config.per_second.map(|per_second| Capacity { per_second, output_ratio: config.output_ratio });
        State {
            capacity,
            twin: Twin::new(config.depth, config.refusals, now),
            steering: Steering::default(),
            averages: Averages::default(),
            shares: Shares::new(Arc::clone(&config.shares)),
            flow: FadingSum::default(),
            refused: None,
            full_until: Tick::default(),
            decided: Decided::default(),
            tally: Tally::default(),
            config,
        }
    }

    pub(super) fn usual(&self, demand: &Demand) -> Usual {
        self.averages.usual(demand.caller.consumer, demand.ask.prompt)
    }

    /// The request as the steering sees it.
    fn call(&self, capacity: &Capacity, demand: &Demand, usual: Usual, now: Tick) -> Call {
        let expected = capacity.expected(&demand.ask, usual);
        let price = demand.elsewhere.filter(|_| expected > 0.0).map_or(0.0, |elsewhere| elsewhere.of(&demand.ask, usual) / expected);
        Call {
            class: demand.caller.class,
            expected: expected.min(booked(capacity, demand, usual)),
            price,
            deadline: demand.needed_by,
            takes: demand.takes,
            waited: demand.waited,
            is_new: demand.is_new,
            reserved: self.shares.guard(self.shares.of(&demand.caller), self.twin.drain(), now),
            queued: demand.may_wait.then_some(0.0),
        }
    }

    /// `usual`: what is usual for calls like it.
    pub(super) fn decide(&mut self, demand: &Demand, usual: Usual, rules: &Rules, now: Tick) -> Decision {
        // Until a rate is known there is nothing to steer by.
        let Some(capacity) = self.capacity else { return Decision::Use { probe: false } };
        if self.twin.is_too_coarse(now) {
            return Decision::Use { probe: false };
        }
        let call = self.call(&capacity, demand, usual, now);
        let decision = self.steering.decide(&mut self.twin, rules, &call, now);
        let class = demand.caller.class as usize;
        match decision {
            Decision::Use { probe: false } => self.decided.fits[class] += 1,
            Decision::Use { probe: true } => self.decided.probe[class] += 1,
            Decision::Wait(_) => self.decided.wait[class] += 1,
            Decision::Spill(why) => self.decided.spill[why as usize][class] += 1,
        }
        decision
    }

    /// How full it is, in percent; `None` if its rate isn't known.
    pub(super) fn percent_full(&self, now: Tick) -> Option<u32> {
        self.capacity.is_some().then(|| (100.0 * self.twin.fill(now)).round() as u32)
    }

    /// Books what a request is expected to take.
    pub(super) fn book(&mut self, demand: &Demand, usual: Usual, now: Tick) -> Booked {
        let share = self.shares.of(&demand.caller);
        let Some(capacity) = &self.capacity else {
            let one = Capacity { per_second: 1.0, output_ratio: self.config.output_ratio };
            self.flow.add(one.expected(&demand.ask, usual), now);
            return Booked { load: None, above: 0.0, share };
        };
        let booked = booked(capacity, demand, usual);
        let (expected, per_second) = (capacity.expected(&demand.ask, usual).min(booked), capacity.per_second);
        let prompt = capacity.booked(&Ask { cap: Some(0), ..demand.ask }, usual.cached, 0).min(expected);
        let [capped, uncapped] = capacity.completions(&demand.ask, GUESS_UNIT).map(|most| most.min(MOST_BOOKED));
        let load = Load { booked, expected, prompt, capped, uncapped };
        self.shares.add(share, booked, now);
        let (above, load) = self.twin.admitted(now, load);
        let load = load.times(per_second);
        self.tally.send(load);
        Booked { load: Some(load), above, share }
    }

    pub(super) fn refused(&mut self, wait: Duration, now: Tick) {
        self.refused = Some(now);
        if self.capacity.is_none() {
            let per_second = as_rate(self.flow.per_second(now));
            self.capacity = Some(Capacity { per_second, output_ratio: self.config.output_ratio });
            self.twin = Twin::new(self.config.depth, self.config.refusals, now);
        }
        self.twin.refused(now, wait);
        if self.config.per_second.is_none() {
            self.learn_rate(now);
        }
        self.full_until = now + wait;
        (self.tally.refused, self.tally.drain) = (self.tally.refused + 1, self.twin.drain());
    }

    /// A learned rate that the drain contradicts is replaced by what drains.
    fn learn_rate(&mut self, now: Tick) {
        let drain = self.twin.drain();
        let Some(capacity) = self.capacity.as_mut().filter(|_| !PLAUSIBLE.contains(&drain)) else { return };
        let per_second = as_rate(capacity.per_second * drain);
        self.twin.rescale(capacity.per_second / per_second);
        capacity.per_second = per_second;
        self.twin.restore(&Saved { drain: 1.0, ..self.twin.saved(now) }, now);
    }
}

/// The most seconds that are booked for one request: a cap may be any number, and must not close the deployment to all.
const MOST_BOOKED: f64 = 10.0;

/// The load that is booked: with a usual completion, if the request sets no cap.
fn booked(capacity: &Capacity, demand: &Demand, usual: Usual) -> f64 {
    capacity.booked(&demand.ask, usual.cached, usual.output as u64).min(MOST_BOOKED)
}
