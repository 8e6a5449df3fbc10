//! One deployment at one backend: everything that decides whether it may be asked.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use spillway_plugins::api::Api;
use spillway_plugins::retry::RateSignal;

pub use super::belief::{Asked, OutageReason};
use super::belief::{Belief, Outage, Probes};
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
    /// The circuit opened for one consumer, who alone met the failures.
    TrippedForOne,
    /// The circuit closed again, or the outage ended.
    Recovered,
    /// Out until a slow probe succeeds.
    Out(OutageReason),
    /// Out for one consumer, who alone was refused.
    OutForOne(OutageReason),
}

const WHOLE: u32 = 1 << 20;
const UNTOLD: u32 = u32::MAX;

/// Most consumers whose own findings are kept; those of the one that was heard of longest ago go first.
const OWN: usize = 16;

/// How long a target that doesn't know how to tell the usage of its streams isn't asked for it.
const USAGE_ASKED_AGAIN: Duration = Duration::from_secs(600);

/// How long a due probe waits for a request that is whole before one whose body is still to come may be it.
const PROBE_WAITS: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    throttled_until: Tick,
    /// What everybody believes.
    shared: Belief,
    /// What single consumers met, the one that was heard of last at the end.
    own: SmallVec<[(u64, Belief); 1]>,
    /// Who met the failure of the last probe, if that is not believed yet.
    probe_failed_by: Option<u64>,
    /// Who was refused an operation, where it served nobody since.
    refused: SmallVec<[(Api, u64); 1]>,
    /// Operations that have been served.
    served: u32,
    /// The only consumer that ever asked, and whether there were several.
    only: Option<u64>,
    several: bool,
    latency: PeakEwma,
}

impl State {
    fn own(&self, by: u64) -> Option<&Belief> {
        self.own.iter().find(|(who, _)| *who == by).map(|(_, belief)| belief)
    }

    fn own_mut(&mut self, by: u64) -> &mut Belief {
        let known = self.own.iter().position(|(who, _)| *who == by);
        let entry = known.map_or_else(|| (by, Belief::default()), |at| self.own.remove(at));
        if self.own.len() >= OWN {
            self.own.remove(0);
        }
        self.own.push(entry);
        let last = self.own.len() - 1;
        &mut self.own[last].1
    }

    /// When the target may next be asked for this, throttles aside.
    fn gate(&self, asked: Asked) -> Tick {
        let own = self.own(asked.by).map_or(Tick(0), |belief| belief.gate(asked.api));
        let gate = self.shared.gate(asked.api).max(own);
        let probe = !asked.whole && gate != Tick::NEVER && self.would_probe(asked);
        if probe { gate + PROBE_WAITS } else { gate }
    }

    fn would_probe(&self, asked: Asked) -> bool {
        let probes = |belief: &Belief| belief.circuit_gate().1 || belief.outage(asked.api).is_some();
        probes(&self.shared) || self.own(asked.by).is_some_and(probes)
    }

    /// What an operator should see: what everybody believes, or the only consumer there is.
    fn shown(&self) -> [Option<&Belief>; 2] {
        [Some(&self.shared), self.only.filter(|_| !self.several).and_then(|only| self.own(only))]
    }

    fn note_asker(&mut self, by: u64) {
        match self.only {
            None => self.only = Some(by),
            Some(only) => self.several |= only != by,
        }
    }

    /// Gives an attempt's probes back.
    fn give_back(&mut self, asked: Asked, probes: [Probes; 2]) {
        self.shared.give_back(asked.api, probes[0]);
        if probes[1].any()
            && let Some((_, own)) = self.own.iter_mut().find(|(who, _)| *who == asked.by)
        {
            own.give_back(asked.api, probes[1]);
        }
    }

