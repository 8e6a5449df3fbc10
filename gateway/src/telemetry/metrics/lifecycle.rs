//! The life of the process: its config, upgrades, the end.

use prometheus::{IntCounter, IntGauge};

use super::registration::Registration;

/// The config's metrics.
#[derive(Debug, Clone)]
pub struct ConfigMetrics {
    /// Whether the config that was read last is active.
    pub successful: IntGauge,
    /// When the active one was loaded, in seconds since 1970.
    pub loaded_at: IntGauge,
    /// Re-read and now active.
    pub applied: IntCounter,
    /// Re-read and unchanged.
    pub unchanged: IntCounter,
    /// Re-read and refused.
    pub rejected: IntCounter,
}

impl ConfigMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let reloads = to.counters("spillway_config_reloads_total", "Times that the config was re-read, by result.", &["result"])?;
        let of = |result| reloads.with_label_values(&[result]);
        Ok(ConfigMetrics {
            successful: to.gauge("spillway_config_reload_successful", "Whether the config that was read last is active.")?,
            loaded_at: to.gauge("spillway_config_loaded_timestamp_seconds", "When the active config was loaded.")?,
            applied: of("applied"),
            unchanged: of("unchanged"),
            rejected: of("rejected"),
        })
    }
}

/// The results of upgrades.
#[derive(Debug, Clone)]
pub struct UpgradeMetrics {
    /// The new program took over.
    pub done: IntCounter,
    /// It didn't, and the old process continues.
    pub failed: IntCounter,
}

impl UpgradeMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let upgrades = to.counters("spillway_upgrades_total", "Upgrades to another process, by result.", &["result"])?;
        Ok(UpgradeMetrics { done: upgrades.with_label_values(&["done"]), failed: upgrades.with_label_values(&["failed"]) })
    }
}
