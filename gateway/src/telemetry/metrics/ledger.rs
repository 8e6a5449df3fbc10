//! The ledger.

use prometheus::{IntCounter, IntGauge};

use super::registration::Registration;

/// The ledger's counters.
#[derive(Debug, Clone)]
pub struct LedgerMetrics {
    /// Whether it can be written.
    pub up: IntGauge,
    /// Rows written.
    pub rows: IntCounter,
    /// Rows lost.
    pub dropped: IntCounter,
    /// Rows that wait to be written.
    pub waiting: IntGauge,
    /// Times that it couldn't be written, was broken, or its file was removed.
    pub failures: IntCounter,
    /// Refusals that wait to be written.
    pub refusals_waiting: IntGauge,
    /// Refusals that are not recorded.
    pub refusals_dropped: IntCounter,
    /// Shipping.
    pub ship: ShipMetrics,
}

/// Shipping of hourly sums.
#[derive(Debug, Clone)]
pub struct ShipMetrics {
    /// Files written.
    pub files: IntCounter,
    /// Rounds that failed.
    pub failures: IntCounter,
    /// The time of the last good round.
    pub last_success: IntGauge,
    /// Hours that another node has written under this node's name.
    pub conflicts: IntGauge,
}

impl ShipMetrics {
    fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(ShipMetrics {
            files: to.counter("spillway_ledger_ship_files_total", "Files of hourly sums and attempts that were shipped.")?,
            failures: to
                .counter("spillway_ledger_ship_failures_total", "Rounds of shipping that failed; the next one ships what is missing.")?,
            last_success: to.gauge(
                "spillway_ledger_ship_last_success_timestamp_seconds",
                "When everything was shipped last, in seconds since 1970; 0 without shipping.",
            )?,
            conflicts: to
                .gauge("spillway_ledger_ship_conflicts", "Hours that another node has shipped with a copy of this node's ledger.")?,
        })
    }
}

impl LedgerMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(LedgerMetrics {
            up: to.gauge("spillway_ledger_up", "Whether the ledger can be written; 0 without one.")?,
            rows: to.counter("spillway_ledger_rows_total", "Rows that the ledger has written.")?,
            dropped: to.counter("spillway_ledger_rows_dropped_total", "Rows that the ledger has lost.")?,
            waiting: to.gauge("spillway_ledger_waiting_rows", "Rows that wait to be written.")?,
            failures: to.counter(
                "spillway_ledger_failures_total",
                "Times that the ledger could not be written, was broken, or its file was removed.",
            )?,
            refusals_waiting: to.gauge("spillway_ledger_waiting_refusals", "Refusals that wait to be written.")?,
            refusals_dropped: to.counter("spillway_ledger_refusals_dropped_total", "Refusals that the ledger has lost.")?,
            ship: ShipMetrics::new(to)?,
        })
    }
}
