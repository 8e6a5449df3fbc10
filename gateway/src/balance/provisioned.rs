//! The provisioned throughput (PTU) of a target, as the gateway knows it: its twin, what is usual for its calls, and
//! what was decided about them.
//!
//! The twin learns from each call, also if nothing is steered by it. So its view is right when it is needed.

mod account;
mod demand;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::ptu::load::{Capacity, Used, Usual};
use super::ptu::shares::Caller;
use super::ptu::steer::{Decision, Rules, Why};
use super::ptu::twin::UNTOLD_WAIT;
use super::ptu::under_way::Load;
use account::{Booked, State, as_rate};
pub use demand::{Demand, Elsewhere, PtuConfig};
pub use told::{Decided, Full, Learned, Tally, View};

use crate::clock::Tick;

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
                new.capacity = new.capacity.or(before.map(|known| Capacity { output_ratio: new.config.output_ratio, ..known }));
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

    /// What to do with a request that could go to this target, but isn't sent there now.
    pub fn decide(&self, demand: &Demand, rules: &Rules, now: Tick) -> Decision {
        if !self.is_on() {
            return Decision::Use { probe: false };
        }
        let mut state = self.state.lock();
        state.as_mut().map_or(Decision::Use { probe: false }, |state| state.decide(demand, state.usual(demand), rules, now))
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

    /// How full it is, in percent: 100 is the line above which it answers 429. `None` if there is none, or its rate isn't
    /// known.
    pub fn percent_full(&self, now: Tick) -> Option<u32> {
        if !self.is_on() {
            return None;
        }
        self.state.lock().as_ref().and_then(|state| state.percent_full(now))
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

    /// What this node has done, for the others.
    pub fn tally(&self, now: Tick) -> Option<(Tally, Full)> {
        let state = self.state.lock();
        state.as_ref().map(|state| (state.tally, Full { left: state.full_until.since(now), ago: now.since(state.full_until) }))
    }

    /// What another node has done since the last time (a difference of two tallies), and its last 429.
    pub fn note_peer(&self, done: &Tally, full: Full, now: Tick) {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return };
        let Some(capacity) = state.capacity else { return };
        let sound = |tokens: f64| if tokens.is_finite() { tokens / capacity.per_second } else { 0.0 };
        let [sent, ended] = [done.sent(), done.has_ended()].map(|load| {
            let load = load.times(1.0 / capacity.per_second);
            // A node with an earlier version doesn't tell its prompts.
            if load.prompt > 0.0 { load } else { Load { prompt: load.expected, ..load } }
        });
        state.twin.peer_admitted(now, sent);
        if done.accepted > 0 && done.refused == 0 {
            state.twin.peer_accepted(now, sent.booked);
        }
        state.twin.peer_settled(now, ended, Some(sound(done.used).max(0.0)));
        state.twin.take_off(now, sound(done.told));
        if done.refused > 0 && full.ago < Full::TOLD_BY {
            state.twin.peer_refused(now, full.left, full.ago, done.drain);
        }
    }

    /// Nothing more is heard of the other nodes: this one counts on its share.
    pub fn peers_lost(&self, nodes: u32, now: Tick) {
        if let Some(state) = &mut *self.state.lock() {
            state.twin.peers_lost(now, nodes);
        }
    }

    /// The other nodes are heard again, after [`Provisioned::peers_lost`] with as many `nodes`.
    pub fn peers_back(&self, nodes: u32, now: Tick) {
        if let Some(state) = &mut *self.state.lock() {
            state.twin.peers_back(now, nodes);
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
        let theirs = as_rate(learned.per_second);
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
    /// Its load in input tokens; `None` if no rate was known.
    load: Option<Load>,
    /// The tokens of its prompt that were expected not to be cached.
    prompt: f64,
    /// How many more there were, as far as is known.
    more: f64,
    /// How far the level was above the line before.
    above: f64,
    /// How full it was before, in percent.
    percent_full: Option<u32>,
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

/// What an account says of a request that could go to its target.
#[derive(Debug)]
pub enum Asked {
    /// Send it there. `None` if there is no provisioned throughput.
    Use(Option<Booking>),
    /// Ask again after this time.
    Wait(Duration),
    /// Send it elsewhere.
    Spill(Why),
}

impl Booking {
    /// Decides about a request, and books what it is expected to take if it is to be sent. Both in one step: no other
    /// request takes the same room in between.
    pub fn ask(of: &Arc<Provisioned>, demand: &Demand, rules: &Rules, now: Tick) -> Asked {
        if !of.is_on() {
            return Asked::Use(None);
        }
        let mut state = of.state.lock();
        let Some(state) = state.as_mut() else { return Asked::Use(None) };
        let usual = state.usual(demand);
        match state.decide(demand, usual, rules, now) {
            Decision::Use { probe } => Asked::Use(Some(Booking::made(of, state, demand, usual, probe, now))),
            Decision::Wait(wait) => Asked::Wait(wait),
            Decision::Spill(why) => Asked::Spill(why),
        }
    }

    /// Books what a request is expected to take, whether there is room for it or not. `None` if there is no provisioned
    /// throughput.
    pub fn of(of: &Arc<Provisioned>, demand: &Demand, now: Tick) -> Option<Booking> {
        if !of.is_on() {
            return None;
        }
        let mut state = of.state.lock();
        let state = state.as_mut()?;
        let usual = state.usual(demand);
        Some(Booking::made(of, state, demand, usual, false, now))
    }

    /// `is_probe`: it is sent to find out whether there is room.
    fn made(of: &Arc<Provisioned>, state: &mut State, demand: &Demand, usual: Usual, is_probe: bool, now: Tick) -> Booking {
        let percent_full = state.percent_full(now);
        let Booked { load, above, share } = state.book(demand, usual, now);
        Booking {
            of: Arc::clone(of),
            load,
            prompt: demand.ask.prompt as f64 * (1.0 - usual.cached),
            more: 0.0,
            above,
            percent_full,
            is_probe,
            caller: demand.caller,
            elsewhere: demand.elsewhere,
            has_waited: !demand.waited.is_zero(),
            share,
            is_answered: false,
            is_settled: false,
            at: now,
        }
    }

    /// How full the provisioned throughput was before, in percent; `None` if its rate isn't known.
    pub fn percent_full(&self) -> Option<u32> {
        self.percent_full
    }

    /// The target accepted the request.
    pub fn accepted(&mut self, now: Tick) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        if let (Some(state), Some(_)) = (&mut *self.of.state.lock(), self.load) {
            state.twin.accepted(now, self.above);
            state.tally.accepted += 1;
        }
    }

    /// The target answered in another way, which says nothing about its room.
    pub fn answered(&mut self) {
        self.is_answered = true;
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
            // What was refused was served elsewhere, if at all.
            if let Some(used) = used.filter(|used| !self.is_settled && used.prompt + used.output > 0) {
                state.averages.learn(self.caller.consumer, &used);
                if let Some(elsewhere) = self.elsewhere {
                    let saved = &mut state.decided.saved[usize::from(self.has_waited)];
                    saved[self.caller.class as usize] += elsewhere.of_used(&used);
                }
            }
            if let Some(used) = &used {
                self.more = used.prompt.saturating_sub(used.cached) as f64 - self.prompt;
            }
            used.zip(state.capacity).map(|(used, capacity)| capacity.used(&used))
        };
        self.end(load, now);
    }

    fn end(&mut self, used: Option<f64>, now: Tick) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        if let (Some(state), Some(tokens)) = (&mut *self.of.state.lock(), self.load)
            && let Some(capacity) = &state.capacity
        {
            let load = tokens.times(1.0 / capacity.per_second);
            let told = state.twin.told(self.at, self.more / capacity.per_second);
            state.twin.settled(now, load, used);
            state.twin.take_off(now, told);
            let took = used.unwrap_or(load.expected);
            state.shares.correct(self.share, took - load.booked, now.since(self.at), now);
            state.tally.end(tokens, took * capacity.per_second, told * capacity.per_second);
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
