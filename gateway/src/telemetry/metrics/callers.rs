//! Who calls: credentials that are not known, and the keys of the token issuer.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::registration::Registration;

/// How callers were identified.
#[derive(Debug)]
pub struct CallerFamilies {
    failures: IntCounterVec,
    key_set_fetches: IntCounterVec,
    key_set_fetched: IntGauge,
}

impl CallerFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(CallerFamilies {
            failures: to.counters("spillway_auth_failures_total", "Callers that are not known, by reason.", &["reason"])?,
            key_set_fetches: to.counters(
                "spillway_key_set_fetches_total",
                "Fetches of the token issuer's public keys, by outcome.",
                &["outcome"],
            )?,
            key_set_fetched: to.gauge(
                "spillway_key_set_fetched_timestamp_seconds",
                "When the token issuer's public keys were last fetched, in seconds since 1970.",
            )?,
        })
    }

    /// Exports these reasons from the start.
    pub fn expose_failures(&self, reasons: impl IntoIterator<Item = &'static str>) {
        reasons.into_iter().for_each(|reason| drop(self.failures.with_label_values(&[reason])));
    }

    /// Counts a caller that is not known, by a label of `Denied`.
    pub fn failed(&self, reason: &'static str) {
        self.failures.with_label_values(&[reason]).inc();
    }

    /// The counters of the token issuer's keys.
    pub fn issuer(&self) -> IssuerMetrics {
        IssuerMetrics::new(&self.key_set_fetches, self.key_set_fetched.clone())
    }
}

/// The counters of the token issuer's keys, looked up once.
#[derive(Debug, Clone)]
pub struct IssuerMetrics {
    fetched: IntCounter,
    failed: IntCounter,
    at: IntGauge,
}

impl IssuerMetrics {
    /// Of these families.
    pub(super) fn new(fetches: &IntCounterVec, at: IntGauge) -> Self {
        IssuerMetrics { fetched: fetches.with_label_values(&["fetched"]), failed: fetches.with_label_values(&["failed"]), at }
    }

    /// The keys were fetched at `now`, in seconds since 1970.
    pub fn fetched(&self, now: i64) {
        self.fetched.inc();
        self.at.set(now);
    }

    /// They could not be fetched.
    pub fn failed(&self) {
        self.failed.inc();
    }
}
