//! The guard.

use prometheus::{IntCounter, IntCounterVec};
use spillway_plugins::guard::Finding;

use super::registration::Registration;

/// The guard's counters.
#[derive(Debug, Clone)]
pub struct GuardMetrics {
    blocked: IntCounterVec,
    /// Contents that could not be checked.
    pub unchecked: IntCounter,
}

impl GuardMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(GuardMetrics {
            blocked: to.counters(
                "spillway_guard_blocked_total",
                "Contents that the guard has blocked, by side and finding.",
                &["side", "finding"],
            )?,
            unchecked: to.counter("spillway_guard_unchecked_total", "Contents that could not be checked.")?,
        })
    }

    /// Counts a blocked content, of a `request` or an `answer`.
    pub fn blocked(&self, side: &str, finding: &Finding) {
        self.blocked.with_label_values(&[side, finding.label()]).inc();
    }
}
