//! A copy of a PTU's bucket, kept from outside. A PTU doesn't tell how full it is; it accepts a call or refuses it, and a
//! refusal tells for how long. The twin adds up what is sent, lets it drain, and is set right by each refusal.
//!
//! Two numbers: the level (seconds of configured capacity above the 100 % line; below zero there is room) and the drain
//! (configured seconds per second: the real capacity, less what reaches the PTU past this gateway).
//!
//! One refusal in a while is wanted: it is the only exact reading there is. `refusals` is the share of attempts that
//! may be spent on that.

use std::time::Duration;

use super::saved::Saved;
use crate::clock::Tick;

/// The wait to pass to [`Twin::refused`] if a refusal names none.
pub const UNTOLD_WAIT: Duration = Duration::from_millis(300);

/// Bounds of the drain.
const DRAIN: (f64, f64) = (0.1, 1.5);
/// Share of the free depth that is kept free: near its middle, farthest from a refusal and from lost capacity.
const MARGIN: f64 = 0.4;
/// How much the margin grows with each refusal above the budget.
const DEBT_MARGIN: f64 = 0.1;
/// Refusals that may be spared, and owed.
const SPARE: (f64, f64) = (-3.0, 10.0);
/// How far the line goes up with each call that doesn't fit, while a refusal may be spent: this share of the depth, and of
/// how far it has gone. So a level that is far too high is left behind in hundreds of calls, not in tens of thousands.
const RAMP: (f64, f64) = (0.01, 0.02);
/// If nothing was sent for so long, a refusal may be spent.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of an error of the level is taken for an error of the drain, and the shortest time it is divided by.
const GAIN: (f64, f64) = (0.3, 30.0);
/// A pause after which the level is not known any more (a suspended machine).
const PAUSE: Duration = Duration::from_secs(600);
/// For how long the drain must be at a bound for it to be implausible.
const AT_BOUND: Duration = Duration::from_secs(600);
/// For how long the refusals must be above the budget for the bucket to be too small for its calls.
const HOUR: Duration = Duration::from_secs(3600);
/// Mean bookings that the bucket must hold.
const COARSE: f64 = 5.0;
/// The largest load and level, in seconds: what is larger is an error of somebody's.
const MOST: f64 = 3600.0;
/// The longest forecast; what is farther away isn't foreseeable.
const FORESEEN: f64 = 600.0;
/// How much of the free depth a peer's news may be late by.
const PEER_DELAY: f64 = 0.25;

/// Whether a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// There is room for it.
    Fits,
    /// There may be none: it is sent to find out.
    Probe,
    /// There is no room.
    Full,
}

/// The refusals of one hour.
#[derive(Debug, Clone, Copy)]
struct Hour {
    since: Tick,
    attempts: u32,
    refusals: u32,
    /// Whether the hour before was above the budget.
    over: bool,
}

/// The twin of one PTU deployment.
#[derive(Debug, Clone)]
pub struct Twin {
    /// Seconds above the 100 % line; less than zero is room.
    level: f64,
    at: Tick,
    drain: f64,
    depth: f64,
    /// Booked load of calls under way: of this node, of its peers.
    open: f64,
    peer_open: f64,
    peer_at: Tick,
    /// Used load as a share of the booked, and the mean booking.
    real: f64,
    size: f64,
    /// Refusals that may be spent, and how many each admission earns.
    spare: f64,
    earned: f64,
    ramp: f64,
    /// The last moment at which the level was known: a refusal, or an empty bucket.
    fixed: Tick,
    empty: bool,
    /// Refused until then.
    until: Tick,
    /// When this node or another one last sent a call.
    sent: Tick,
    at_bound: Option<Tick>,
    hour: Hour,
}

/// A number that can't do harm: not infinite, not NaN, within bounds.
fn bounded(value: f64, least: f64, most: f64) -> f64 {
    if value.is_nan() { least } else { value.clamp(least, most) }
}

