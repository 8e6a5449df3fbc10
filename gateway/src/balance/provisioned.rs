//! The provisioned throughput (PTU) of a target, as the gateway knows it: its twin, what is usual for its calls, and
//! what was decided about them.
//!
//! The twin learns from each call, also if nothing is steered by it. So its view is right when it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ptu::load::{Ask, Averages, Capacity, Used, Usual};
use super::ptu::saved::Saved;
use super::ptu::shares::{Caller, Share, Shares};
use super::ptu::steer::{Call, Decision, Rules, Steering, Why};
use super::ptu::twin::{Twin, UNTOLD_WAIT};
use super::target::{Outcome, Target};
use crate::clock::Tick;

/// The provisioned throughput of a deployment, as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct PtuConfig {
    /// Input tokens that it takes per second; `None` if that is to be learned.
    pub per_second: Option<f64>,
    /// How many input tokens an output token weighs.
    pub output_ratio: f64,
    /// How many seconds' worth of tokens it takes in a burst.
    pub depth: Duration,
    /// The share of requests that may meet a 429.
    pub refusals: f64,
    /// Who is guaranteed how much of it.
    pub shares: Arc<[Share]>,
}

/// What tokens cost at the next tier, in USD each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elsewhere {
    /// A token of the prompt.
    pub input: f64,
    /// A cached token of the prompt.
    pub cached: f64,
    /// A token of the completion.
    pub output: f64,
}

/// What a request is expected to take of provisioned throughput.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Its tokens.
    pub ask: Ask,
    /// Who sends it. Requests of one consumer are thought to be alike.
    pub caller: Caller,
    /// What it costs at the next tier, if known.
    pub elsewhere: Option<Elsewhere>,
    /// When its answer is needed.
    pub needed_by: Option<Tick>,
    /// How long its answer may take.
    pub takes: Duration,
    /// How long it has waited for room.
    pub waited: Duration,
    /// There is a place for it to wait.
    pub may_wait: bool,
}

/// What was learned of provisioned throughput, for another process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The twin's state.
    #[serde(flatten)]
    pub twin: Saved,
    /// The rate to which that refers, in input tokens per second.
    pub per_second: f64,
}

impl Learned {
    /// How full it is has changed by the time that another process reads it.
    #[must_use]
    pub fn without_level(self) -> Self {
        Learned { twin: self.twin.without_level(), ..self }
    }
}

/// What was decided about requests: each count by class, in the order of [`Class::ALL`](spillway_plugins::limits::Class::ALL).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Decided {
    /// There was room.
    pub fits: [u64; 3],
    /// Sent to find out whether there is room.
    pub probe: [u64; 3],
    /// Had to wait. A request that waits twice counts twice.
    pub wait: [u64; 3],
    /// Sent elsewhere: full, kept for dearer ones, kept for those with a share, deadline.
    pub spill: [[u64; 3]; 4],
    /// 429s: of probes, of others.
    pub refusals: [u64; 2],
    /// What the requests that it served would have cost at the next tier, in USD: those that didn't wait, those that did.
    pub saved: [[f64; 3]; 2],
}

/// What is known of a target's provisioned throughput now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// How full it is: 0 for empty, 1 for the line above which it answers 429. `None` until its rate is known.
    pub fill: Option<f64>,
    /// The share of its capacity that was used in the last minute, 0 to 1. `None` until its rate is known.
    pub utilisation: Option<f64>,
    /// Until a request without a guard fits; `None` if that is not foreseeable.
    pub room_in: Option<Duration>,
    /// The drain, as a share of the rate.
    pub drain: f64,
    /// Input tokens per second that it takes, as configured or learned; `None` until the first 429.
    pub per_second: Option<f64>,
    /// When it answered 429 last.
    pub refused: Option<Tick>,
    /// The configured rate is far off.
    pub is_implausible: bool,
    /// Its calls are too large for its depth, so that it can't be steered well.
    pub is_too_coarse: bool,
    /// What was decided.
    pub decided: Decided,
}

/// What this node has done since its start, for the others. All amounts are input tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Booked.
    pub booked: f64,
    /// Of what was booked: what has ended.
    pub ended: f64,
    /// What that used.
    pub used: f64,
    /// Requests that were accepted.
    pub accepted: u64,
    /// 429s.
    pub refused: u64,
    /// The drain after the last one.
    pub drain: f64,
}

#[derive(Debug)]
struct State {
    config: PtuConfig,
    /// The rate that is used: the configured one, or the one that was learned.
    capacity: Option<Capacity>,
    twin: Twin,
    steering: Steering,
    averages: Averages,
    shares: Shares,
    flow: Flow,
    refused: Option<Tick>,
    /// Until when the last 429 said that there is no room.
    full_until: Tick,
    decided: Decided,
    tally: Tally,
}

