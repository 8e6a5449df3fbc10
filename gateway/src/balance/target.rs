//! One deployment at one backend: everything that decides whether it may be asked.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spillway_plugins::retry::RateSignal;

use super::circuit::{Circuit, CircuitRules, Failure, Phase};
use super::latency::PeakEwma;
use super::told::TargetTold;
use crate::clock::Tick;

/// Names a target: the unit that Azure throttles.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId {
    /// The backend's name in the config.
    pub backend: Arc<str>,
    /// The model's name at that backend.
    pub deployment: Arc<str>,
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.deployment)
    }
}

/// Why a target is out until an operator, or a slow probe, brings it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageReason {
    /// Its account's quota is used up.
    OutOfQuota,
    /// It refuses our credentials or doesn't know the deployment.
    Misconfigured,
}

/// How an attempt went, as far as its target is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// It answered. `first` is the time to the head or the first token.
    Success {
        /// Time to the head of a plain answer, or to a stream's first token.
        first: Duration,
        /// What its headers say is left.
        signal: RateSignal,
    },
    /// It answered that the caller is wrong, so it works.
    CallerFault,
    /// It refused for now; with what Retry-After it gave.
    Throttled {
        /// The Retry-After, if any.
        retry_after: Option<Duration>,
    },
    /// It failed.
    Failed {
        /// How.
        failure: Failure,
        /// The Retry-After that came with it, if any.
        retry_after: Option<Duration>,
    },
    /// It needs an operator.
    Out(OutageReason),
}

/// What a recorded outcome changed, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing worth telling.
    None,
    /// Throttled for this long from now.
    Throttled(Duration),
    /// The circuit opened.
    Tripped,
    /// The circuit closed again, or the outage ended.
    Recovered,
    /// Out until a slow probe succeeds.
    Out(OutageReason),
}

/// The first wait before a slow probe, and the longest.
const OUTAGE_PROBE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

const WHOLE: u32 = 1 << 20;
const UNTOLD: u32 = u32::MAX;

#[derive(Debug)]
struct Outage {
    reason: OutageReason,
    until: Tick,
    wait: Duration,
}

#[derive(Debug, Default)]
struct State {
    throttled_until: Tick,
    circuit: Circuit,
    outage: Option<Outage>,
    probing: bool,
    latency: PeakEwma,
}

impl State {
    /// When the target may next be asked, and whether that request is a probe.
    fn gate(&self) -> (Tick, bool) {
        if self.probing {
            return (Tick::NEVER, true);
        }
        let (mut gate, mut probe) = (self.throttled_until, false);
        if let Phase::Open { until, .. } = self.circuit.phase() {
            (gate, probe) = (gate.max(until), true);
        }
        if let Some(outage) = &self.outage {
            (gate, probe) = (gate.max(outage.until), true);
        }
        (gate, probe)
    }

    /// A success closes the circuit and ends an outage if it is the probe's.
    fn succeeded(&mut self, probe: bool, rules: &CircuitRules, now: Tick) -> Change {
        let closed = self.circuit.succeeded(probe, rules, now);
        let ended = probe && self.outage.take().is_some();
        if closed || ended { Change::Recovered } else { Change::None }
    }

    /// Extends the throttle, never shortens it.
    fn throttle(&mut self, wait: Duration, now: Tick) -> Change {
        let until = now + wait;
        if until <= self.throttled_until {
            return Change::None;
        }
        let from = self.throttled_until.max(now);
        self.throttled_until = until;
        Change::Throttled(until.since(from))
    }
}

/// One target. Shared by every pool that has it; safe to use from any thread.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub id: TargetId,
    max_concurrent: AtomicU32,
    in_flight: AtomicU32,
    drained: AtomicBool,
    /// Not before this tick; a copy of `State::gate` that is read without the lock.
    gate: AtomicU64,
    probe_due: AtomicBool,
    /// Share of the rate limits that is left, in parts of [`WHOLE`]; [`UNTOLD`] if never told.
    headroom: AtomicU32,
    /// A hash of the name, for rendezvous hashing.
    seed: u64,
    state: Mutex<State>,
}

