//! A copy of a PTU's bucket, kept from outside. A PTU doesn't tell how full it is; it accepts a call or refuses it, and a
//! refusal tells for how long. The twin adds up what is sent, lets it drain, and is set right by each refusal.
//!
//! Estimated are the level (seconds of configured capacity above the 100 % line; below zero there is room), the drain
//! (configured seconds per second: the real capacity, less what reaches the PTU past this gateway), and what the PTU reserves for
//! a completion until it ends. A Kalman filter learns them from what is refused and accepted.
//!
//! One refusal in a while is wanted: it is the only exact reading there is. `refusals` is the share of attempts that
//! may be spent on that.

use std::time::Duration;

use super::filter::{DRAIN, Filter, Open};
use super::hour::Hour;
use super::saved::Saved;
use super::under_way::{Load, MOST, UnderWay, bounded};
use crate::clock::Tick;

/// The wait to pass to [`Twin::refused`] if a refusal names none.
pub const UNTOLD_WAIT: Duration = Duration::from_millis(300);

/// Share of the free depth that is kept free: near its middle, farthest from a refusal and from lost capacity.
const MARGIN: f64 = 0.3;
/// How much the margin grows with each refusal above the budget.
const DEBT_MARGIN: f64 = 0.04;
/// How much of what will be given back counts as depth that isn't free.
const GIVEN_BACK: f64 = 0.5;
/// Refusals that may be spared, and owed.
const SPARE: (f64, f64) = (-6.0, 10.0);
/// The share of the refusals that is earned. Most come by themselves: the level is known to two or three seconds, and room
/// is used up to three below the line.
const EARNED: f64 = 0.8;
/// How far the line goes up with each call that doesn't fit, while a refusal may be spent: this share of the depth, and of
/// how far it has gone. So a level that is far too high is left behind in hundreds of calls, not in tens of thousands.
const RAMP: (f64, f64) = (0.01, 0.02);
/// If nothing was sent for so long, a refusal may be spent.
const SILENCE: Duration = Duration::from_secs(60);
/// How exact the time is that a refusal names, in seconds: to this node, and to a peer.
const EXACT: (f64, f64) = (0.05, 0.25);
/// The variance of what calls under way turn out to use, as a share of booked load times mean booking.
const IN_FLIGHT: f64 = 0.3;
/// How uncertain the level of an empty bucket is, and that of one after a pause, as shares of the depth.
const UNSURE: (f64, f64) = (0.1, 0.3);
/// A pause after which the level is not known any more (a suspended machine).
const PAUSE: Duration = Duration::from_secs(600);
/// For how long the drain must be at a bound for it to be implausible.
const AT_BOUND: Duration = Duration::from_secs(600);
/// Mean bookings that the bucket must hold.
const COARSE: f64 = 5.0;
/// How much faster than estimated the level is thought to rise where it must not be underestimated, in standard deviations of the
/// drain.
const DOUBT: f64 = 0.5;
/// How fast what the PTU takes is thought to fall and to rise with the drain, as the seconds in which it follows. The drain
/// also falls when others send more for a while, and the bucket is as large as before.
const FOLLOWS: (f64, f64) = (300.0, 60.0);
/// Bounds of what the bucket holds, as shares of its configured depth.
const HOLDS: (f64, f64) = (0.3, 1.5);
/// Bounds of what calls use, as a share of what was expected.
const REAL: (f64, f64) = (0.05, 5.0);
/// The longest forecast; what is farther away isn't foreseeable.
const FORESEEN: f64 = 600.0;

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

