//! One deployment at one backend: everything that decides whether it may get requests.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use spillway_plugins::api::Api;
use spillway_plugins::retry::{RateSignal, ThrottleScope};

use super::belief::{Belief, Outage, Probes};
pub use super::belief::{OutageReason, RequestKey};
pub use super::change::Change;
use super::circuit::{CircuitRules, Failure, Phase};
use super::provisioned::Provisioned;
use super::quota_pool::QuotaPool;
use super::slots::{Slot, Slots};
use super::state::State;
use super::target_state::{BeliefState, TargetState};
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
    /// The target answered.
    Success {
        /// Time to the head of a plain answer, or to a stream's first token.
        first: Duration,
        /// What its headers say is left of its limits.
        signal: RateSignal,
    },
    /// The target answered that the request is wrong, so it works.
    CallerFault,
    /// The target refused a request that is larger than its whole limit, which says nothing about its load.
    TooLarge,
    /// The target answered 429.
    Throttled {
        /// The Retry-After, if any.
        retry_after: Option<Duration>,
        /// Which limit it is about.
        scope: ThrottleScope,
    },
    /// The target failed.
    Failed {
        /// The failure.
        failure: Failure,
        /// The Retry-After that came with it, if any.
        retry_after: Option<Duration>,
    },
    /// The target needs an operator.
    Out(OutageReason),
}

impl Outcome {
    /// Whether it is the caller's fault.
    pub fn is_callers(&self) -> bool {
        matches!(self, Outcome::CallerFault | Outcome::TooLarge)
    }
}

const WHOLE: u32 = 1 << 20;
const UNTOLD: u32 = u32::MAX;

/// How long a target that can't report the usage of its streams is not asked for it.
const USAGE_ASKED_AGAIN: Duration = Duration::from_secs(600);

/// What each request reads of each target of a tier, in one cache line: a hundred targets are a hundred lines.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line {
    /// No request before this tick; a copy of what `State` knows, to be read without the lock.
    gate: AtomicU64,
    drained: AtomicBool,
    /// Whether some consumer or operation may have to wait longer, or be a probe: then the lock is taken.
    doubted: AtomicBool,
    /// Whether it shares a quota with other targets: most don't, and pay for nothing else.
    shares_quota: AtomicBool,
    slots: Slots,
}

/// One target. Shared by every pool that has it; safe to use from any thread.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub id: TargetId,
    line: Line,
    /// Share of the rate limits that is left, in parts of [`WHOLE`]; [`UNTOLD`] if not known.
    headroom: AtomicU32,
    /// Until when it is not asked for the usage of its streams, because it answered that it can't report it. One for
    /// each of the two operations, chat and completions.
    unasked_until: [AtomicU64; 2],
    /// A hash of the name, for rendezvous hashing.
    seed: u64,
    quota: ArcSwapOption<QuotaPool>,
    state: Mutex<State>,
    /// Its provisioned throughput, if it has one.
    pub provisioned: Arc<Provisioned>,
}

/// Why a target is not usable now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// Throttled until then.
    Throttled(Tick),
    /// The circuit is open.
    Tripped {
        /// Until then; `Tick::NEVER` while a probe is under way.
        until: Tick,
        /// Whether a 429 opened it.
        limited: bool,
    },
    /// Out until a probe succeeds; the next one may be sent then.
    Out(OutageReason, Tick),
    /// Another member of its quota pool got a 429: closed until then.
    QuotaPool(Tick),
    /// Taken out by an operator.
    Drained,
    /// All slots are taken.
    Busy,
}

impl Target {
    /// A new target; `max_concurrent` bounds its requests in flight.
    pub fn new(id: TargetId, max_concurrent: Option<u32>) -> Self {
        // Without a random seed, so that all nodes and all runs agree.
        let seed = BuildHasherDefault::<DefaultHasher>::default().hash_one(&id);
        Target {
            id,
            headroom: AtomicU32::new(UNTOLD),
            unasked_until: Default::default(),
            seed,
            line: Line {
                gate: AtomicU64::new(0),
                drained: AtomicBool::new(false),
                doubted: AtomicBool::new(false),
                shares_quota: AtomicBool::new(false),
                slots: Slots::new(max_concurrent),
            },
            quota: ArcSwapOption::empty(),
            state: Mutex::new(State::default()),
            provisioned: Arc::default(),
        }
    }

