//! The whole file, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawBackend, RawConsumer, RawGroup, RawLedger, RawLog, RawObjects, RawPool, RawPrices, RawRedis, RawServer, RawUsage};
use crate::config::plugins::RawPlugins;
use crate::config::shadow::RawShadow;
use crate::config::traces::RawTraces;

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Spillway configuration")]
pub struct RawConfig {
    /// Listeners, bounds and timers of the gateway itself.
    #[serde(default)]
    pub server: RawServer,
    /// Upstream resources. At least one.
    #[serde(default)]
    pub backends: Vec<RawBackend>,
    /// Which backends serve which models. At least one.
    #[serde(default)]
    pub pools: Vec<RawPool>,
    /// The applications and persons that call.
    #[serde(default)]
    pub consumers: Vec<RawConsumer>,
    /// Consumers that share limits.
    #[serde(default)]
    pub groups: Vec<RawGroup>,
    /// Stages that requests pass through.
    #[serde(default)]
    pub plugins: RawPlugins,
    /// How long the gateway remembers stored objects: responses, conversations, files, batches.
    pub objects: Option<RawObjects>,
    /// Redis or Valkey, which several nodes share.
    pub redis: Option<RawRedis>,
    /// How usage is reserved and counted.
    pub usage: Option<RawUsage>,
    /// The ledger, which records who used what, in `server.state_dir`.
    pub ledger: Option<RawLedger>,
    /// The price tables.
    pub prices: Option<RawPrices>,
    /// Logs of the gateway.
    pub log: Option<RawLog>,
    /// Distributed traces.
    pub traces: Option<RawTraces>,
    /// Listeners for a mirror of live traffic.
    pub shadow: Option<RawShadow>,
}