    /// A success closes the circuit and ends an outage if it is the probe's, and disproves what others met.
    fn succeeded(&mut self, asked: Asked, probes: [Probes; 2], rules: &CircuitRules, now: Tick) -> Change {
        let Asked { by, api, .. } = asked;
        let closed = self.shared.circuit.succeeded(by, probes[0].circuit, rules, now);
        let ended = probes[0].outage && self.shared.end_outage(api);
        self.refused.retain(|(refused, _)| *refused != api);
        self.served |= asked.bit();
        if probes[0].any() {
            self.probe_failed_by = None;
        }
        let mut own_recovered = false;
        if let Some(at) = self.own.iter().position(|(who, _)| *who == by) {
            let own = &mut self.own[at].1;
            let closed = own.circuit.succeeded(0, probes[1].circuit, rules, now);
            own_recovered = own.end_outage(api) || closed;
            if own.is_clear() {
                self.own.remove(at);
            }
        }
        if closed || ended || own_recovered { Change::Recovered } else { Change::None }
    }

    /// A failure that counts. What a caller may have provoked is believed for that caller, until another one met the same.
    fn failed(
        &mut self,
        asked: Asked,
        probes: [Probes; 2],
        failure: Failure,
        retry_after: Option<Duration>,
        rules: &CircuitRules,
        now: Tick,
    ) -> Change {
        let Asked { by, api, .. } = asked;
        if by == 0 || !failure.is_provokable() {
            if probes[0].outage {
                self.shared.put_off(api, now);
            }
            let opened = self.shared.circuit.failed(failure, 0, probes[0].circuit, retry_after, rules, now);
            return if opened { Change::Tripped } else { Change::None };
        }
        let mut opened = false;
        let mut reopen = false;
        if probes[0].circuit {
            if self.probe_failed_by.is_some_and(|other| other != by) {
                self.probe_failed_by = None;
                self.shared.circuit.failed(failure, by, true, retry_after, rules, now);
            } else {
                self.probe_failed_by = Some(by);
                reopen = true;
            }
        } else {
            opened = self.shared.circuit.failed(failure, by, false, retry_after, rules, now);
        }
        let own = self.own_mut(by);
        if reopen && own.circuit.phase() == Phase::Closed {
            own.circuit = Circuit::open(now + rules.trip_for(retry_after), false);
        } else if own.circuit.failed(failure, 0, probes[1].circuit, retry_after, rules, now) && !opened {
            return Change::TrippedForOne;
        }
        if probes.iter().any(|probes| probes.outage) {
            own.put_off(api, now);
        }
        if opened { Change::Tripped } else { Change::None }
    }

