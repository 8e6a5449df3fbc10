//! Limits of consumers, groups and pools, as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::one_or_many::OneOrMany;

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
    /// Requests per period: a table, or a list of them.
    pub request_quota: Option<OneOrMany<RawRequestQuota>>,
    /// Tokens per period: a table, or a list of them.
    pub token_quota: Option<OneOrMany<RawTokenQuota>>,
    /// Money per period: a table, or a list of them.
    pub budget: Option<OneOrMany<RawMoneyBudget>>,
    /// Refuse nothing, only count the requests that would be refused. Default false.
    pub shadow: Option<bool>,
    /// Consumers only: further limits for single models.
    #[serde(default)]
    pub models: BTreeMap<String, RawLimits>,
}

/// A calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPeriod {
    /// A minute of the clock. Only for `budget`: `requests_per_minute` and `tokens_per_minute` count any 60 seconds.
    Minute,
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

/// Requests per period.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRequestQuota {
    /// The number of requests.
    pub requests: u64,
    /// The period.
    pub period: RawPeriod,
    /// The time zone whose calendar has the period, such as `"Europe/Berlin"`. Default `"UTC"`.
    pub time_zone: Option<String>,
}

/// Tokens per period.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTokenQuota {
    /// The number of tokens.
    pub tokens: u64,
    /// The period.
    pub period: RawPeriod,
    /// The time zone whose calendar has the period, such as `"Europe/Berlin"`. Default `"UTC"`.
    pub time_zone: Option<String>,
}

/// Money per period.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMoneyBudget {
    /// US dollars.
    pub usd: f64,
    /// The period.
    pub period: RawPeriod,
    /// The time zone whose calendar has the period, such as `"Europe/Berlin"`. Default `"UTC"`.
    pub time_zone: Option<String>,
}