impl Twin {
    /// A twin of a bucket of this depth that is empty now. `refusals`: the share of attempts that may be refused.
    pub fn new(depth: Duration, refusals: f64, now: Tick) -> Self {
        let depth = depth.as_secs_f64().clamp(0.1, MOST);
        Twin {
            level: -depth,
            at: now,
            drain: 1.0,
            depth,
            open: 0.0,
            peer_open: 0.0,
            peer_at: now,
            real: 0.7,
            size: 0.3,
            spare: SPARE.1,
            earned: bounded(refusals, 0.0, 0.5),
            ramp: 0.0,
            fixed: now,
            empty: true,
            until: Tick(0),
            sent: now,
            at_bound: None,
            hour: Hour { since: now, attempts: 0, refusals: 0, over: false },
        }
    }

    /// Whether a call may be sent now. `guard`: the share of the depth that it must leave free. `probe`: whether it may be
    /// sent to find out.
    pub fn fits(&mut self, now: Tick, guard: f64, probe: bool) -> Fit {
        self.run(now);
        if now < self.until {
            return Fit::Full;
        }
        let line = self.line(guard);
        if line < 0.0 {
            return Fit::Fits;
        }
        if !probe {
            return Fit::Full;
        }
        if now.since(self.sent) > SILENCE {
            self.spare = self.spare.max(1.0);
        }
        if self.spare < 1.0 {
            return Fit::Full;
        }
        self.ramp = (self.ramp * (1.0 + RAMP.1) + RAMP.0 * self.depth).min(MOST);
        if line < self.ramp { Fit::Probe } else { Fit::Full }
    }

    /// A call of this booked load is sent. Returns how far above the line the level was: pass that to [`Twin::accepted`].
    pub fn admitted(&mut self, now: Tick, booked: f64) -> f64 {
        self.run(now);
        let (above, booked) = (self.level, bounded(booked, 0.0, MOST));
        self.sent = now;
        self.level = (self.level + booked).min(MOST);
        self.open = (self.open + booked).min(MOST);
        self.size += 0.02 * (booked - self.size);
        self.spare = (self.spare + self.earned).min(SPARE.1);
        self.count(now, 1, 0);
        above
    }

    /// The PTU accepted a call (the head of its answer says so): the bucket was not above the line when it was sent.
    pub fn accepted(&mut self, now: Tick, above: f64) {
        self.run(now);
        let above = bounded(above, 0.0, MOST);
        if above > 0.0 {
            self.set_drain(self.drain + GAIN.0 * above / self.since_fixed(now), now);
            self.level = (self.level - above).max(-self.depth);
        }
    }

    /// A call has ended. `used`: its real load; `None` if it isn't known. A refused call settles with `Some(0.0)`, before
    /// [`Twin::refused`] is called for it.
    pub fn settled(&mut self, now: Tick, booked: f64, used: Option<f64>) {
        self.run(now);
        let booked = bounded(booked, 0.0, MOST);
        self.open = (self.open - booked).max(0.0);
        self.correct(booked, used);
    }

    /// The PTU refused a call, and says how long it takes until it accepts one: what its header says less the way of the
    /// answer, or [`UNTOLD_WAIT`].
    pub fn refused(&mut self, now: Tick, wait: Duration) {
        self.run(now);
        self.spare = (self.spare - 1.0).max(SPARE.0);
        self.count(now, 0, 1);
        let wait = wait.as_secs_f64().min(FORESEEN);
        let known = now.since(self.fixed);
        // A refusal soon after the last one says nothing of the drain; nor does one soon after the bucket was thought empty.
        if known > Duration::from_secs(1) && !(self.empty && known < Duration::from_secs(30)) {
            self.set_drain(self.drain - GAIN.0 * (wait - self.level) / self.since_fixed(now), now);
        }
        self.fix(wait, now);
    }

    /// How long until a call with this guard fits; `None`: not foreseeable.
    pub fn room_in(&self, now: Tick, guard: f64) -> Option<Duration> {
        let over = (self.level_at(now) + self.margin() + bounded(guard, 0.0, 1.0) * self.depth) / self.drain;
        let seconds = over.max(self.until.since(now).as_secs_f64()).max(0.0);
        (seconds <= FORESEEN).then(|| Duration::from_secs_f64(seconds))
    }