    /// Whether it may serve this now. Cheap; [`Target::acquire`] decides.
    pub fn is_usable(&self, key: RequestKey, now: Tick) -> bool {
        now.0 >= self.line.gate.load(Ordering::Acquire)
            && !self.line.drained.load(Ordering::Relaxed)
            && self.line.slots.wants(key, now)
            && (!self.line.doubted.load(Ordering::Acquire) || now >= self.state.lock().gate(key))
            && !(self.line.shares_quota.load(Ordering::Relaxed) && self.is_quota_closed(key.by, now))
    }

    fn is_quota_closed(&self, by: u64, now: Tick) -> bool {
        self.quota.load().as_ref().is_some_and(|quota| quota.is_closed(by, now))
    }

    /// Takes a slot, and the probe if the circuit is half-open. `None` if another thread was quicker.
    pub fn acquire(self: &Arc<Self>, key: RequestKey, now: Tick) -> Option<Lease> {
        if !self.is_usable(key, now) {
            return None;
        }
        let slot = self.line.slots.take(key, now)?;
        let mut lease = Lease { target: Arc::clone(self), key, began: now, slot, probes: Default::default() };
        if self.line.doubted.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            if now < state.gate(key) {
                return None;
            }
            let shared = state.shared.take_probes(key, now);
            let own = state.own.iter_mut().find(|(who, _)| *who == key.by);
            lease.probes = [shared, own.map_or_else(Probes::default, |(_, belief)| belief.take_probes(key, now))];
            self.publish(&state);
        }
        Some(lease)
    }

    /// Why no consumer can use it now, `None` if one can.
    pub fn closed(&self, now: Tick) -> Option<Unavailable> {
        let quota = self.quota().and_then(|quota| quota.shown_until(now));
        let state = self.state.lock();
        self.closed_by(state.shown(), quota, None, now)
    }

    /// Why it can't serve this now, `None` if it can.
    pub fn closed_for(&self, key: RequestKey, now: Tick) -> Option<Unavailable> {
        let quota = self.quota().and_then(|quota| quota.closed_until(key.by, now));
        let state = self.state.lock();
        self.closed_by([Some(&state.shared), state.own(key.by)], quota, Some(key), now)
    }

    fn closed_by(&self, beliefs: [Option<&Belief>; 2], quota: Option<Tick>, key: Option<RequestKey>, now: Tick) -> Option<Unavailable> {
        if self.line.drained.load(Ordering::Relaxed) {
            return Some(Unavailable::Drained);
        }
        let whole = key.is_none_or(|key| key.whole);
        let believed = || beliefs.iter().flatten();
        let outages = believed().flat_map(|belief| &belief.outages).filter(|outage| key.is_none_or(|key| key.api == outage.api));
        let shut = |outage: &Outage| outage.shut(whole);
        if let Some(outage) = outages.filter(|outage| shut(outage) > now).max_by_key(|outage| shut(outage)) {
            return Some(Unavailable::Out(outage.reason, outage.probing.shown(whole, shut(outage))));
        }
        let open = believed().filter_map(|belief| match belief.circuit.phase() {
            Phase::Open { limited, .. } => Some((belief, belief.circuit_gate(whole).0, limited)),
            Phase::Closed => None,
        });
        let throttled_until = believed().map(|belief| belief.throttled_until).max().unwrap_or_default();
        let quota = quota.filter(|until| *until > throttled_until);
        match open.filter(|(_, until, _)| *until > now).max_by_key(|(_, until, _)| *until) {
            Some((belief, until, limited)) if until >= throttled_until => {
                Some(Unavailable::Tripped { until: belief.probing.shown(whole, until), limited })
            }
            _ if let Some(until) = quota => Some(Unavailable::QuotaPool(until)),
            _ if throttled_until > now => Some(Unavailable::Throttled(throttled_until)),
            _ => key.map_or(self.line.slots.is_full(), |key| !self.line.slots.has_one_for(key, now)).then_some(Unavailable::Busy),
        }
    }

    /// Whether the next request would be a probe.
    pub fn is_half_open(&self) -> bool {
        self.line.doubted.load(Ordering::Acquire) && self.state.lock().shown().iter().flatten().any(|belief| belief.circuit_gate(true).1)
    }

    /// How many probes in a row have failed since its circuit opened.
    pub fn failed_probes(&self) -> u32 {
        self.state.lock().shown().iter().flatten().map(|belief| belief.circuit.failed_probes()).max().unwrap_or(0)
    }

    /// Why it is out until a probe succeeds, if it is.
    pub fn outage(&self) -> Option<OutageReason> {
        self.state.lock().shown().iter().flatten().find_map(|belief| belief.outages.first()).map(|outage| outage.reason)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.line.slots.taken()
    }

    /// Peak EWMA of the time to the first token, in seconds.
    pub fn latency(&self) -> Option<f64> {
        self.state.lock().latency.get()
    }

    /// Share of its rate limits that is left, from its last headers.
    pub fn headroom(&self) -> Option<f64> {
        let parts = self.headroom.load(Ordering::Relaxed);
        (parts != UNTOLD).then(|| f64::from(parts) / f64::from(WHOLE))
    }

    /// A number that depends only on its name.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether it may be asked for the usage of its streams.
    pub fn may_be_asked_usage(&self, api: Api, now: Tick) -> bool {
        now.0 >= self.unasked_until[usize::from(api == Api::Completions)].load(Ordering::Relaxed)
    }

    /// It answered that it can't report the usage of its streams: it is asked again after a while. Returns whether that
    /// is new.
    pub fn refused_usage(&self, api: Api, now: Tick) -> bool {
        let until = now + USAGE_ASKED_AGAIN;
        self.unasked_until[usize::from(api == Api::Completions)].swap(until.0, Ordering::Relaxed) < now.0
    }

    /// Drains or undrains it; requests in flight go on.
    pub fn set_drained(&self, drained: bool) {
        self.line.drained.store(drained, Ordering::Relaxed);
    }

    /// Whether an operator has drained it.
    pub fn is_drained(&self) -> bool {
        self.line.drained.load(Ordering::Relaxed)
    }

    /// Until when it is throttled for all, if it is.
    pub fn throttled_until(&self, now: Tick) -> Option<Tick> {
        let until = self.state.lock().shared.throttled_until;
        (until > now).then_some(until)
    }

    /// Another node's throttle of this target. Extends a throttle, never shortens it.
    pub fn throttle_until(&self, until: Tick, now: Tick) {
        let mut state = self.state.lock();
        state.shared.throttle(until.since(now), now);
        self.publish(&state);
    }

    /// The quota that it shares with other targets, if any.
    pub fn quota(&self) -> Option<Arc<QuotaPool>> {
        self.line.shares_quota.load(Ordering::Relaxed).then(|| self.quota.load_full()).flatten()
    }

    /// Sets the quota that it shares with other targets.
    pub fn set_quota(&self, quota: Option<Arc<QuotaPool>>) {
        let shares = quota.is_some();
        self.quota.store(quota);
        self.line.shares_quota.store(shares, Ordering::Relaxed);
    }

    /// Clears throttle, circuit and outage, and opens its quota pool, for an operator.
    pub fn reset(&self) {
        self.quota().into_iter().for_each(|quota| quota.reset());
        let mut state = self.state.lock();
        state.reset();
        self.publish(&state);
    }

    /// Sets another bound on its requests in flight; those above it finish.
    pub fn set_max_concurrent(&self, most: Option<u32>) {
        self.line.slots.set_most(most);
    }

    /// Ends an outage, because its credentials have changed.
    pub fn clear_outage(&self) {
        let mut state = self.state.lock();
        state.shared.outages.clear();
        state.refused.clear();
        state.own.iter_mut().for_each(|(_, belief)| belief.outages.clear());
        self.publish(&state);
    }

    /// Its state at `now`, for the process that takes over.
    pub fn snapshot(&self, now: Tick) -> TargetState {
        let state = self.state.lock();
        TargetState {
            backend: self.id.backend.to_string(),
            deployment: self.id.deployment.to_string(),
            drained: self.line.drained.load(Ordering::Relaxed),
            shared: state.shared.snapshot(now),
            own: state
                .own
                .iter()
                .map(|(by, belief)| (*by, belief.snapshot(now)))
                .filter(|(_, saved)| *saved != BeliefState::default())
                .collect(),
            askers: (state.only, state.several),
            first_token: state.latency.get().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            headroom: self.headroom(),
            provisioned: self.provisioned.learned(now),
        }
    }

    /// Restores the state that the old process reported at `now`.
    pub fn restore(&self, saved: &TargetState, now: Tick) {
        self.line.drained.store(saved.drained, Ordering::Relaxed);
        if let Some(left) = saved.headroom {
            self.headroom.store((left.clamp(0.0, 1.0) * f64::from(WHOLE)) as u32, Ordering::Relaxed);
        }
        if let Some(learned) = &saved.provisioned {
            self.provisioned.restore(learned, now);
        }
        let mut state = self.state.lock();
        state.shared.restore(&saved.shared, now);
        for (by, own) in &saved.own {
            state.own_mut(*by).restore(own, now);
        }
        (state.only, state.several) = saved.askers;
        if let Some(first) = saved.first_token {
            state.latency.add(first, now);
        }
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        let (circuit, probe) = state.shared.circuit_gate(true);
        self.line.doubted.store(probe || !state.shared.outages.is_empty() || !state.own.is_empty(), Ordering::Release);
        self.line.gate.store(state.shared.throttled_until.max(circuit).0, Ordering::Release);
    }

    fn record(&self, key: RequestKey, probes: [Probes; 2], began: Tick, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Change {
        let mut state = self.state.lock();
        let mut change = Change::None;
        state.note_asker(key.by);
        state.give_back(key, probes);
        if !matches!(outcome, Outcome::Failed { .. }) {
            state.shared.circuit.answered(began);
        }
        match outcome {
            Outcome::Success { first, signal } => {
                state.latency.add(first, now);
                if let Some(left) = signal.headroom() {
                    self.headroom.store((left * f64::from(WHOLE)) as u32, Ordering::Relaxed);
                }
                change = state.succeeded(key, probes, began, rules, now);
                if let Some(wait) = signal.exhausted_for() {
                    change = state.shared.throttle(wait.min(rules.max_retry_after), now).map_or(change, Change::Throttled);
                }
            }
            // Enough for a probe, but no call that counts for a percentage.
            Outcome::CallerFault if probes.iter().any(|probes| probes.any()) => change = state.succeeded(key, probes, began, rules, now),
            Outcome::CallerFault | Outcome::TooLarge => {}
            Outcome::Throttled { retry_after, .. } => {
                change = state.throttled(key.by, rules.throttle_for(retry_after), now);
                let by_all = state.shared.throttled_until > now;
                if by_all && self.headroom.load(Ordering::Relaxed) != UNTOLD {
                    self.headroom.store(0, Ordering::Relaxed);
                }
                let failure = Failure::Status(http::StatusCode::TOO_MANY_REQUESTS);
                if rules.counts(failure) {
                    let circuit = state.failed(key, probes, failure, retry_after, rules, now);
                    change = if circuit == Change::None { change } else { circuit };
                }
            }
            Outcome::Failed { failure, retry_after } => {
                // A failure is recorded as a slow answer, so that quick errors don't attract requests.
                if key.by == 0 || !failure.is_provokable() {
                    let slow = Duration::from_secs_f64(state.latency.get().unwrap_or(1.0).max(1.0));
                    state.latency.add(slow, now);
                }
                if rules.counts(failure) {
                    change = state.failed(key, probes, failure, retry_after, rules, now);
                }
            }
            Outcome::Out(reason) => change = state.refused(key, probes, reason, now),
        }
        self.publish(&state);
        change
    }
}

