//! Limits of consumers, groups and pools, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// How urgent requests are when a pool has not enough capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawClass {
    /// A person waits for the answer.
    Interactive,
    /// The usual.
    Standard,
    /// It can wait.
    Batch,
}

/// Consumers that share limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// Its name.
    pub name: String,
    /// The limits of all its consumers together.
    pub limits: RawLimits,
    /// The owners of all its consumers, in addition to their own; see `consumers.owners`. Default: none.
    #[serde(default)]
    pub owners: Vec<String>,
}

/// Limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests at the same time.
    pub concurrent_requests: Option<u64>,
    /// Tokens per period.
    pub token_quota: Option<RawTokenQuota>,
    /// Money per period.
    pub budget: Option<RawMoneyBudget>,
    /// Refuse nothing, only count the requests that would be refused. Default false.
    pub shadow: Option<bool>,
    /// Consumers only: further limits for single models.
    #[serde(default)]
    pub models: BTreeMap<String, RawLimits>,
}

/// A calendar period, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPeriod {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Tokens per period.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTokenQuota {
    /// The number of tokens.
    pub tokens: u64,
    /// The period.
    pub period: RawPeriod,
}

/// Money per period.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMoneyBudget {
    /// US dollars.
    pub usd: f64,
    /// The period.
    pub period: RawPeriod,
}