    /// How full the bucket is: 0 empty, 1 at the line above which the PTU refuses. More than 1 is above the line.
    pub fn utilisation(&self, now: Tick) -> f64 {
        (1.0 + self.level_at(now) / self.depth).max(0.0)
    }

    /// The net drain as a share of the configured rate: 1.0 if the PTU takes what the config says.
    pub fn drain(&self) -> f64 {
        self.drain
    }

    /// The depth in seconds of configured capacity.
    pub fn depth(&self) -> f64 {
        self.depth
    }

    /// Used load as a share of the booked.
    pub fn real(&self) -> f64 {
        self.real
    }

    /// Another node sent a call.
    pub fn peer_admitted(&mut self, now: Tick, booked: f64) {
        self.run(now);
        let booked = bounded(booked, 0.0, MOST);
        self.level = (self.level + booked).min(MOST);
        self.peer_open = (self.peer_open + booked).min(MOST);
        (self.peer_at, self.sent) = (now, now);
    }

    /// The PTU accepted another node's call.
    pub fn peer_accepted(&mut self, now: Tick, booked: f64) {
        self.run(now);
        // What can be the delay of the news is none.
        let above = self.level - bounded(booked, 0.0, MOST) - PEER_DELAY * self.free();
        self.accepted(now, above);
    }

    /// Another node's call has ended.
    pub fn peer_settled(&mut self, now: Tick, booked: f64, used: Option<f64>) {
        self.run(now);
        let booked = bounded(booked, 0.0, MOST);
        self.peer_open = (self.peer_open - booked).max(0.0);
        self.peer_at = now;
        self.correct(booked, used);
    }

    /// The PTU refused another node's call. `wait`: what is left of its wait. `drain`: what that node makes of it; nodes
    /// that don't agree on the drain would starve one another.
    pub fn peer_refused(&mut self, now: Tick, wait: Duration, drain: f64) {
        self.run(now);
        self.set_drain(bounded(drain, DRAIN.0, DRAIN.1), now);
        self.fix(wait.as_secs_f64().min(FORESEEN), now);
    }

    /// Nothing more is heard of the other nodes: this one counts on its share of the drain.
    pub fn peers_lost(&mut self, now: Tick, nodes: u32) {
        self.run(now);
        self.peer_open = 0.0;
        self.set_drain(self.drain / f64::from(nodes.max(1)), now);
    }

    /// The configured rate changed; `ratio` is the old rate divided by the new one.
    pub fn rescale(&mut self, ratio: f64) {
        let ratio = bounded(ratio, 0.001, 1000.0);
        // What is in the bucket is the same number of tokens; the depth is the same number of seconds.
        self.level = ((self.level + self.depth) * ratio - self.depth).clamp(-self.depth, MOST);
        self.open = (self.open * ratio).min(MOST);
        self.peer_open = (self.peer_open * ratio).min(MOST);
        self.size = (self.size * ratio).min(MOST);
        (self.spare, self.ramp) = (SPARE.1, 0.0);
    }

    /// Whether the drain has been at a bound for ten minutes: the configured rate is far off.
    pub fn is_implausible(&self, now: Tick) -> bool {
        self.at_bound.is_some_and(|since| now.since(since) >= AT_BOUND)
    }

    /// Whether the bucket is too small for the calls, or the refusals of the last hour were above the budget. Then it is
    /// better not to steer ahead.
    pub fn is_too_coarse(&self, now: Tick) -> bool {
        self.depth < COARSE * self.size || (self.hour.over && now.since(self.hour.since) < 2 * HOUR)
    }

    /// Its state at `now`.
    pub fn saved(&self, now: Tick) -> Saved {
        Saved { level: Some(self.level_at(now)), drain: self.drain, real: self.real, size: self.size, spare: self.spare }
    }

