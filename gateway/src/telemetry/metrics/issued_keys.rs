//! Keys that were issued at run time, and the audit log.

use prometheus::{IntCounter, IntGauge};

use super::registration::Registration;

/// The metrics of keys that were issued at run time.
#[derive(Debug, Clone)]
pub struct IssuedKeyMetrics {
    /// Keys that are stored and not revoked.
    pub keys: IntGauge,
    /// Changes that hold, but are not in the file.
    pub unsaved: IntGauge,
    /// Pieces of the file that could not be read.
    pub damaged: IntCounter,
    /// 1 while they are exchanged with other nodes.
    pub shared: IntGauge,
    /// Keys from Redis that no node of this gateway has written.
    pub refused: IntCounter,
}

impl IssuedKeyMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(IssuedKeyMetrics {
            keys: to.gauge("spillway_issued_keys", "Keys that were issued at run time and are not revoked.")?,
            unsaved: to.gauge("spillway_issued_keys_unsaved", "Changes of issued keys that hold, but are not in the file yet.")?,
            damaged: to
                .counter("spillway_issued_keys_damaged_total", "Pieces of the file of issued keys that were damaged and set aside.")?,
            shared: to.gauge("spillway_issued_keys_shared", "Whether issued keys are exchanged with other nodes; 0 without Redis.")?,
            refused: to.counter("spillway_issued_keys_refused_total", "Issued keys in Redis that this gateway's nodes have not signed.")?,
        })
    }
}

/// The audit log's counters.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    /// Acts recorded.
    pub recorded: IntCounter,
    /// Acts that could not be recorded.
    pub lost: IntCounter,
    /// Acts without effect that are only summed up.
    pub summed_up: IntCounter,
}

impl AuditMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(AuditMetrics {
            recorded: to.counter("spillway_audit_records_total", "Administrative acts that the audit log has recorded.")?,
            lost: to.counter("spillway_audit_records_lost_total", "Administrative acts that the audit log could not record.")?,
            summed_up: to.counter(
                "spillway_audit_summed_up_total",
                "Administrative acts without effect of which the audit log has only the number, because their sender did many.",
            )?,
        })
    }
}