    /// It refused an operation. That is believed for everybody once two consumers were refused it while it served nobody.
    fn refused(&mut self, asked: Asked, probes: [Probes; 2], reason: OutageReason, now: Tick) -> Change {
        let Asked { by, api, .. } = asked;
        if by == 0 {
            let new = self.shared.refused(api, reason, probes[0].outage, now);
            return if new { Change::Out(reason) } else { Change::None };
        }
        let before = self.refused.iter().find(|(refused, _)| *refused == api).map(|(_, who)| *who);
        if before.is_none() {
            self.refused.push((api, by));
        }
        let own_new = {
            // Once more in a row, or from the start: it isn't this request alone.
            let believed = before.is_some() || self.served & asked.bit() == 0 || probes.iter().any(|probes| probes.outage);
            believed && self.own_mut(by).refused(api, reason, probes[1].outage, now)
        };
        let agreed = before.is_some_and(|other| other != by);
        if agreed {
            // The next one to agree must be another one again.
            self.refused.iter_mut().filter(|(refused, _)| *refused == api).for_each(|(_, who)| *who = by);
            if self.shared.refused(api, reason, probes[0].outage, now) {
                return Change::Out(reason);
            }
        }
        if own_new { Change::OutForOne(reason) } else { Change::None }
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
    /// Not before this tick, whoever asks; a copy of what `State` knows that is read without the lock.
    gate: AtomicU64,
    /// Whether somebody or some operation may have to wait longer, or be a probe: then the lock is taken.
    doubted: AtomicBool,
    /// Share of the rate limits that is left, in parts of [`WHOLE`]; [`UNTOLD`] if never told.
    headroom: AtomicU32,
    /// Until when it is not asked for the usage of its streams: it said that it doesn't know how. One for each of the
    /// operations that are asked, chat and completions.
    unasked_until: [AtomicU64; 2],
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
            unasked_until: Default::default(),
            seed,
            max_concurrent: AtomicU32::new(max_concurrent.unwrap_or(u32::MAX)),
            in_flight: AtomicU32::new(0),
            drained: AtomicBool::new(false),
            gate: AtomicU64::new(0),
            doubted: AtomicBool::new(false),
            state: Mutex::new(State::default()),
        }
    }

    /// Whether it may be asked this now. Cheap; [`Target::acquire`] has the last word.
    pub fn is_usable(&self, asked: Asked, now: Tick) -> bool {
        now.0 >= self.gate.load(Ordering::Acquire)
            && !self.drained.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) < self.max_concurrent.load(Ordering::Relaxed)
            && (!self.doubted.load(Ordering::Acquire) || now >= self.state.lock().gate(asked))
    }

    /// Takes a slot, and the probe if the circuit is half-open. `None` if somebody was quicker.
    pub fn acquire(self: &Arc<Self>, asked: Asked, now: Tick) -> Option<Lease> {
        if !self.is_usable(asked, now) {
            return None;
        }
        let most = self.max_concurrent.load(Ordering::Relaxed);
        let taken = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < most).then(|| n + 1));
        taken.ok()?;
        let mut lease = Lease { target: Arc::clone(self), asked, probes: Default::default() };
        if self.doubted.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            if now < state.gate(asked).max(state.throttled_until) {
                return None;
            }
            let shared = state.shared.take_probes(asked.api);
            let own = state.own.iter_mut().find(|(who, _)| *who == asked.by);
            lease.probes = [shared, own.map_or_else(Probes::default, |(_, belief)| belief.take_probes(asked.api))];
            self.publish(&state);
        }
        Some(lease)
    }

    /// Why nobody can ask it now, `None` if somebody can.
    pub fn closed(&self, now: Tick) -> Option<Closed> {
        let state = self.state.lock();
        self.closed_by(&state, state.shown(), None, now)
    }

    /// Why it can't be asked this now, `None` if it can.
    pub fn closed_for(&self, asked: Asked, now: Tick) -> Option<Closed> {
        let state = self.state.lock();
        self.closed_by(&state, [Some(&state.shared), state.own(asked.by)], Some(asked.api), now)
    }

    fn closed_by(&self, state: &State, beliefs: [Option<&Belief>; 2], api: Option<Api>, now: Tick) -> Option<Closed> {
        if self.drained.load(Ordering::Relaxed) {
            return Some(Closed::Drained);
        }
        let believed = || beliefs.iter().flatten();
        let outages = believed().flat_map(|belief| &belief.outages).filter(|outage| api.is_none_or(|api| api == outage.api));
        let shut = |outage: &Outage| if outage.probing { Tick::NEVER } else { outage.until };
        if let Some(outage) = outages.filter(|outage| shut(outage) > now).max_by_key(|outage| shut(outage)) {
            return Some(Closed::Out(outage.reason, shut(outage)));
        }
        let open = believed().filter_map(|belief| match belief.circuit.phase() {
            Phase::Open { limited, .. } => Some((belief.circuit_gate().0, limited)),
            Phase::Closed => None,
        });
        match open.filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until) {
            Some((until, limited)) if until >= state.throttled_until => Some(Closed::Tripped { until, limited }),
            _ if state.throttled_until > now => Some(Closed::Throttled(state.throttled_until)),
            _ => (self.in_flight() >= self.max_concurrent.load(Ordering::Relaxed)).then_some(Closed::Busy),
        }
    }

    /// Whether the next request would be a probe.
    pub fn is_half_open(&self) -> bool {
        self.doubted.load(Ordering::Acquire) && self.state.lock().shown().iter().flatten().any(|belief| belief.circuit_gate().1)
    }

    /// Why it is out until a probe succeeds, if it is.
    pub fn outage(&self) -> Option<OutageReason> {
        self.state.lock().shown().iter().flatten().find_map(|belief| belief.outages.first()).map(|outage| outage.reason)
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

    /// Whether it may be asked for the usage of its streams.
    pub fn may_be_asked_usage(&self, api: Api, now: Tick) -> bool {
        now.0 >= self.unasked_until[usize::from(api == Api::Completions)].load(Ordering::Relaxed)
    }

    /// It doesn't know how to tell the usage of its streams: it is asked again after a while. Returns whether that is new.
    pub fn refused_usage(&self, api: Api, now: Tick) -> bool {
        let until = now + USAGE_ASKED_AGAIN;
        self.unasked_until[usize::from(api == Api::Completions)].swap(until.0, Ordering::Relaxed) < now.0
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
        *state = State { served: state.served, only: state.only, several: state.several, latency: state.latency, ..State::default() };
        self.publish(&state);
    }

    /// Another bound on its requests in flight; those that are more finish.
    pub fn set_max_concurrent(&self, most: Option<u32>) {
        self.max_concurrent.store(most.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Ends an outage: its credentials are others now.
    pub fn forgive(&self) {
        let mut state = self.state.lock();
        state.shared.outages.clear();
        state.refused.clear();
        state.own.iter_mut().for_each(|(_, belief)| belief.outages.clear());
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
            open: state.shown().iter().flatten().find_map(|belief| match belief.circuit.phase() {
                Phase::Open { until, limited } => Some((left(until), limited)),
                Phase::Closed => None,
            }),
            outages: state
                .shown()
                .iter()
                .flatten()
                .flat_map(|belief| &belief.outages)
                .map(|outage| (format!("{:?}", outage.api), outage.reason, left(outage.until), outage.wait))
                .collect(),
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
            state.shared.circuit = Circuit::open(now + left, limited);
        }
        for (api, reason, left, wait) in &told.outages {
            let Some(api) = Api::ALL.into_iter().find(|known| format!("{known:?}") == *api) else { continue };
            state.shared.outages.push(Outage { api, reason: *reason, until: now + *left, wait: *wait, probing: false });
        }
        if let Some(first) = told.first_token {
            state.latency.add(first, now);
        }
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        let (circuit, probe) = state.shared.circuit_gate();
        self.doubted.store(probe || !state.shared.outages.is_empty() || !state.own.is_empty(), Ordering::Release);
        self.gate.store(state.throttled_until.max(circuit).0, Ordering::Release);
    }

    fn record(&self, asked: Asked, probes: [Probes; 2], outcome: Outcome, rules: &CircuitRules, now: Tick) -> Change {
        let mut state = self.state.lock();
        let mut change = Change::None;
        state.note_asker(asked.by);
        state.give_back(asked, probes);
        match outcome {
            Outcome::Success { first, signal } => {
                state.latency.add(first, now);
                if let Some(left) = signal.headroom() {
                    self.headroom.store((left * f64::from(WHOLE)) as u32, Ordering::Relaxed);
                }
                change = state.succeeded(asked, probes, rules, now);
                if let Some(wait) = signal.exhausted_for() {
                    change = state.throttle(wait.min(rules.max_retry_after), now);
                }
            }
            // Proof enough for a probe, but no call that a percentage counts.
            Outcome::CallerFault if probes.iter().any(|probes| probes.any()) => change = state.succeeded(asked, probes, rules, now),
            Outcome::CallerFault => {}
            Outcome::Throttled { retry_after } => {
                change = state.throttle(rules.throttle_for(retry_after), now);
                if self.headroom.load(Ordering::Relaxed) != UNTOLD {
                    self.headroom.store(0, Ordering::Relaxed);
                }
                let failure = Failure::Status(http::StatusCode::TOO_MANY_REQUESTS);
                if rules.counts(failure) {
                    let circuit = state.failed(asked, probes, failure, retry_after, rules, now);
                    change = if circuit == Change::None { change } else { circuit };
                }
            }
            Outcome::Failed { failure, retry_after } => {
                // A failure is recorded as a slow answer, so that quick errors attract nobody.
                if asked.by == 0 || !failure.is_provokable() {
                    let slow = Duration::from_secs_f64(state.latency.get().unwrap_or(1.0).max(1.0));
                    state.latency.add(slow, now);
                }
                if rules.counts(failure) {
                    change = state.failed(asked, probes, failure, retry_after, rules, now);
                }
            }
            Outcome::Out(reason) => change = state.refused(asked, probes, reason, now),
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
    asked: Asked,
    /// The probes that it holds: of what everybody believes, and of what its consumer met.
    probes: [Probes; 2],
}

impl Lease {
    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Whether this attempt is the one probe of a half-open target.
    pub fn is_probe(&self) -> bool {
        self.probes.iter().any(|probes| probes.any())
    }

    /// Reports how the attempt goes. May be called again: an answer that began well can still
    /// break.
    pub fn record(&mut self, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Change {
        let probes = std::mem::take(&mut self.probes);
        self.target.record(self.asked, probes, outcome, rules, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::AcqRel);
        if self.is_probe() {
            let mut state = self.target.state.lock();
            state.give_back(self.asked, self.probes);
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

    /// A failure that a caller may have provoked.
    const BROKEN: Outcome = Outcome::Failed { failure: Failure::Error(ErrorKind::Reset), retry_after: None };

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
        let mut a = target.acquire(Asked::default(), at(1)).unwrap();
        let mut b = target.acquire(Asked::default(), at(1)).unwrap();
        assert_eq!(a.record(Outcome::Throttled { retry_after: Some(SECOND * 20) }, &rules, at(1)), Change::Throttled(SECOND * 20));
        assert_eq!(b.record(Outcome::Throttled { retry_after: Some(SECOND * 5) }, &rules, at(2)), Change::None);
        assert_eq!(target.closed(at(20)), Some(Closed::Throttled(at(21))));
        assert!(target.acquire(Asked::default(), at(20)).is_none());
        assert!(target.acquire(Asked::default(), at(21)).is_some());
    }

    #[test]
    fn an_empty_quota_in_a_success_throttles() {
        let (target, rules) = (target(None), rules());
        let quota = spillway_plugins::retry::Quota { remaining: Some(0), limit: Some(10), reset: Some(SECOND * 7) };
        let signal = RateSignal { requests: quota, ..RateSignal::default() };
        let mut lease = target.acquire(Asked::default(), at(1)).unwrap();
        lease.record(Outcome::Success { first: SECOND, signal }, &rules, at(1));
        assert_eq!(target.closed(at(2)), Some(Closed::Throttled(at(8))));
    }

    #[test]
    fn half_open_lets_one_probe_through() {
        let (target, rules) = (target(None), rules());
        for _ in 0..2 {
            target.acquire(Asked::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        assert_eq!(target.closed(at(1)), Some(Closed::Tripped { until: at(31), limited: false }));
        let mut probe = target.acquire(Asked::default(), at(31)).unwrap();
        assert!(probe.is_probe());
        assert!(target.acquire(Asked::default(), at(31)).is_none(), "one at a time");
        probe.record(FAILED, &rules, at(32));
        assert_eq!(target.closed(at(32)), Some(Closed::Tripped { until: at(62), limited: false }));
        drop(probe);
        let cancelled = target.acquire(Asked::default(), at(62)).unwrap();
        drop(cancelled);
        let mut probe = target.acquire(Asked::default(), at(62)).unwrap();
        assert_eq!(probe.record(success(), &rules, at(62)), Change::Recovered);
        assert!(target.closed(at(62)).is_none());
        assert!(!target.acquire(Asked::default(), at(62)).unwrap().is_probe());
    }

    #[test]
    fn a_throttled_probe_leaves_the_circuit_half_open() {
        let (target, rules) = (target(None), rules());
        for _ in 0..2 {
            target.acquire(Asked::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        let mut probe = target.acquire(Asked::default(), at(31)).unwrap();
        probe.record(Outcome::Throttled { retry_after: Some(SECOND * 3) }, &rules, at(31));
        drop(probe);
        assert_eq!(target.closed(at(32)), Some(Closed::Throttled(at(34))));
        assert!(target.acquire(Asked::default(), at(34)).unwrap().is_probe());
    }

    #[test]
    fn outages_are_probed_less_and_less_often() {
        let (target, rules) = (target(None), rules());
        let (mut now, mut waits) = (at(1), Vec::new());
        for _ in 0..7 {
            let mut lease = target.acquire(Asked::default(), now).unwrap();
            lease.record(Outcome::Out(OutageReason::OutOfQuota), &rules, now);
            let Some(Closed::Out(OutageReason::OutOfQuota, until)) = target.closed(now) else { panic!() };
            waits.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        let mut lease = target.acquire(Asked::default(), now).unwrap();
        assert_eq!(lease.record(success(), &rules, now), Change::Recovered);
        assert!(target.closed(now).is_none());
    }

    #[test]
    fn slots_come_back_when_leases_are_dropped() {
        let target = target(Some(2));
        let a = target.acquire(Asked::default(), at(1)).unwrap();
        let _b = target.acquire(Asked::default(), at(1)).unwrap();
        assert!(target.acquire(Asked::default(), at(1)).is_none());
        assert_eq!(target.closed(at(1)), Some(Closed::Busy));
        drop(a);
        assert!(target.acquire(Asked::default(), at(1)).is_some());
        target.set_drained(true);
        assert!(target.acquire(Asked::default(), at(1)).is_none());
    }

    #[test]
    fn a_panic_gives_slot_and_probe_back() {
        let (target, rules) = (target(Some(1)), rules());
        for _ in 0..2 {
            target.acquire(Asked::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        let holder = Arc::clone(&target);
        let panicked = std::thread::spawn(move || {
            let probe = holder.acquire(Asked::default(), at(31)).unwrap();
            assert!(!probe.is_probe(), "this panics on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(target.in_flight(), 0);
        assert!(target.acquire(Asked::default(), at(31)).unwrap().is_probe());
    }

    #[test]
    fn stragglers_neither_close_nor_extend() {
        let (target, rules) = (target(None), rules());
        let mut late_success = target.acquire(Asked::default(), at(1)).unwrap();
        let mut late_failure = target.acquire(Asked::default(), at(1)).unwrap();
        for _ in 0..2 {
            target.acquire(Asked::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
        }
        late_success.record(success(), &rules, at(2));
        late_failure.record(FAILED, &rules, at(20));
        assert_eq!(target.closed(at(20)), Some(Closed::Tripped { until: at(31), limited: false }));
    }

    const A: Asked = Asked { by: 1, api: Api::Chat, whole: true };
    const B: Asked = Asked { by: 2, api: Api::Chat, whole: true };

    fn meets(target: &Arc<Target>, asked: Asked, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Option<Change> {
        Some(target.acquire(asked, now)?.record(outcome, rules, now))
    }

    #[test]
    fn what_one_consumer_met_is_believed_for_it_alone() {
        let (target, rules) = (target(None), rules());
        for _ in 0..5 {
            meets(&target, A, BROKEN, &rules, at(1));
        }
        assert!(target.acquire(A, at(2)).is_none(), "its own circuit is open");
        assert!(target.acquire(B, at(2)).is_some());
        meets(&target, B, BROKEN, &rules, at(2));
        assert!(target.acquire(Asked { by: 3, ..B }, at(3)).is_none(), "two met it: believed for everybody");
    }

    #[test]
    fn a_refusal_is_the_operations_and_needs_agreement() {
        let (target, rules) = (target(None), rules());
        let out = Outcome::Out(OutageReason::Misconfigured);
        let responses = |by| Asked { by, api: Api::Responses, whole: true };
        meets(&target, B, success(), &rules, at(1));
        assert_eq!(meets(&target, A, out, &rules, at(2)), Some(Change::None), "chat was served before: this request's own");
        assert_eq!(meets(&target, A, out, &rules, at(3)), Some(Change::OutForOne(OutageReason::Misconfigured)));
        assert_eq!(meets(&target, A, success(), &rules, at(4)), None);
        assert!(target.is_usable(B, at(4)) && target.is_usable(responses(1), at(4)));
        assert_eq!(meets(&target, B, out, &rules, at(5)), Some(Change::Out(OutageReason::Misconfigured)), "the second says so");
        assert!(!target.is_usable(Asked { by: 3, ..A }, at(6)) && target.is_usable(responses(3), at(6)));
        assert_eq!(target.outage(), Some(OutageReason::Misconfigured));
        let told = target.tell(at(6));
        let successor = super::tests::target(None);
        successor.hear(&told, at(6));
        assert!(!successor.is_usable(A, at(7)) && successor.is_usable(responses(1), at(7)));
    }

    #[test]
    fn an_operation_that_was_never_served_is_out_at_once_for_who_was_refused() {
        let (target, rules) = (target(None), rules());
        let out = Outcome::Out(OutageReason::Misconfigured);
        assert_eq!(meets(&target, A, out, &rules, at(1)), Some(Change::OutForOne(OutageReason::Misconfigured)));
        assert!(!target.is_usable(A, at(2)) && target.is_usable(B, at(2)));
        assert_eq!(target.outage(), Some(OutageReason::Misconfigured), "the only consumer there is: an operator sees it");
    }

    #[test]
    fn a_probe_that_one_consumer_lost_is_the_next_ones() {
        let (target, rules) = (target(None), rules());
        for _ in 0..2 {
            meets(&target, Asked::default(), FAILED, &rules, at(1));
        }
        meets(&target, A, BROKEN, &rules, at(31));
        assert!(target.acquire(A, at(32)).is_none(), "it waits again");
        assert_eq!(meets(&target, B, success(), &rules, at(32)), Some(Change::Recovered));
    }

    #[test]
    fn an_upload_is_no_probe_while_whole_requests_may_come() {
        let (target, rules) = (target(None), rules());
        for _ in 0..2 {
            meets(&target, Asked::default(), FAILED, &rules, at(1));
        }
        let upload = Asked { whole: false, ..A };
        assert!(target.acquire(upload, at(31)).is_none());
        assert!(target.acquire(upload, at(61)).is_some_and(|lease| lease.is_probe()), "nobody else came");
    }

    proptest::proptest! {
        /// Whatever one consumer meets, in whatever order and over whatever time: who was served well goes on being served.
        #[test]
        fn one_consumer_takes_nothing_from_another(
            steps in proptest::collection::vec((0u8..9, 0u64..20, proptest::prelude::any::<bool>()), 1..200),
            percent in proptest::prelude::any::<bool>(),
            count in 1u32..6,
        ) {
            let threshold = if percent { Threshold::Percent { percent: 50, min_calls: count } } else { Threshold::Failures(count) };
            let rules = CircuitRules { threshold, errors: ErrorKind::NAMES.map(|(_, kind)| kind).to_vec(), ..rules() };
            let target = target(None);
            let mut now = at(1);
            let mut held = Vec::new();
            meets(&target, B, success(), &rules, now);
            for (what, later, keep) in steps {
                now = now + SECOND * u32::try_from(later).unwrap();
                let failed = |failure| Outcome::Failed { failure, retry_after: Some(SECOND * 100) };
                let outcome = match what {
                    0 => success(),
                    1 => Outcome::CallerFault,
                    2 => Outcome::Out(OutageReason::Misconfigured),
                    3 => Outcome::Out(OutageReason::OutOfQuota),
                    4 => failed(Failure::Status(http::StatusCode::INTERNAL_SERVER_ERROR)),
                    5 => failed(Failure::Error(ErrorKind::Reset)),
                    6 => failed(Failure::Error(ErrorKind::FirstToken)),
                    7 => failed(Failure::Error(ErrorKind::Idle)),
                    _ => failed(Failure::Error(ErrorKind::Timeout)),
                };
                if let Some(mut lease) = target.acquire(A, now) {
                    lease.record(outcome, &rules, now);
                    if keep {
                        held.push(lease);
                    }
                }
                proptest::prop_assert!(target.is_usable(B, now));
                proptest::prop_assert!(target.closed_for(B, now).is_none());
                if keep {
                    proptest::prop_assert!(meets(&target, B, success(), &rules, now).is_some());
                }
            }
        }

        /// A target that fails everybody is soon out for everybody, however many ask.
        #[test]
        fn what_fails_everybody_is_out_for_everybody(count in 1u32..6, askers in proptest::collection::vec(1u64..20, 200)) {
            let rules = CircuitRules { threshold: Threshold::Failures(count), ..rules() };
            let target = target(None);
            let (mut runs, mut last) = (0, 0);
            for by in askers {
                if meets(&target, Asked { by, ..A }, BROKEN, &rules, at(1)).is_some() {
                    runs += u32::from(by != last);
                    last = by;
                }
            }
            let open = !target.is_usable(Asked { by: 99, ..A }, at(2));
            proptest::prop_assert_eq!(open, runs >= count.max(2));
        }
    }
}
