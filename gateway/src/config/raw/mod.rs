//! The TOML file, as it is written: without defaults and without validation. [`super::validate`] turns it into
//! [`super::Config`]. The JSON Schema is generated from these types, and their doc comments are the descriptions in the
//! configuration reference. The keys of plugins are in [`super::plugins`].

mod api_kind;
mod backends;
mod consumers;
mod file;
mod groups;
mod guarantee;
mod limits;
mod metering;
mod one_or_many;
mod pools;
mod portal;
mod server;
mod service_tier;
mod sign_in;
mod steering;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{DurationText, SecretText};

pub use api_kind::RawApiKind;
pub use backends::{RawAzureApi, RawBackend, RawBackendAuth};
pub use consumers::{RawCertificateName, RawConsumer, RawKey};
pub use file::RawConfig;
pub use groups::RawGroup;
pub use guarantee::RawGuarantee;
pub use limits::{RawClass, RawLimits, RawMoneyBudget, RawPeriod, RawRequestQuota, RawTokenQuota};
pub use metering::{
    RawDeploymentPrice, RawDurability, RawEstimate, RawLedger, RawOnDisconnect, RawOnRedisLoss, RawPrices, RawShip, RawTierPrice,
    RawUnknownPrice, RawUsage,
};
pub use one_or_many::OneOrMany;
pub use pools::{RawBudget, RawCircuit, RawCircuitError, RawHealth, RawMember, RawPool, RawRescue, RawRetry, RawStreams, RawTimeouts};
pub use portal::{RawIssuedKeys, RawPortal};
pub use server::{RawClientAuth, RawCors, RawServer, RawServerTls, RawTlsVersion};
pub use service_tier::RawServiceTier;
pub use sign_in::{RawEveryone, RawSignIn, RawSignInRoles};
pub use steering::{RawPatience, RawPrefer, RawPtu, RawPtuCost, RawShare, RawSpill};

/// Which backend has each stored object, and which consumer made it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawObjects {
    /// Most objects that are remembered in memory; the one not used for longest is forgotten first. Default 100000.
    pub max: Option<u64>,
    /// How long each is remembered. Default `30d`, as long as Azure keeps responses.
    pub ttl: Option<DurationText>,
}

/// Redis or Valkey, which several nodes share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRedis {
    /// Its URL, such as `rediss://:password@host:6380`: a secret, because of the password.
    pub url: SecretText,
    /// The prefix of every key. Default `spillway:`.
    pub prefix: Option<String>,
    /// This node's name among the nodes that share it. Default: a name that is generated once and stored in
    /// `server.state_dir`.
    pub node: Option<String>,
    /// The least number of nodes: used while no other node is known yet. Default 1.
    pub nodes: Option<u64>,
    /// What token quotas and budgets do while Redis can't be reached; limits per minute continue with this node's
    /// share. Default `share`.
    pub quotas_when_lost: Option<RawOnRedisLoss>,
}

/// Logs of the gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,spillway=debug`. Default `info`.
    pub level: Option<String>,
    /// Where the access log, one line per request, goes: `stdout`, `off` or a file. Default `stdout`.
    pub access: Option<String>,
    /// Format of these lines: `json`, or `text` for people. Default `json`.
    pub format: Option<RawLogFormat>,
}

/// The format of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawLogFormat {
    /// A JSON object with all fields.
    Json,
    /// The most important fields, for people.
    Text,
}
