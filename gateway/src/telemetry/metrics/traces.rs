//! Spans.

use prometheus::IntCounter;

use super::registration::Registration;

/// The counters of spans.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    /// Spans that the collector has accepted.
    pub exported: IntCounter,
    /// Spans that it didn't accept.
    pub dropped: IntCounter,
}

impl TraceMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(TraceMetrics {
            exported: to.counter("spillway_trace_spans_exported_total", "Spans that the collector has accepted.")?,
            dropped: to.counter("spillway_trace_spans_dropped_total", "Spans that the collector didn't accept.")?,
        })
    }
}