/// The normalised tokens that were sent in the last while: a first guess of the rate.
#[derive(Debug, Default)]
struct Flow {
    tokens: f64,
    at: Tick,
}

impl Flow {
    /// The time over which it is averaged, in seconds.
    const OVER: f64 = 30.0;

    fn add(&mut self, tokens: f64, now: Tick) {
        self.tokens = self.tokens * self.decay(now) + tokens;
        self.at = self.at.max(now);
    }

    fn per_second(&self, now: Tick) -> f64 {
        self.tokens * self.decay(now) / Self::OVER
    }

    fn decay(&self, now: Tick) -> f64 {
        (-now.since(self.at).as_secs_f64() / Self::OVER).exp()
    }
}

/// The least rate that is learned, in tokens per second.
const LEAST: f64 = 1.0;
/// A drain outside of this shows that a learned rate is off: it is learned again.
const PLAUSIBLE: std::ops::Range<f64> = 0.5..1.4;

impl State {
    fn new(config: PtuConfig, now: Tick) -> Self {
        let capacity = config.per_second.map(|per_second| Capacity { per_second, output_ratio: config.output_ratio });
        State {
            capacity,
            twin: Twin::new(config.depth, config.refusals, now),
            steering: Steering::default(),
            averages: Averages::default(),
            shares: Shares::new(Arc::clone(&config.shares)),
            flow: Flow::default(),
            refused: None,
            full_until: Tick::default(),
            decided: Decided::default(),
            tally: Tally::default(),
            config,
        }
    }

    fn usual(&self, demand: &Demand) -> Usual {
        self.averages.usual(demand.caller.consumer, demand.ask.prompt)
    }

    /// The request as the steering sees it.
    fn call(&self, capacity: &Capacity, demand: &Demand, now: Tick) -> Call {
        let usual = self.usual(demand);
        let expected = capacity.expected(&demand.ask, usual);
        let price = demand.elsewhere.filter(|_| expected > 0.0).map_or(0.0, |elsewhere| elsewhere.of(&demand.ask, usual) / expected);
        Call {
            class: demand.caller.class,
            booked: booked(capacity, demand, usual),
            price,
            deadline: demand.needed_by,
            takes: demand.takes,
            waited: demand.waited,
            reserved: self.shares.guard(self.shares.of(&demand.caller), self.twin.drain(), now),
            queued: demand.may_wait.then_some(0.0),
        }
    }

    fn decide(&mut self, demand: &Demand, rules: &Rules, now: Tick) -> Decision {
        // Until a rate is known there is nothing to steer by.
        let Some(capacity) = self.capacity else { return Decision::Use { probe: false } };
        if self.twin.is_too_coarse(now) {
            return Decision::Use { probe: false };
        }
        let call = self.call(&capacity, demand, now);
        let decision = self.steering.decide(&mut self.twin, rules, &call, now);
        let class = demand.caller.class as usize;
        match decision {
            Decision::Use { probe: false } => self.decided.fits[class] += 1,
            Decision::Use { probe: true } => self.decided.probe[class] += 1,
            Decision::Wait(_) => self.decided.wait[class] += 1,
            Decision::Spill(why) => self.decided.spill[place(why)][class] += 1,
        }
        decision
    }

    fn refused(&mut self, wait: Duration, now: Tick) {
        self.refused = Some(now);
        if self.capacity.is_none() {
            let per_second = self.flow.per_second(now).max(LEAST);
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
        let per_second = (capacity.per_second * drain).max(LEAST);
        self.twin.rescale(capacity.per_second / per_second);
        capacity.per_second = per_second;
        self.twin.restore(&Saved { drain: 1.0, ..self.twin.saved(now) }, now);
    }
}

/// The load that is booked: with a usual completion, if the request sets no cap.
fn booked(capacity: &Capacity, demand: &Demand, usual: Usual) -> f64 {
    capacity.booked(&demand.ask, usual.cached, usual.output as u64)
}

fn place(why: Why) -> usize {
    match why {
        Why::Full => 0,
        Why::Cheap => 1,
        Why::Reserved => 2,
        Why::Deadline => 3,
    }
}

impl Elsewhere {
    /// What a request that used this would have cost, if as much of its prompt had been cached.
    fn of_used(&self, used: &Used) -> f64 {
        let cached = used.cached.min(used.prompt);
        (used.prompt - cached) as f64 * self.input + cached as f64 * self.cached + used.output as f64 * self.output
    }