/// A target's in-flight slot for one attempt. If it is dropped without an outcome, the attempt was cancelled, which
/// says nothing about the target: its probe is free for the next request.
#[derive(Debug)]
pub struct Lease {
    target: Arc<Target>,
    key: RequestKey,
    began: Tick,
    slot: Slot,
    /// The probes that it holds: of the shared belief, and of its consumer's own.
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

    /// A new connection was made for this attempt.
    pub fn connected(&self) {
        self.target.state.lock().shared.circuit.connected();
    }

    /// Records how the attempt went. May be called again: an answer that began as a success can still break.
    pub fn record(&mut self, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Change {
        let probes = std::mem::take(&mut self.probes);
        if let Some(quota) = self.target.quota() {
            let (member, by) = (self.target.seed, self.key.by);
            match outcome {
                Outcome::Success { signal, .. } => quota.served(member, by, signal.headroom(), self.began, now),
                Outcome::Throttled { retry_after, scope: ThrottleScope::Quota } => {
                    quota.refused(member, by, rules.throttle_for(retry_after), now);
                }
                _ => {}
            }
        }
        self.target.record(self.key, probes, self.began, outcome, rules, now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.target.line.slots.give_back(self.slot);
        if self.is_probe() {
            let mut state = self.target.state.lock();
            state.give_back(self.key, self.probes);
            self.target.publish(&state);
        }
    }
}

#[cfg(test)]
mod tests;