/// The twin of one PTU deployment.
#[derive(Debug, Clone)]
pub struct Twin {
    /// Level (without completions under way), drain, and what the bucket reserves for completions.
    filter: Filter,
    at: Tick,
    depth: f64,
    /// What the PTU takes when nobody else sends anything, as a share of the configured rate.
    takes: f64,
    /// Share of the last minute in which the bucket was not empty.
    busy: f64,
    /// By how much observations have moved the level, all in all.
    moved: f64,
    /// Calls under way: of this node, of its peers.
    open: UnderWay,
    peer_open: UnderWay,
    peer_at: Tick,
    /// By how much the level may be above its estimate, in seconds: nothing shows it while the PTU is nearly empty.
    doubt: f64,
    /// What calls use, as a share of what was expected of them, and the mean booking.
    real: f64,
    size: f64,
    /// Refusals that may be spent, and how many each admission earns.
    spare: f64,
    earned: f64,
    ramp: f64,
    /// When a refusal told the level last, and which share of an error that took out.
    read: (Tick, f64),
    /// Refused until then.
    until: Tick,
    /// When this node or another one last sent a call.
    sent: Tick,
    at_bound: Option<Tick>,
    hour: Hour,
}

impl Twin {
    /// A twin of a bucket of this depth that is empty now. `refusals`: the share of attempts that may be refused.
    pub fn new(depth: Duration, refusals: f64, now: Tick) -> Self {
        let depth = depth.as_secs_f64().clamp(0.1, MOST);
        Twin {
            filter: Filter::new(-depth, depth),
            at: now,
            depth,
            takes: 1.0,
            busy: 0.0,
            moved: 0.0,
            open: UnderWay::default(),
            peer_open: UnderWay::default(),
            peer_at: now,
            doubt: 0.0,
            real: 1.0,
            size: 0.3,
            spare: SPARE.1,
            earned: EARNED * bounded(refusals, 0.0, 0.5),
            ramp: 0.0,
            read: (Tick(0), 0.0),
            until: Tick(0),
            sent: now,
            at_bound: None,
            hour: Hour::new(now),
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

    /// A call of this load is sent. Returns the level before, for [`Twin::accepted`], and the load as it was counted, for
    /// [`Twin::settled`].
    pub fn admitted(&mut self, now: Tick, load: Load) -> (f64, Load) {
        self.run(now);
        // Less what observations have moved it, so that a later one isn't counted twice.
        let above = self.level() - self.moved;
        let load = Load { expected: load.expected * self.real, ..load }.sound();
        self.sent = now;
        self.open.add(load);
        self.filter.level = (self.filter.level + load.prompt).min(MOST);
        self.spare = (self.spare + self.earned).min(SPARE.1);
        self.count(now, 1, 0);
        (above, load)
    }

    /// The PTU accepted a call (the head of its answer says so): the bucket was not above the line when it was sent.
    pub fn accepted(&mut self, now: Tick, above: f64) {
        self.run(now);
        let above = bounded(above + self.moved, -MOST, MOST);
        self.doubt = self.doubt.min((-above).max(0.0));
        self.moved += self.filter.below(above, self.asked());
        self.keep_within(now);
    }

    /// A call has ended. `load`: as [`Twin::admitted`] counted it. `used`: its real load; `None` if it isn't known. A refused call
    /// settles with `Some(0.0)`, before [`Twin::refused`] is called for it.
    pub fn settled(&mut self, now: Tick, load: Load, used: Option<f64>) {
        self.run(now);
        let load = load.sound();
        let in_level = self.open.take(load);
        self.correct(load, in_level, used);
        // What used nothing was refused, by the PTU or as a faulty request, and may have asked for anything.
        if used.is_none_or(|used| used > 0.0) {
            self.size += 0.02 * (load.booked - self.size);
        }
    }

    /// What a refusal has told already of a call that was sent `at`, and whose prompt turns out to be larger by `more` than was
    /// expected. The bucket held that when it refused: it was in the level that the refusal told, and [`Twin::settled`] adds it
    /// again. It has to be taken off with [`Twin::take_off`].
    pub fn told(&self, at: Tick, more: f64) -> f64 {
        if at < self.read.0 { self.read.1 * bounded(more, -MOST, MOST) } else { 0.0 }
    }

    /// Takes off what was [`Twin::told`], here or to another node.
    pub fn take_off(&mut self, now: Tick, told: f64) {
        self.run(now);
        self.filter.level = bounded(self.filter.level - bounded(told, -MOST, MOST), -2.0 * MOST, MOST);
        self.keep_within(now);
    }

    /// The PTU refused a call, and says how long it takes until it accepts one: what its header says less the way of the
    /// answer, or [`UNTOLD_WAIT`].
    pub fn refused(&mut self, now: Tick, wait: Duration) {
        self.run(now);
        self.spare = (self.spare - 1.0).max(SPARE.0);
        self.count(now, 0, 1);
        self.observe(now, wait, Duration::ZERO, EXACT.0);
    }

    /// How long until a call with this guard fits; `None`: not foreseeable.
    pub fn room_in(&self, now: Tick, guard: f64) -> Option<Duration> {
        let over = (self.level_at(now) + self.margin() + bounded(guard, 0.0, 1.0) * self.holds()) / self.drain();
        let seconds = over.max(self.until.since(now).as_secs_f64()).max(0.0);
        (seconds <= FORESEEN).then(|| Duration::from_secs_f64(seconds))
    }

    /// How full the bucket is: 0 empty, 1 at the line above which the PTU refuses. More than 1 is above the line.
    pub fn fill(&self, now: Tick) -> f64 {
        (1.0 + self.level_at(now) / self.holds()).max(0.0)
    }

    /// Which share of its capacity the PTU used in the last minute (older minutes count for less and less), 0 to 1: the
    /// share of time in which its bucket was not empty. Azure's monitor means the same by utilisation.
    pub fn utilisation(&self, now: Tick) -> f64 {
        let passed = now.since(self.at).as_secs_f64();
        self.averaged(passed, self.busy_share(passed))
    }

    /// The net drain as a share of the configured rate: 1.0 if the PTU takes what the config says.
    pub fn drain(&self) -> f64 {
        self.filter.drain
    }

    /// The configured depth, in seconds.
    pub fn depth(&self) -> f64 {
        self.depth
    }

    /// What calls use, as a share of what was expected of them.
    pub fn real(&self) -> f64 {
        self.real
    }

    /// By how much the bucket may be fuller than its estimate says, as a share of what it holds: the drain is uncertain, and nothing
    /// shows the level while it is low. Zero once it must be empty whatever the drain is.
    pub fn doubt(&self) -> f64 {
        self.doubt / self.holds()
    }

    /// Another node sent a call of this load, as it counted it.
    pub fn peer_admitted(&mut self, now: Tick, load: Load) {
        self.run(now);
        let load = load.sound();
        self.peer_open.add(load);
        self.filter.level = (self.filter.level + load.prompt).min(MOST);
        (self.peer_at, self.sent) = (now, now);
    }

    /// The PTU accepted another node's call.
    pub fn peer_accepted(&mut self, now: Tick, booked: f64) {
        self.run(now);
        let above = self.level() - bounded(booked, 0.0, MOST);
        self.accepted(now, above - self.moved);
    }

    /// Another node's call has ended.
    pub fn peer_settled(&mut self, now: Tick, load: Load, used: Option<f64>) {
        self.run(now);
        let load = load.sound();
        let in_level = self.peer_open.take(load);
        self.peer_at = now;
        self.correct(load, in_level, used);
    }

    /// The PTU refused another node's call. `wait`: what is left of its wait; `ago`: how long ago it ended, and the level was at
    /// the line. `drain`: what that node makes of it; nodes that don't agree on the drain would starve one another.
    pub fn peer_refused(&mut self, now: Tick, wait: Duration, ago: Duration, drain: f64) {
        self.run(now);
        self.observe(now, wait, ago, EXACT.1);
        self.filter.drain = bounded(drain, DRAIN.0, DRAIN.1);
        self.keep_within(now);
    }

    /// Nothing more is heard of the other nodes: this one counts on its share of the drain.
    pub fn peers_lost(&mut self, now: Tick, nodes: u32) {
        self.run(now);
        self.peer_open = UnderWay::default();
        self.filter.drain = (self.drain() / f64::from(nodes.max(1))).max(DRAIN.0);
        self.keep_within(now);
    }

    /// The other nodes are heard again: what [`Twin::peers_lost`] did is undone.
    pub fn peers_back(&mut self, now: Tick, nodes: u32) {
        self.run(now);
        self.filter.drain = (self.drain() * f64::from(nodes.max(1))).min(DRAIN.1);
        self.keep_within(now);
    }

    /// The configured rate changed; `ratio` is the old rate divided by the new one.
    pub fn rescale(&mut self, ratio: f64) {
        let ratio = bounded(ratio, 0.001, 1000.0);
        // What is in the bucket is the same number of tokens; the depth is the same number of seconds.
        self.filter.level = ((self.filter.level + self.holds()) * ratio - self.holds()).clamp(-self.holds(), MOST);
        self.open.rescale(ratio);
        self.peer_open.rescale(ratio);
        self.doubt = (self.doubt * ratio).min(MOST);
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
        self.depth < COARSE * self.size || self.hour.was_over(now)
    }

    /// Its state at `now`.
    pub fn saved(&self, now: Tick) -> Saved {
        Saved {
            // What calls under way hold is given back before another process counts.
            level: Some(bounded(self.level_at(now) - self.given_back(), -self.holds(), MOST)),
            drain: self.drain(),
            reserves: self.filter.reserves(),
            used: self.real,
            size: self.size,
            spare: self.spare,
        }
    }

    /// Takes over the state of another twin of the same PTU. Without a level it starts where a full bucket is met by a
    /// probe, and not by a burst.
    pub fn restore(&mut self, saved: &Saved, now: Tick) {
        let unsure = if saved.level.is_some() { UNSURE.0 } else { UNSURE.1 };
        self.doubt = if saved.level.is_some() { 0.0 } else { unsure * self.holds() };
        self.filter.drain = bounded(saved.drain, DRAIN.0, DRAIN.1);
        self.filter.set_reserves(saved.reserves);
        self.takes = self.drain();
        let level = saved.level.unwrap_or(-MARGIN * self.holds());
        self.filter.set_level(bounded(level, -self.holds(), MOST), unsure * self.holds());
        self.real = bounded(saved.used, REAL.0, REAL.1);
        self.size = bounded(saved.size, 0.0, MOST);
        self.spare = bounded(saved.spare, SPARE.0, SPARE.1);
        self.at = now;
        (self.open, self.peer_open, self.ramp) = (UnderWay::default(), UnderWay::default(), 0.0);
        self.keep_within(now);
    }

    /// Lets it drain until `now`.
    fn run(&mut self, now: Tick) {
        let passed = now.since(self.at);
        self.at = self.at.max(now);
        if passed > PAUSE {
            self.filter.set_level(-MARGIN * self.holds(), UNSURE.1 * self.holds());
            self.doubt = UNSURE.1 * self.holds();
            (self.open, self.peer_open) = (UnderWay::default(), UnderWay::default());
            return;
        }
        // A decision, its booking and what they show come at the same time.
        if passed.is_zero() {
            return self.keep_within(now);
        }
        let seconds = passed.as_secs_f64();
        self.busy = self.averaged(seconds, self.busy_share(seconds));
        self.filter.pass(seconds);
        self.doubt = (self.doubt + DOUBT * self.filter.drain_deviation() * seconds).min(MOST);
        let follows = if self.drain() > self.takes { FOLLOWS.1 } else { FOLLOWS.0 };
        self.takes += (1.0 - (-seconds / follows).exp()) * (self.drain() - self.takes);
        self.keep_within(now);
        // Whoever has said nothing for so long has nothing under way.
        if self.peer_open.load().booked > 0.0 && now.since(self.peer_at) > PAUSE {
            self.peer_open = UnderWay::default();
        }
    }

    /// The share of the next seconds in which the bucket is not empty, if nothing more is sent.
    fn busy_share(&self, seconds: f64) -> f64 {
        let lasts = ((self.level() + self.holds()) / self.drain()).max(0.0);
        if seconds > lasts { lasts / seconds } else { 1.0 }
    }

    fn averaged(&self, seconds: f64, busy: f64) -> f64 {
        // The mean of the last minute is half a minute old.
        self.busy + (1.0 - (-seconds / 30.0).exp()) * (busy - self.busy)
    }

    fn level(&self) -> f64 {
        self.filter.observed(self.asked())
    }

    fn level_at(&self, now: Tick) -> f64 {
        (self.level() - self.drain() * now.since(self.at).as_secs_f64()).max(-self.holds())
    }

    /// The load of calls under way.
    fn under_way(&self) -> Load {
        self.open.load().plus(self.peer_open.load())
    }

    /// The completions that calls under way ask for.
    fn asked(&self) -> Open {
        let Load { capped, uncapped, .. } = self.under_way();
        [capped, uncapped]
    }

    /// What will be given back when calls under way end: they are expected to use less than is reserved for them.
    fn given_back(&self) -> f64 {
        let Load { expected, prompt, .. } = self.under_way();
        self.filter.reserved(self.asked()) - (expected - prompt)
    }

    /// What the bucket holds, in seconds of configured capacity. Its depth is a time at the rate that the PTU really takes.
    fn holds(&self) -> f64 {
        self.depth * self.takes.clamp(HOLDS.0, HOLDS.1)
    }

    /// What it holds less what will be given back: that drains, too, and what drains of it is lost.
    fn free(&self) -> f64 {
        (self.holds() - GIVEN_BACK * self.given_back()).max(self.holds() * 0.25)
    }

    fn margin(&self) -> f64 {
        (MARGIN + DEBT_MARGIN * (-self.spare).max(0.0)) * self.free()
    }

    fn line(&self, guard: f64) -> f64 {
        self.level() + self.margin() + bounded(guard, 0.0, 1.0) * self.holds()
    }

    /// Corrects what was expected of a call. One that used nothing was refused, and says nothing of what calls use.
    fn correct(&mut self, load: Load, in_level: f64, used: Option<f64>) {
        let used = used.map(|used| bounded(used, 0.0, MOST));
        self.filter.level = bounded(self.filter.level + used.unwrap_or(load.expected) - in_level, -2.0 * MOST, MOST);
        if let Some(used) = used.filter(|used| *used > 0.0)
            && load.expected > 1e-9
        {
            // By size: it is the sum of all calls that must be right.
            let weight = (0.01 * load.booked / self.size.max(1e-6)).min(0.2);
            self.real = bounded(self.real * (1.0 + weight * (used / load.expected - 1.0).clamp(-1.0, 5.0)), REAL.0, REAL.1);
        }
    }

    /// A refusal said when the level is at the line: after `wait`, or `ago`.
    fn observe(&mut self, now: Tick, wait: Duration, ago: Duration, exact: f64) {
        let wait = wait.as_secs_f64().min(FORESEEN);
        let level = wait - ago.as_secs_f64();
        let (open, deviation) = (self.asked(), (exact * exact + IN_FLIGHT * self.under_way().booked * self.size).sqrt());
        self.read = (now, self.filter.trust(open, deviation));
        self.moved += self.filter.observe(level, open, deviation);
        (self.ramp, self.doubt) = (0.0, 0.0);
        self.until = self.until.max(now + Duration::from_secs_f64(wait));
        self.keep_within(now);
    }

    /// A bucket can't be less than empty. What is uncertain then says nothing of the drain.
    fn keep_within(&mut self, now: Tick) {
        let under = -self.holds() - self.level();
        if under > 0.0 {
            self.doubt = (self.doubt - under).max(0.0);
            self.filter.set_level(self.filter.level + under, UNSURE.0 * self.holds());
        }
        self.filter.level = bounded(self.filter.level, -2.0 * MOST, MOST);
        if self.moved.abs() > 1e6 {
            self.moved = 0.0;
        }
        let at_bound = self.drain() <= DRAIN.0 || self.drain() >= DRAIN.1;
        self.at_bound = at_bound.then(|| self.at_bound.unwrap_or(now));
    }

    fn count(&mut self, now: Tick, attempts: u32, refusals: u32) {
        self.hour.count(now, attempts, refusals, self.earned / EARNED);
    }
}

#[cfg(test)]
mod tests;
