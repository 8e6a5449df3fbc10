//! Limits of consumers, groups and pools, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// How urgent requests are where a pool's room is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawClass {
    /// Somebody waits for the answer.
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
    /// What its consumers may use up together.
    pub limits: RawLimits,
}

/// What may be used up.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrent_requests: Option<u64>,
    /// Tokens per period.
    pub token_quota: Option<RawTokenQuota>,
    /// Money per period.
    pub budget: Option<RawMoneyBudget>,
    /// Refuse nothing, only count what would have been refused. Default false.
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
    /// How many.
    pub tokens: u64,
    /// Per which period.
    pub period: RawPeriod,
}

/// Money per period.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMoneyBudget {
    /// US dollars.
    pub usd: f64,
    /// Per which period.
    pub period: RawPeriod,
}
