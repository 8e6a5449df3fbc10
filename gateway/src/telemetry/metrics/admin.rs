//! The admin listener.

use prometheus::IntCounterVec;

use super::registration::Registration;

/// The admin listener.
#[derive(Debug)]
pub struct AdminMetrics {
    refusals: IntCounterVec,
}

impl AdminMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let help = "Requests that the admin listener has refused, by reason.";
        Ok(AdminMetrics { refusals: to.counters("spillway_admin_refusals_total", help, &["reason"])? })
    }

    /// Exports these reasons from the start.
    pub fn expose(&self, reasons: impl IntoIterator<Item = &'static str>) {
        reasons.into_iter().for_each(|reason| drop(self.refusals.with_label_values(&[reason])));
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.with_label_values(&[reason]).inc();
    }
}