    /// Takes over the state of another twin of the same PTU. Without a level it starts where a full bucket is met by a
    /// probe, and not by a burst.
    pub fn restore(&mut self, saved: &Saved, now: Tick) {
        let level = saved.level.unwrap_or(-MARGIN * self.depth);
        self.set_drain(bounded(saved.drain, DRAIN.0, DRAIN.1), now);
        self.real = bounded(saved.real, 0.01, 2.0);
        self.size = bounded(saved.size, 0.0, MOST);
        self.spare = bounded(saved.spare, SPARE.0, SPARE.1);
        (self.at, self.fixed, self.empty) = (now, now, false);
        self.level = bounded(level, -self.depth, MOST);
        (self.open, self.peer_open, self.ramp) = (0.0, 0.0, 0.0);
    }

    /// Lets it drain until `now`.
    fn run(&mut self, now: Tick) {
        let passed = now.since(self.at);
        self.at = self.at.max(now);
        if passed > PAUSE {
            self.level = -MARGIN * self.depth;
            (self.fixed, self.empty, self.open, self.peer_open) = (now, false, 0.0, 0.0);
            return;
        }
        self.level -= self.drain * passed.as_secs_f64();
        if self.level < -self.depth {
            self.level = -self.depth;
            (self.fixed, self.empty) = (now, true);
        }
        // Whoever has said nothing for so long has nothing under way.
        if self.peer_open > 0.0 && now.since(self.peer_at) > PAUSE {
            self.peer_open = 0.0;
        }
    }

    fn level_at(&self, now: Tick) -> f64 {
        (self.level - self.drain * now.since(self.at).as_secs_f64()).max(-self.depth)
    }

    /// The depth less what will be given back: that drains, too, and what drains of it is lost.
    fn free(&self) -> f64 {
        (self.depth - (self.open + self.peer_open) * (1.0 - self.real).max(0.0)).max(self.depth / 4.0)
    }

    fn margin(&self) -> f64 {
        (MARGIN + DEBT_MARGIN * (-self.spare).max(0.0)) * self.free()
    }

    fn line(&self, guard: f64) -> f64 {
        self.level + self.margin() + bounded(guard, 0.0, 1.0) * self.depth
    }

    fn since_fixed(&self, now: Tick) -> f64 {
        now.since(self.fixed).as_secs_f64().max(GAIN.1)
    }

    /// Corrects a booking. A call that used nothing was refused, and says nothing of what calls use.
    fn correct(&mut self, booked: f64, used: Option<f64>) {
        let used = used.map(|used| bounded(used, 0.0, MOST));
        self.level = (self.level + used.unwrap_or(booked * self.real) - booked).clamp(-self.depth, MOST);
        if let Some(used) = used.filter(|used| *used > 0.0)
            && booked > 0.0
        {
            let weight = (0.01 * booked / self.size.max(1e-6)).min(0.5);
            self.real = bounded(self.real + weight * (used / booked - self.real), 0.01, 2.0);
        }
    }

    fn fix(&mut self, wait: f64, now: Tick) {
        self.level = wait;
        (self.fixed, self.empty, self.ramp) = (now, false, 0.0);
        self.until = self.until.max(now + Duration::from_secs_f64(wait));
    }

    fn set_drain(&mut self, drain: f64, now: Tick) {
        self.drain = bounded(drain, DRAIN.0, DRAIN.1);
        let at_bound = self.drain <= DRAIN.0 || self.drain >= DRAIN.1;
        self.at_bound = at_bound.then(|| self.at_bound.unwrap_or(now));
    }

    fn count(&mut self, now: Tick, attempts: u32, refusals: u32) {
        if now.since(self.hour.since) >= HOUR {
            let budget = 1.5 * self.earned * f64::from(self.hour.attempts);
            let over = self.hour.refusals > 10 && f64::from(self.hour.refusals) > budget;
            self.hour = Hour { since: now, attempts: 0, refusals: 0, over };
        }
        self.hour.attempts = self.hour.attempts.saturating_add(attempts);
        self.hour.refusals = self.hour.refusals.saturating_add(refusals);
    }
}

#[cfg(test)]
mod tests;
