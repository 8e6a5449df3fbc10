//! What is known of a target, and how outcomes change it: what one consumer met, and what is believed for all.

use std::time::Duration;

use smallvec::SmallVec;
use spillway_plugins::api::Api;

use super::belief::{Belief, OutageReason, Probes, RequestKey};
use super::change::Change;
use super::circuit::{Circuit, CircuitRules, Failure, Phase};
use super::latency::PeakEwma;
use crate::clock::Tick;

/// Most consumers with a belief of their own; the one whose last outcome is oldest goes first.
const OWN: usize = 16;

/// How long a due probe waits for a request that is here as a whole, before a request whose body is still to come may
/// be the probe.
const PROBE_WAITS: Duration = Duration::from_secs(30);

/// The state of a target, and the rules by which it changes.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What is believed for all.
    pub(super) shared: Belief,
    /// What single consumers met; the one with the latest outcome is last.
    pub(super) own: SmallVec<[(u64, Belief); 1]>,
    /// The consumer that met the failure of the last probe, if that is not believed for all yet.
    probe_failed_by: Option<u64>,
    /// The consumer that was refused an operation; removed when the operation is served.
    pub(super) refused: SmallVec<[(Api, u64); 1]>,
    /// Operations that were served, as a set of bits.
    pub(super) served: u32,
    /// The only consumer that ever asked, and whether there were several.
    pub(super) only: Option<u64>,
    pub(super) several: bool,
    pub(super) latency: PeakEwma,
}

impl State {
    pub(super) fn own(&self, by: u64) -> Option<&Belief> {
        self.own.iter().find(|(who, _)| *who == by).map(|(_, belief)| belief)
    }

    pub(super) fn own_mut(&mut self, by: u64) -> &mut Belief {
        let known = self.own.iter().position(|(who, _)| *who == by);
        let entry = known.map_or_else(|| (by, Belief::default()), |at| self.own.remove(at));
        if self.own.len() >= OWN {
            self.own.remove(0);
        }
        self.own.push(entry);
        let last = self.own.len() - 1;
        &mut self.own[last].1
    }

    /// When the target may next serve this.
    pub(super) fn gate(&self, key: RequestKey) -> Tick {
        let own = self.own(key.by).map_or(Tick(0), |belief| belief.gate(key));
        let gate = self.shared.gate(key).max(own);
        let probe = !key.whole && self.would_probe(key);
        if probe { gate + PROBE_WAITS } else { gate }
    }

    fn would_probe(&self, key: RequestKey) -> bool {
        let probes = |belief: &Belief| belief.circuit_gate(key.whole).1 || belief.outage(key.api).is_some();
        probes(&self.shared) || self.own(key.by).is_some_and(probes)
    }

    /// What an operator should see: what is believed for all, and the belief of the only consumer if there is only one.
    pub(super) fn shown(&self) -> [Option<&Belief>; 2] {
        [Some(&self.shared), self.only.filter(|_| !self.several).and_then(|only| self.own(only))]
    }

    pub(super) fn note_asker(&mut self, by: u64) {
        match self.only {
            None => self.only = Some(by),
            Some(only) => self.several |= only != by,
        }
    }

    /// Clears throttle, circuits and refusals, but not the known consumers and the latency.
    pub(super) fn reset(&mut self) {
        let State { served, only, several, latency, .. } = *self;
        *self = State { served, only, several, latency, ..State::default() };
    }

    /// Gives an attempt's probes back.
    pub(super) fn give_back(&mut self, key: RequestKey, probes: [Probes; 2]) {
        self.shared.give_back(key, probes[0]);
        if probes[1].any()
            && let Some((_, own)) = self.own.iter_mut().find(|(who, _)| *who == key.by)
        {
            own.give_back(key, probes[1]);
        }
    }

    /// A success closes the circuit and ends an outage if it is the probe's success, and removes failures that others
    /// met.
    pub(super) fn succeeded(&mut self, key: RequestKey, probes: [Probes; 2], began: Tick, rules: &CircuitRules, now: Tick) -> Change {
        let RequestKey { by, api, .. } = key;
        let closed = self.shared.circuit.succeeded(by, probes[0].circuit, began, rules, now);
        let ended = probes[0].outage && self.shared.end_outage(api);
        self.refused.retain(|(refused, _)| *refused != api);
        self.served |= key.bit();
        if probes[0].any() {
            self.probe_failed_by = None;
        }
        let mut own_recovered = false;
        if let Some(at) = self.own.iter().position(|(who, _)| *who == by) {
            let own = &mut self.own[at].1;
            let closed = own.circuit.succeeded(0, probes[1].circuit, began, rules, now);
            own_recovered = own.end_outage(api) || closed;
            if own.is_clear(now) {
                self.own.remove(at);
            }
        }
        if closed || ended || own_recovered { Change::Recovered } else { Change::None }
    }

    /// A failure that counts. One that a caller may have caused is believed for that caller, until another one met the
    /// same.
    pub(super) fn failed(
        &mut self,
        key: RequestKey,
        probes: [Probes; 2],
        failure: Failure,
        retry_after: Option<Duration>,
        rules: &CircuitRules,
        now: Tick,
    ) -> Change {
        let RequestKey { by, api, .. } = key;
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
            own.circuit = Circuit::open(now + rules.trip_for(retry_after, 0), false, 0);
        } else if own.circuit.failed(failure, 0, probes[1].circuit, retry_after, rules, now) && !opened {
            return Change::TrippedForOne;
        }
        if probes.iter().any(|probes| probes.outage) {
            own.put_off(api, now);
        }
        if opened { Change::Tripped } else { Change::None }
    }

    /// The target refused an operation. That is believed for all once two consumers were refused without a success in
    /// between.
    pub(super) fn refused(&mut self, key: RequestKey, probes: [Probes; 2], reason: OutageReason, now: Tick) -> Change {
        let RequestKey { by, api, .. } = key;
        if by == 0 {
            let new = self.shared.refused(api, reason, probes[0].outage, now);
            return if new { Change::Out(reason) } else { Change::None };
        }
        let before = self.refused.iter().find(|(refused, _)| *refused == api).map(|(_, who)| *who);
        if before.is_none() {
            self.refused.push((api, by));
        }
        let own_new = {
            // Refused twice in a row, or never served: the cause is not only this request.
            let believed = before.is_some() || self.served & key.bit() == 0 || probes.iter().any(|probes| probes.outage);
            believed && self.own_mut(by).refused(api, reason, probes[1].outage, now)
        };
        let agreed = before.is_some_and(|other| other != by);
        if agreed {
            // The next consumer to agree must be a different one again.
            self.refused.iter_mut().filter(|(refused, _)| *refused == api).for_each(|(_, who)| *who = by);
            if self.shared.refused(api, reason, probes[0].outage, now) {
                return Change::Out(reason);
            }
        }
        if own_new { Change::OutForOne(reason) } else { Change::None }
    }

    /// The target answered 429. The request may be larger than it looks: nobody here knows the size of what it refers
    /// to. So this is believed for all once a second consumer gets a 429 while the first one waits.
    pub(super) fn throttled(&mut self, by: u64, wait: Duration, now: Tick) -> Change {
        if by == 0 || self.own.iter().any(|(other, belief)| *other != by && belief.throttled_until > now) {
            return self.shared.throttle(wait, now).map_or(Change::None, Change::Throttled);
        }
        match self.own_mut(by).throttle(wait, now) {
            Some(_) if self.several => Change::ThrottledForOne,
            longer => longer.map_or(Change::None, Change::Throttled),
        }
    }
}
