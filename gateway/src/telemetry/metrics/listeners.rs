//! The listeners: connections, TLS, heads that are no requests.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::registration::Registration;

/// The results of changed certificate files, as labels.
const RELOADS: [&str; 2] = ["loaded", "refused"];

/// What came to the listeners.
#[derive(Debug)]
pub struct ListenerFamilies {
    /// Connections of callers.
    pub connections: IntGauge,
    /// Connections refused because there were too many.
    pub connections_refused: IntCounter,
    /// Heads that were not HTTP, answered before there was a request.
    pub bad_heads: IntCounter,
    /// Heads that took too long.
    pub head_timeouts: IntCounter,
    tls_failures: IntCounterVec,
    tls_reloads: IntCounterVec,
    /// When the listeners' certificate expires, in seconds since 1970.
    pub tls_expires: IntGauge,
}

impl ListenerFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(ListenerFamilies {
            connections: to.gauge("spillway_connections", "Connections of callers.")?,
            connections_refused: to.counter("spillway_connections_refused_total", "Connections refused because there were too many.")?,
            bad_heads: to.counter("spillway_bad_heads_total", "Heads that were not HTTP.")?,
            head_timeouts: to.counter("spillway_head_timeouts_total", "Heads that took too long.")?,
            tls_failures: to.counters(
                "spillway_tls_handshake_failures_total",
                "TLS handshakes with callers that failed, by reason.",
                &["reason"],
            )?,
            tls_reloads: to.counters(
                "spillway_tls_reloads_total",
                "Changes of the listeners' certificate files, by result.",
                &["outcome"],
            )?,
            tls_expires: to.gauge(
                "spillway_tls_certificate_expiry_timestamp_seconds",
                "When the listeners' certificate expires, in seconds since 1970; 0 without TLS.",
            )?,
        })
    }

    /// Exports these reasons, and the results of changed files, from the start.
    pub fn expose_tls(&self, reasons: impl IntoIterator<Item = &'static str>) {
        reasons.into_iter().for_each(|reason| drop(self.tls_failures.with_label_values(&[reason])));
        RELOADS.iter().for_each(|outcome| drop(self.tls_reloads.with_label_values(&[outcome])));
    }

    /// Counts a handshake with a caller that failed, by a label of `listener_tls::FAILURES`.
    pub fn tls_failure(&self, reason: &'static str) {
        self.tls_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a change of the listeners' certificate files.
    pub fn tls_reload(&self, good: bool) {
        self.tls_reloads.with_label_values(&[RELOADS[usize::from(!good)]]).inc();
    }
}