    /// What a request is expected to cost. Half of what is cached here is thought to be cached there.
    fn of(&self, ask: &Ask, usual: Usual) -> f64 {
        let cached = ask.prompt as f64 * usual.cached / 2.0;
        let most = ask.cap.unwrap_or(u64::MAX).saturating_mul(ask.choices.max(1)) as f64;
        (ask.prompt as f64 - cached) * self.input + cached * self.cached + usual.output.min(most) * self.output
    }
}

/// The provisioned throughput of a target, if it has one.
#[derive(Debug, Default)]
pub struct Provisioned {
    /// A copy of whether `state` is there, to be read without the lock.
    on: AtomicBool,
    state: Mutex<Option<State>>,
}

impl Provisioned {
    /// Whether the target has any.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Sets the configured one. What was learned is kept as far as it still applies.
    pub fn configure(&self, config: Option<PtuConfig>, now: Tick) {
        let mut state = self.state.lock();
        match (config, &mut *state) {
            (Some(config), Some(known)) if known.config == config => {}
            (Some(config), Some(known)) => {
                let before = known.capacity;
                let saved = known.twin.saved(now);
                let mut new = State::new(config, now);
                new.capacity = new.capacity.or(before);
                new.twin.restore(&saved, now);
                if let (Some(before), Some(after)) = (before, new.capacity) {
                    new.twin.rescale(before.per_second / after.per_second);
                }
                (new.averages, new.decided, new.tally) = (std::mem::take(&mut known.averages), known.decided, known.tally);
                *known = new;
            }
            (Some(config), none) => *none = Some(State::new(config, now)),
            (None, some) => *some = None,
        }
        self.on.store(state.is_some(), Ordering::Relaxed);
    }

    /// What to do with a request that could go to this target.
    pub fn decide(&self, demand: &Demand, rules: &Rules, now: Tick) -> Decision {
        if !self.is_on() {
            return Decision::Use { probe: false };
        }
        self.state.lock().as_mut().map_or(Decision::Use { probe: false }, |state| state.decide(demand, rules, now))
    }

    /// Until when a request doesn't fit, if it doesn't now.
    pub fn full_until(&self, now: Tick) -> Option<Tick> {
        if !self.is_on() {
            return None;
        }
        let state = self.state.lock();
        let state = state.as_ref().filter(|state| state.capacity.is_some())?;
        match state.twin.room_in(now, 0.0) {
            Some(Duration::ZERO) => None,
            Some(wait) => Some(now + wait),
            None => Some(Tick::NEVER),
        }
    }

    /// What is known of it.
    pub fn view(&self, now: Tick) -> Option<View> {
        let state = self.state.lock();
        let state = state.as_ref()?;
        let known = state.capacity.is_some();
        Some(View {
            fill: known.then(|| state.twin.fill(now)),
            utilisation: known.then(|| state.twin.utilisation(now)),
            room_in: if known { state.twin.room_in(now, 0.0) } else { Some(Duration::ZERO) },
            drain: state.twin.drain(),
            per_second: state.capacity.map(|capacity| capacity.per_second),
            refused: state.refused,
            is_implausible: state.twin.is_implausible(now),
            is_too_coarse: state.twin.is_too_coarse(now),
            decided: state.decided,
        })
    }

    /// What this node has done, for the others, and how long the last 429 still holds.
    pub fn tally(&self, now: Tick) -> Option<(Tally, Duration)> {
        let state = self.state.lock();
        state.as_ref().map(|state| (state.tally, state.full_until.since(now)))
    }

    /// What another node has done since the last time: a difference of two tallies, and how long its last 429 still
    /// holds.
    pub fn note_peer(&self, done: &Tally, full_for: Duration, now: Tick) {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return };
        let Some(capacity) = state.capacity else { return };
        let seconds = |tokens: f64| if tokens.is_finite() { (tokens / capacity.per_second).max(0.0) } else { 0.0 };
        let booked = seconds(done.booked);
        state.twin.peer_admitted(now, booked);
        if done.accepted > 0 && done.refused == 0 {
            state.twin.peer_accepted(now, booked);
        }
        state.twin.peer_settled(now, seconds(done.ended), Some(seconds(done.used)));
        if done.refused > 0 && !full_for.is_zero() {
            state.twin.peer_refused(now, full_for, done.drain);
        }
    }

    /// Nothing more is heard of the other nodes: this one counts on its share.
    pub fn peers_lost(&self, nodes: u32, now: Tick) {
        if let Some(state) = &mut *self.state.lock() {
            state.twin.peers_lost(now, nodes);
        }
    }

    /// What was learned, for another process; `None` if nothing was.
    pub fn learned(&self, now: Tick) -> Option<Learned> {
        let state = self.state.lock();
        let state = state.as_ref()?;
        let capacity = state.capacity?;
        Some(Learned { twin: state.twin.saved(now), per_second: capacity.per_second })
    }