/// Why a target is not usable right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Throttled until then.
    Throttled(Tick),
    /// The circuit is open.
    Tripped {
        /// Until then; `Tick::NEVER` if a probe is under way.
        until: Tick,
        /// Whether it was a 429 that opened it.
        limited: bool,
    },
    /// Out for an operator's reason; next probe then.
    Out(OutageReason, Tick),
    /// Taken out by an operator.
    Drained,
    /// Every slot is taken.
    Busy,
}

impl Target {
    /// A fresh target; `max_concurrent` bounds its requests in flight.
    pub fn new(id: TargetId, max_concurrent: Option<u32>) -> Self {
        // Unseeded, so that every node and every run agrees.
        let seed = BuildHasherDefault::<DefaultHasher>::default().hash_one(&id);
        Target {
            id,
            headroom: AtomicU32::new(UNTOLD),
            seed,
            max_concurrent: AtomicU32::new(max_concurrent.unwrap_or(u32::MAX)),
            in_flight: AtomicU32::new(0),
            drained: AtomicBool::new(false),
            gate: AtomicU64::new(0),
            probe_due: AtomicBool::new(false),
            state: Mutex::new(State::default()),
        }
    }

    /// Whether it may be asked now. Cheap; [`Target::acquire`] has the last word.
    pub fn is_usable(&self, now: Tick) -> bool {
        now.0 >= self.gate.load(Ordering::Acquire)
            && !self.drained.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) < self.max_concurrent.load(Ordering::Relaxed)
    }

    /// Takes a slot, and the probe if the circuit is half-open. `None` if somebody was quicker.
    pub fn acquire(self: &Arc<Self>, now: Tick) -> Option<Lease> {
        if !self.is_usable(now) {
            return None;
        }
        let most = self.max_concurrent.load(Ordering::Relaxed);
        let taken = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < most).then(|| n + 1));
        taken.ok()?;
        let mut lease = Lease { target: Arc::clone(self), probe: false };
        if self.probe_due.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            let (gate, probe) = state.gate();
            if now < gate {
                return None;
            }
            state.probing = probe;
            lease.probe = probe;
            self.publish(&state);
        }
        Some(lease)
    }

    /// Why it can't be asked now, `None` if it can.
    pub fn closed(&self, now: Tick) -> Option<Closed> {
        if self.drained.load(Ordering::Relaxed) {
            return Some(Closed::Drained);
        }
        let state = self.state.lock();
        let tripped = match state.circuit.phase() {
            Phase::Open { limited, .. } if state.probing => Some((Tick::NEVER, limited)),
            Phase::Open { until, limited } if until > now => Some((until, limited)),
            _ => None,
        };
        if let Some(outage) = state.outage.as_ref().filter(|outage| outage.until > now || state.probing) {
            return Some(Closed::Out(outage.reason, if state.probing { Tick::NEVER } else { outage.until }));
        }
        match tripped {
            Some((until, limited)) if until >= state.throttled_until => Some(Closed::Tripped { until, limited }),
            _ if state.throttled_until > now => Some(Closed::Throttled(state.throttled_until)),
            _ => (self.in_flight() >= self.max_concurrent.load(Ordering::Relaxed)).then_some(Closed::Busy),
        }
    }

    /// Whether the next request would be a probe.
    pub fn is_half_open(&self) -> bool {
        self.probe_due.load(Ordering::Acquire)
    }

    /// Why it is out until a probe succeeds, if it is.
    pub fn outage(&self) -> Option<OutageReason> {
        self.state.lock().outage.as_ref().map(|outage| outage.reason)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Peak EWMA of the time to the first token, in seconds.
    pub fn latency(&self) -> Option<f64> {
        self.state.lock().latency.get()
    }

    /// Share of its rate limits that is left, as its headers last said.
    pub fn headroom(&self) -> Option<f64> {
        let parts = self.headroom.load(Ordering::Relaxed);
        (parts != UNTOLD).then(|| f64::from(parts) / f64::from(WHOLE))
    }

    /// A number that depends on its name alone.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Takes it out of (or back into) traffic; requests in flight go on.
    pub fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
    }

    /// Until when it is throttled, if it is.
    pub fn throttled_until(&self, now: Tick) -> Option<Tick> {
        let until = self.state.lock().throttled_until;
        (until > now).then_some(until)
    }

    /// Another node was told to leave it alone until then. Extends a throttle, never shortens it.
    pub fn throttle_until(&self, until: Tick, now: Tick) {
        let mut state = self.state.lock();
        state.throttle(until.since(now), now);
        self.publish(&state);
    }

    /// Forgets throttle, circuit and outage: an operator knows better.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        let probing = state.probing;
        *state = State { probing, latency: state.latency, ..State::default() };
        self.publish(&state);
    }

    /// Another bound on its requests in flight; those that are more finish.
    pub fn set_max_concurrent(&self, most: Option<u32>) {
        self.max_concurrent.store(most.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Ends an outage: its credentials are others now.
    pub fn forgive(&self) {
        let mut state = self.state.lock();
        state.outage = None;
        self.publish(&state);
    }

    /// Its state at `now`, for the process that takes over.
    pub fn tell(&self, now: Tick) -> TargetTold {
        let state = self.state.lock();
        let left = |until: Tick| until.since(now);
        TargetTold {
            backend: self.id.backend.to_string(),
            deployment: self.id.deployment.to_string(),
            drained: self.drained.load(Ordering::Relaxed),
            throttled: Some(left(state.throttled_until)).filter(|left| !left.is_zero()),
            open: match state.circuit.phase() {
                Phase::Open { until, limited } => Some((left(until), limited)),
                Phase::Closed => None,
            },
            outage: state.outage.as_ref().map(|outage| (outage.reason, left(outage.until), outage.wait)),
            first_token: state.latency.get().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            headroom: self.headroom(),
        }
    }

    /// Takes the state that the process before told at `now`.
    pub fn hear(&self, told: &TargetTold, now: Tick) {
        self.drained.store(told.drained, Ordering::Relaxed);
        if let Some(left) = told.headroom {
            self.headroom.store((left.clamp(0.0, 1.0) * f64::from(WHOLE)) as u32, Ordering::Relaxed);
        }
        let mut state = self.state.lock();
        if let Some(wait) = told.throttled {
            state.throttle(wait, now);
        }
        if let Some((left, limited)) = told.open {
            state.circuit = Circuit::open(now + left, limited);
        }
        if let Some((reason, left, wait)) = told.outage {
            state.outage = Some(Outage { reason, until: now + left, wait });
        }
        if let Some(first) = told.first_token {
            state.latency.add(first, now);
        }
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        let (gate, probe) = state.gate();
        self.probe_due.store(probe, Ordering::Release);
        self.gate.store(gate.0, Ordering::Release);
    }

    fn record(&self, probe: bool, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Change {
        let mut state = self.state.lock();
        let mut change = Change::None;
        match outcome {
            Outcome::Success { first, signal } => {
                state.latency.add(first, now);
                if let Some(left) = signal.headroom() {
                    self.headroom.store((left * f64::from(WHOLE)) as u32, Ordering::Relaxed);
                }
                change = state.succeeded(probe, rules, now);
                if let Some(wait) = signal.exhausted_for() {
                    change = state.throttle(wait.min(rules.max_retry_after), now);
                }
            }
            // Proof enough for a probe, but no call that a percentage counts.
            Outcome::CallerFault if probe => change = state.succeeded(probe, rules, now),
            Outcome::CallerFault => {}
            Outcome::Throttled { retry_after } => {
                change = state.throttle(rules.throttle_for(retry_after), now);
                if self.headroom.load(Ordering::Relaxed) != UNTOLD {
                    self.headroom.store(0, Ordering::Relaxed);
                }
                let failure = Failure::Status(http::StatusCode::TOO_MANY_REQUESTS);
                if rules.counts(failure) && state.circuit.failed(failure, probe, retry_after, rules, now) {
                    change = Change::Tripped;
                }
            }
            Outcome::Failed { failure, retry_after } => {
                // A failure is recorded as a slow answer, so that quick errors attract nobody.
                let slow = Duration::from_secs_f64(state.latency.get().unwrap_or(1.0).max(1.0));
                state.latency.add(slow, now);
                if rules.counts(failure) && state.circuit.failed(failure, probe, retry_after, rules, now) {
                    change = Change::Tripped;
                }
                if let Some(outage) = state.outage.as_mut().filter(|_| probe) {
                    outage.until = now + outage.wait;
                }
            }
            Outcome::Out(reason) => {
                let wait = state
                    .outage
                    .as_ref()
                    .map_or(OUTAGE_PROBE.0, |outage| if probe { (outage.wait * 2).min(OUTAGE_PROBE.1) } else { outage.wait });
                let until = state.outage.as_ref().map_or(Tick(0), |outage| outage.until).max(now + wait);
                if state.outage.is_none() {
                    change = Change::Out(reason);
                }
                state.outage = Some(Outage { reason, until, wait });
            }
        }
        if probe {
            state.probing = false;
        }
        self.publish(&state);
        change
    }
}

/// A target's in-flight slot for one attempt. Dropped without an outcome it was cancelled, which
/// tells nothing about the target: a probe goes back to whoever comes next.
#[derive(Debug)]
pub struct Lease {
    target: Arc<Target>,
    probe: bool,
}

impl Lease {
    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Whether this attempt is the one probe of a half-open target.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Reports how the attempt goes. May be called again: an answer that began well can still
    /// break.
    pub fn record(&mut self, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Change {
        let probe = std::mem::take(&mut self.probe);
        self.target.record(probe, outcome, rules, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::AcqRel);
        if self.probe {
            let mut state = self.target.state.lock();
            state.probing = false;
            self.target.publish(&state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::circuit::{ErrorKind, Threshold};

    const SECOND: Duration = Duration::from_secs(1);

    fn target(max_concurrent: Option<u32>) -> Arc<Target> {
        Arc::new(Target::new(TargetId { backend: "b".into(), deployment: "d".into() }, max_concurrent))
    }

    fn at(seconds: u64) -> Tick {
        Tick(0) + Duration::from_secs(seconds)
    }

    fn rules() -> CircuitRules {
        CircuitRules { threshold: Threshold::Failures(2), ..CircuitRules::default() }
    }

    const FAILED: Outcome = Outcome::Failed { failure: Failure::Error(ErrorKind::Connect), retry_after: None };

    fn success() -> Outcome {
        Outcome::Success { first: SECOND, signal: RateSignal::default() }
    }

    #[test]
    fn a_429_throttles_at_once_and_only_extends() {
        let (target, rules) = (target(None), rules());
        let mut a = target.acquire(at(1)).unwrap();
        let mut b = target.acquire(at(1)).unwrap();
        assert_eq!(a.record(Outcome::Throttled { retry_after: Some(SECOND * 20) }, &rules, at(1)), Change::Throttled(SECOND * 20));
        assert_eq!(b.record(Outcome::Throttled { retry_after: Some(SECOND * 5) }, &rules, at(2)), Change::None);
        assert_eq!(target.closed(at(20)), Some(Closed::Throttled(at(21))));
        assert!(target.acquire(at(20)).is_none());
        assert!(target.acquire(at(21)).is_some());
    }

    #[test]
    fn an_empty_quota_in_a_success_throttles() {
        let (target, rules) = (target(None), rules());
        let quota = spillway_plugins::retry::Quota { remaining: Some(0), limit: Some(10), reset: Some(SECOND * 7) };
        let signal = RateSignal { requests: quota, ..RateSignal::default() };
        let mut lease = target.acquire(at(1)).unwrap();
        lease.record(Outcome::Success { first: SECOND, signal }, &rules, at(1));
        assert_eq!(target.closed(at(2)), Some(Closed::Throttled(at(8))));
    }

    #[test]
    fn half_open_lets_one_probe_through() {
        let (target, rules) = (target(None), rules());
        for _ in 0..2 {
            target.acquire(at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        assert_eq!(target.closed(at(1)), Some(Closed::Tripped { until: at(31), limited: false }));
        let mut probe = target.acquire(at(31)).unwrap();
        assert!(probe.is_probe());
        assert!(target.acquire(at(31)).is_none(), "one at a time");
        probe.record(FAILED, &rules, at(32));
        assert_eq!(target.closed(at(32)), Some(Closed::Tripped { until: at(62), limited: false }));
        drop(probe);
        let cancelled = target.acquire(at(62)).unwrap();
        drop(cancelled);
        let mut probe = target.acquire(at(62)).unwrap();
        assert_eq!(probe.record(success(), &rules, at(62)), Change::Recovered);
        assert!(target.closed(at(62)).is_none());
        assert!(!target.acquire(at(62)).unwrap().is_probe());
    }

    #[test]
    fn a_throttled_probe_leaves_the_circuit_half_open() {
        let (target, rules) = (target(None), rules());
        for _ in 0..2 {
            target.acquire(at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        let mut probe = target.acquire(at(31)).unwrap();
        probe.record(Outcome::Throttled { retry_after: Some(SECOND * 3) }, &rules, at(31));
        drop(probe);
        assert_eq!(target.closed(at(32)), Some(Closed::Throttled(at(34))));
        assert!(target.acquire(at(34)).unwrap().is_probe());
    }

    #[test]
    fn outages_are_probed_less_and_less_often() {
        let (target, rules) = (target(None), rules());
        let (mut now, mut waits) = (at(1), Vec::new());
        for _ in 0..7 {
            let mut lease = target.acquire(now).unwrap();
            lease.record(Outcome::Out(OutageReason::OutOfQuota), &rules, now);
            let Some(Closed::Out(OutageReason::OutOfQuota, until)) = target.closed(now) else { panic!() };
            waits.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        let mut lease = target.acquire(now).unwrap();
        assert_eq!(lease.record(success(), &rules, now), Change::Recovered);
        assert!(target.closed(now).is_none());
    }

    #[test]
    fn slots_come_back_when_leases_are_dropped() {
        let target = target(Some(2));
        let a = target.acquire(at(1)).unwrap();
        let _b = target.acquire(at(1)).unwrap();
        assert!(target.acquire(at(1)).is_none());
        assert_eq!(target.closed(at(1)), Some(Closed::Busy));
        drop(a);
        assert!(target.acquire(at(1)).is_some());
        target.set_drained(true);
        assert!(target.acquire(at(1)).is_none());
    }

    #[test]
    fn a_panic_gives_slot_and_probe_back() {
        let (target, rules) = (target(Some(1)), rules());
        for _ in 0..2 {
            target.acquire(at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        let holder = Arc::clone(&target);
        let panicked = std::thread::spawn(move || {
            let probe = holder.acquire(at(31)).unwrap();
            assert!(!probe.is_probe(), "this panics on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(target.in_flight(), 0);
        assert!(target.acquire(at(31)).unwrap().is_probe());
    }

    #[test]
    fn stragglers_neither_close_nor_extend() {
        let (target, rules) = (target(None), rules());
        let mut late_success = target.acquire(at(1)).unwrap();
        let mut late_failure = target.acquire(at(1)).unwrap();
        for _ in 0..2 {
            target.acquire(at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        late_success.record(success(), &rules, at(2));
        late_failure.record(FAILED, &rules, at(20));
        assert_eq!(target.closed(at(20)), Some(Closed::Tripped { until: at(31), limited: false }));
    }
}
