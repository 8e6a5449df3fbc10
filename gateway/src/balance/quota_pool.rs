//! A quota that several targets share: one 429 about it closes all of them for its time.
//!
//! Targets ask without a lock while the pool is open to everyone, or closed to everyone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use super::quota_state::{MemberId, Sharing};
use super::quota_state::{Refusal, State};
use crate::clock::Tick;

/// A quota that several targets share.
#[derive(Debug)]
pub struct QuotaPool {
    /// Its label in the config.
    pub name: Arc<str>,
    /// Before this tick it is closed to all consumers.
    closed_until: AtomicU64,
    /// From this tick on it is open to all consumers. In between it depends on the consumer.
    open_from: AtomicU64,
    state: Mutex<State>,
}

/// A quota pool's state, for the process that takes over. Points in time are sent as the time that is left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaPoolState {
    /// Its label.
    pub name: String,
    /// How long it is still closed for all.
    pub closed: Option<Duration>,
    /// How long it is still closed for one consumer, by the number that stands for its name.
    pub own: Option<(u64, Duration)>,
    /// What was learned about its members, and for how long that counts.
    pub learned: Option<(Sharing, Duration)>,
    /// The only consumer that ever asked, and whether there were several.
    pub askers: (Option<u64>, bool),
}

impl QuotaPool {
    /// An open pool.
    pub fn new(name: Arc<str>) -> Self {
        QuotaPool { name, closed_until: AtomicU64::new(0), open_from: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Whether it is closed for this consumer.
    pub fn is_closed(&self, by: u64, now: Tick) -> bool {
        if now.0 >= self.open_from.load(Ordering::Acquire) {
            return false;
        }
        now.0 < self.closed_until.load(Ordering::Acquire) || self.state.lock().closed_until(by) > now
    }

    /// Until when it is closed for this consumer, if it is.
    pub fn closed_until(&self, by: u64, now: Tick) -> Option<Tick> {
        let until = self.state.lock().closed_until(by);
        (until > now).then_some(until)
    }

    /// Until when it is closed, as an operator should see it: for all, or for the only consumer if there is only one.
    pub fn shown_until(&self, now: Tick) -> Option<Tick> {
        let until = self.state.lock().shown_until();
        (until > now).then_some(until)
    }

    /// Until when it is closed for all, if it is.
    pub fn closed_for_all(&self, now: Tick) -> Option<Tick> {
        let until = self.state.lock().shared;
        (until > now).then_some(until)
    }

    /// What was learned about its members, if anything.
    pub fn learned(&self, now: Tick) -> Option<Sharing> {
        self.state.lock().learned(now).map(|(sharing, _)| sharing)
    }

    /// A member served an attempt that began at `began`; `left` is the share of its limits that is left.
    pub(super) fn served(&self, member: MemberId, by: u64, left: Option<f64>, began: Tick, now: Tick) {
        let mut state = self.state.lock();
        state.note_asker(by);
        state.served(member, left, began, now);
    }

    /// A member answered with a 429 about its quota.
    pub(super) fn refused(&self, member: MemberId, by: u64, wait: Duration, now: Tick) {
        let mut state = self.state.lock();
        state.note_asker(by);
        state.refused(Refusal { member, by, until: now + wait }, now);
        self.publish(&state);
    }

    /// Another node closed it for all. Extends a closing, never shortens it.
    pub fn close_until(&self, until: Tick, now: Tick) {
        let mut state = self.state.lock();
        if !matches!(state.learned(now), Some((Sharing::Separate, _))) {
            state.shared = state.shared.max(until);
        }
        self.publish(&state);
    }

    /// Opens it and drops what was learned, for an operator.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.reset();
        self.publish(&state);
    }

    /// Its state at `now`, for the process that takes over.
    pub fn snapshot(&self, now: Tick) -> QuotaPoolState {
        let state = self.state.lock();
        let left = |until: Tick| Some(until.since(now)).filter(|left| !left.is_zero());
        QuotaPoolState {
            name: self.name.to_string(),
            closed: left(state.shared),
            own: state.own.and_then(|(by, until)| Some((by, left(until)?))),
            learned: state.learned(now).map(|(sharing, until)| (sharing, until.since(now))),
            askers: state.askers,
        }
    }

    /// Restores the state that the old process reported at `now`.
    pub fn restore(&self, saved: &QuotaPoolState, now: Tick) {
        let mut state = self.state.lock();
        if let Some(left) = saved.closed {
            state.shared = state.shared.max(now + left);
        }
        if let Some((by, left)) = saved.own {
            state.own = Some((by, now + left));
        }
        if let Some((sharing, left)) = saved.learned {
            state.learn(sharing, now + left);
        }
        state.askers = saved.askers;
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        self.open_from.store(state.open_from().0, Ordering::Release);
        self.closed_until.store(state.shared.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