    /// Takes over what another process has learned. Its rate is used if none is configured.
    pub fn restore(&self, learned: &Learned, now: Tick) {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return };
        let per_second = learned.per_second;
        let theirs = if per_second.is_finite() { per_second.max(LEAST) } else { LEAST };
        let output_ratio = state.config.output_ratio;
        let ours = state.capacity.get_or_insert(Capacity { per_second: theirs, output_ratio }).per_second;
        state.twin.restore(&learned.twin, now);
        state.twin.rescale(theirs / ours);
    }
}

/// What a request takes of a target's provisioned throughput, from its choice to its end.
#[derive(Debug)]
pub struct Booking {
    of: Arc<Provisioned>,
    /// The input tokens that are booked; `None` if no rate was known.
    booked: Option<f64>,
    /// How far the level was above the line before.
    above: f64,
    /// It was sent to find out whether there is room.
    is_probe: bool,
    caller: Caller,
    elsewhere: Option<Elsewhere>,
    has_waited: bool,
    share: Option<usize>,
    /// The target has accepted or refused the request.
    is_answered: bool,
    is_settled: bool,
    at: Tick,
}

impl Booking {
    /// Books what a request is expected to take. `is_probe`: it was decided to send it to find out whether there is room.
    /// `None` if the target has no provisioned throughput.
    pub fn of(target: &Target, demand: &Demand, is_probe: bool, now: Tick) -> Option<Booking> {
        let of = &target.provisioned;
        if !of.is_on() {
            return None;
        }
        let mut state = of.state.lock();
        let state = state.as_mut()?;
        let mut booking = Booking {
            of: Arc::clone(of),
            booked: None,
            above: 0.0,
            is_probe,
            caller: demand.caller,
            elsewhere: demand.elsewhere,
            has_waited: !demand.waited.is_zero(),
            share: state.shares.of(&demand.caller),
            is_answered: false,
            is_settled: false,
            at: now,
        };
        match &state.capacity {
            Some(capacity) => {
                let booked = booked(capacity, demand, state.usual(demand));
                state.shares.add(booking.share, booked, now);
                booking.above = state.twin.admitted(now, booked);
                booking.booked = Some(booked * capacity.per_second);
                state.tally.booked += booked * capacity.per_second;
            }
            None => {
                let one = Capacity { per_second: 1.0, output_ratio: state.config.output_ratio };
                state.flow.add(one.expected(&demand.ask, state.usual(demand)), now);
            }
        }
        Some(booking)
    }

    /// Learns from how the attempt went so far.
    pub fn record(&mut self, outcome: &Outcome, now: Tick) {
        match outcome {
            Outcome::Success { .. } if !std::mem::replace(&mut self.is_answered, true) => {
                let mut state = self.of.state.lock();
                if let (Some(state), Some(_)) = (&mut *state, self.booked) {
                    state.twin.accepted(now, self.above);
                    state.tally.accepted += 1;
                }
            }
            Outcome::Throttled { retry_after, .. } => self.refused(*retry_after, now),
            _ => self.is_answered = true,
        }
    }

    /// The target refused the request: there is no room for this long, if it said so.
    pub fn refused(&mut self, wait: Option<Duration>, now: Tick) {
        self.end(Some(0.0), now);
        self.is_answered = true;
        if let Some(state) = &mut *self.of.state.lock() {
            state.decided.refusals[usize::from(!self.is_probe)] += 1;
            state.refused(wait.unwrap_or(UNTOLD_WAIT), now);
        }
    }

    /// The attempt has ended. `used`: what it took; `None` if that isn't known.
    pub fn settle(mut self, used: Option<Used>, now: Tick) {
        let load = {
            let mut state = self.of.state.lock();
            let Some(state) = &mut *state else { return };
            if let Some(used) = used.filter(|used| used.prompt + used.output > 0) {
                state.averages.learn(self.caller.consumer, &used);
                if let Some(elsewhere) = self.elsewhere {
                    let saved = &mut state.decided.saved[usize::from(self.has_waited)];
                    saved[self.caller.class as usize] += elsewhere.of_used(&used);
                }
            }
            used.zip(state.capacity).map(|(used, capacity)| capacity.used(&used))
        };
        self.end(load, now);
    }

    fn end(&mut self, used: Option<f64>, now: Tick) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        if let (Some(state), Some(booked)) = (&mut *self.of.state.lock(), self.booked)
            && let Some(capacity) = &state.capacity
        {
            let load = booked / capacity.per_second;
            state.twin.settled(now, load, used);
            state.shares.add(self.share, used.unwrap_or(load * state.twin.real()) - load, now);
            state.tally.ended += booked;
            state.tally.used += used.unwrap_or(load * state.twin.real()) * capacity.per_second;
        }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        // Nothing was sent, or nothing is known of what it took.
        let (used, at) = (if self.is_answered { None } else { Some(0.0) }, self.at);
        self.end(used, at);
    }
}

#[cfg(test)]
mod tests;
