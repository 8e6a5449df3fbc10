//! The prompt log.

use prometheus::IntCounter;

use super::registration::Registration;

/// The prompt log's counters.
#[derive(Debug, Clone)]
pub struct PromptLogMetrics {
    /// Records written.
    pub records: IntCounter,
    /// Records lost.
    pub dropped: IntCounter,
    /// Events that the collector didn't accept.
    pub export_dropped: IntCounter,
}

impl PromptLogMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(PromptLogMetrics {
            records: to.counter("spillway_prompt_log_records_total", "Records that the prompt log has written.")?,
            dropped: to.counter("spillway_prompt_log_dropped_total", "Records that the prompt log has lost.")?,
            export_dropped: to.counter("spillway_prompt_log_export_dropped_total", "Records that the collector didn't accept.")?,
        })
    }
}
