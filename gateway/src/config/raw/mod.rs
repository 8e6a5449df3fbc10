//! The TOML file, as it is written: a mirror with no defaults and no meaning. [`super::validate`]
//! turns it into [`super::Config`]. The JSON Schema comes from these types, and the descriptions
//! in the configuration reference are their doc comments.

mod backends;
mod consumers;
mod plugins;
mod pools;
mod server;

use schemars::JsonSchema;
use serde::Deserialize;

pub use backends::{RawAzureApi, RawBackend, RawBackendAuth, RawKind};
pub use consumers::{RawCertificateName, RawConsumer, RawKey, RawLimits, RawMoneyBudget, RawPeriod, RawTokenQuota};
pub use plugins::{RawAuth, RawCache, RawExactCache, RawJwt, RawPlugins, RawPromptLog, RawSemanticCache, RawUnlisted};
pub use pools::{RawBudget, RawCircuit, RawHealth, RawMember, RawPolicy, RawPool, RawRetry, RawTimeouts};
pub use server::{RawClientAuth, RawServer, RawServerTls, RawTlsVersion};

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
    /// What requests pass through.
    #[serde(default)]
    pub plugins: RawPlugins,
    /// Where prices come from.
    pub prices: Option<RawPrices>,
    /// Logs of the gateway.
    pub log: Option<RawLog>,
}

/// Where prices come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPrices {
    /// A price table in LiteLLM's JSON format.
    pub file: Option<String>,
}

/// Logs of the gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,spillway=debug`. Default `info`.
    pub level: Option<String>,
    /// Where one line per request goes: `stdout`, `off` or a file. Default `stdout`.
    pub access: Option<String>,
}
