//! What is believed of a target: by all consumers, or by one of them.
//!
//! What one consumer's requests meet may be that consumer's doing: a prompt that crashes a server, a tool that an
//! account lacks. So what one consumer met is believed for that consumer only. It is believed for all once a second
//! consumer met the same. No consumer can cause a connection to fail: that is believed for all at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use spillway_plugins::api::Api;

use super::circuit::{Circuit, Phase};
use crate::clock::Tick;

/// Which consumer asks, and for which operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey {
    /// A number that stands for the consumer; 0 if callers are not told apart.
    pub by: u64,
    /// The operation.
    pub api: Api,
    /// Whether the whole request is here. If its body is still to come, its caller decides how long it takes.
    pub whole: bool,
}

impl Default for RequestKey {
    /// A chat request of callers that are not told apart.
    fn default() -> Self {
        RequestKey { by: 0, api: Api::Chat, whole: true }
    }
}

impl RequestKey {
    /// Whether its caller decides how long it takes.
    pub(super) fn is_open_ended(&self) -> bool {
        !self.whole || self.api == Api::Realtime
    }

    /// The bit of its operation in a set of operations.
    pub(super) fn bit(&self) -> u32 {
        1 << self.api as u32
    }
}

/// Why a target is out until an operator, or a slow probe, ends the outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageReason {
    /// Its account's quota is used up.
    OutOfQuota,
    /// It refuses our credentials or doesn't know the deployment.
    Misconfigured,
}

/// The first wait before a slow probe, and the longest.
const OUTAGE_PROBE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// The outage of one operation at a target, which refuses it.
#[derive(Debug)]
pub(super) struct Outage {
    /// The operation.
    pub api: Api,
    /// Why.
    pub reason: OutageReason,
    /// When the next probe may be sent.
    pub until: Tick,
    /// How long the wait for that probe is.
    pub wait: Duration,
    /// The probes under way.
    pub probing: Probing,
}

impl Outage {
    /// An outage whose next probe may be sent at `until`.
    pub(super) fn new(api: Api, reason: OutageReason, until: Tick, wait: Duration) -> Self {
        Outage { api, reason, until, wait, probing: Probing::default() }
    }

    /// Until when it keeps requests out; `whole`: of requests that are here as a whole.
    pub(super) fn shut(&self, whole: bool) -> Tick {
        self.probing.gate(whole, self.until)
    }
}

/// How long a probe keeps other requests out. A model that thinks for longer must not keep them waiting.
const PROBE_LASTS: Duration = Duration::from_secs(30);

/// Probes under way, and when they began. If the body of a probe is still to come, its caller decides how long it
/// takes: it doesn't keep out requests that are here as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Probing {
    whole: Option<Tick>,
    partial: Option<Tick>,
}

impl Probing {
    /// When the probe began for which a request must wait, if one is under way.
    fn began(self, whole: bool) -> Option<Tick> {
        self.whole.max(self.partial.filter(|_| !whole))
    }

    /// When a request may be the next probe, not before `until`.
    fn gate(self, whole: bool, until: Tick) -> Tick {
        self.began(whole).map_or(until, |began| until.max(began + PROBE_LASTS))
    }

    /// The time that is shown: unknown while a probe is under way.
    pub(super) fn shown(self, whole: bool, gate: Tick) -> Tick {
        if self.began(whole).is_some() { Tick::NEVER } else { gate }
    }

    fn is_any(self) -> bool {
        self.whole.is_some() || self.partial.is_some()
    }

    fn set(&mut self, whole: bool, began: Option<Tick>) {
        *(if whole { &mut self.whole } else { &mut self.partial }) = began;
    }
}

/// Which probes an attempt holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Probes {
    /// The circuit's probe.
    pub circuit: bool,
    /// The probe of its operation's outage.
    pub outage: bool,
}

impl Probes {
    /// Whether it holds one.
    pub(super) fn any(self) -> bool {
        self.circuit || self.outage
    }
}

/// What is believed of a target.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// The circuit.
    pub circuit: Circuit,
    /// The circuit's probes that are under way.
    pub probing: Probing,
    /// Operations that it refuses.
    pub outages: SmallVec<[Outage; 1]>,
    /// The target is throttled until then.
    pub throttled_until: Tick,
}

impl Belief {
    /// When the circuit lets the next request through, and whether that request is a probe.
    pub(super) fn circuit_gate(&self, whole: bool) -> (Tick, bool) {
        match self.circuit.phase() {
            Phase::Closed => (Tick(0), false),
            Phase::Open { until, .. } => (self.probing.gate(whole, until), true),
        }
    }

    /// When the target may next serve this.
    pub(super) fn gate(&self, key: RequestKey) -> Tick {
        let outage = self.outage(key.api).map_or(Tick(0), |outage| outage.shut(key.whole));
        self.circuit_gate(key.whole).0.max(outage).max(self.throttled_until)
    }

    /// The outage of one operation.
    pub(super) fn outage(&self, api: Api) -> Option<&Outage> {
        self.outages.iter().find(|outage| outage.api == api)
    }

    fn outage_mut(&mut self, api: Api) -> Option<&mut Outage> {
        self.outages.iter_mut().find(|outage| outage.api == api)
    }

    /// Takes the probes that are due.
    pub(super) fn take_probes(&mut self, key: RequestKey, now: Tick) -> Probes {
        let circuit = matches!(self.circuit.phase(), Phase::Open { .. });
        if circuit {
            self.probing.set(key.whole, Some(now));
        }
        let outage = self.outage_mut(key.api).map(|outage| outage.probing.set(key.whole, Some(now))).is_some();
        Probes { circuit, outage }
    }

    /// Gives probes back.
    pub(super) fn give_back(&mut self, key: RequestKey, probes: Probes) {
        if probes.circuit {
            self.probing.set(key.whole, None);
        }
        if probes.outage
            && let Some(outage) = self.outage_mut(key.api)
        {
            outage.probing.set(key.whole, None);
        }
    }

    /// Ends the outage of one operation. Returns whether there was one.
    pub(super) fn end_outage(&mut self, api: Api) -> bool {
        let before = self.outages.len();
        self.outages.retain(|outage| outage.api != api);
        self.outages.len() < before
    }

    /// Delays the next probe of an outage.
    pub(super) fn put_off(&mut self, api: Api, now: Tick) {
        if let Some(outage) = self.outage_mut(api) {
            outage.until = outage.until.max(now + outage.wait);
        }
    }

    /// The target refused an operation; `probe`: the refused request was a probe. Returns whether the outage is new.
    pub(super) fn refused(&mut self, api: Api, reason: OutageReason, probe: bool, now: Tick) -> bool {
        if let Some(outage) = self.outage_mut(api) {
            if probe {
                outage.wait = (outage.wait * 2).min(OUTAGE_PROBE.1);
            }
            outage.until = outage.until.max(now + outage.wait);
            outage.reason = reason;
            return false;
        }
        let wait = OUTAGE_PROBE.0;
        self.outages.push(Outage::new(api, reason, now + wait, wait));
        true
    }

    /// Extends the throttle, never shortens it. Returns by how much.
    pub(super) fn throttle(&mut self, wait: Duration, now: Tick) -> Option<Duration> {
        let until = now + wait;
        let from = self.throttled_until.max(now);
        self.throttled_until = self.throttled_until.max(until);
        Some(until.since(from)).filter(|longer| !longer.is_zero())
    }

    /// Whether nothing is held against the target.
    pub(super) fn is_clear(&self, now: Tick) -> bool {
        self.throttled_until <= now && self.outages.is_empty() && !self.probing.is_any() && self.circuit.is_clear()
    }
}
