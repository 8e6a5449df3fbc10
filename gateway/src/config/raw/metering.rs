//! `[usage]`, `[ledger]` and prices, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::DurationText;

/// How use is reserved and counted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsage {
    /// Tokens that are reserved for a completion whose caller sets no cap. Default 1024.
    pub assume_completion: Option<u64>,
    /// What happens upstream when a caller leaves in the middle of its answer. Default `drain`.
    pub on_disconnect: Option<RawOnDisconnect>,
    /// Unless `on_disconnect` is `cancel`: for how long an answer is read on. Default `30s`.
    pub drain_timeout: Option<DurationText>,
}

/// What happens upstream when a caller leaves in the middle of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawOnDisconnect {
    /// It is cancelled. What was reserved counts as used, unless the answer has told already.
    Cancel,
    /// It is read on for a while, to learn what was used. If it doesn't tell, what was reserved counts as used.
    Drain,
}

/// The record of who used what, in `server.state_dir`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLedger {
    /// `fast`: a row is safe within a tenth of a second. `strict`: before the caller sees the end of its
    /// answer. Default `fast`.
    pub durability: Option<RawDurability>,
    /// Answer 503 while the ledger can't be written. Default false: serve, count what is lost, and tell.
    pub required: Option<bool>,
    /// How long single attempts are kept. Default `90d`.
    pub retention: Option<DurationText>,
    /// How long hourly sums are kept. Default `1100d`, three years.
    pub hours_retention: Option<DurationText>,
    /// Headers of callers that are kept with a row, such as `x-team`; at most 8, 64 characters of each.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// When a row of the ledger is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawDurability {
    /// Within a tenth of a second.
    Fast,
    /// Before the caller sees the end of its answer.
    Strict,
}

/// Where prices come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPrices {
    /// A price table in LiteLLM's JSON format. Its entries go before those of the table that is built in.
    pub file: Option<String>,
    /// What a model without a price costs a budget. Default `refuse`.
    pub unknown: Option<RawUnknownPrice>,
}

/// What a model without a price costs a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawUnknownPrice {
    /// Nobody knows: a config in which a budget applies to such a model is refused.
    Refuse,
    /// Nothing: budgets don't count it.
    Free,
}

/// What a deployment costs, instead of what the price table says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDeploymentPrice {
    /// The entry of the price table that applies, such as `azure/eu/gpt-4o`.
    pub table: Option<String>,
    /// US dollars per hour, whatever is used: provisioned throughput. Shared out by use.
    pub usd_per_hour: Option<f64>,
    /// US dollars per million input tokens.
    pub input: Option<f64>,
    /// US dollars per million output tokens.
    pub output: Option<f64>,
    /// US dollars per million input tokens that are read from the provider's cache. Default: as `input`.
    pub cached_input: Option<f64>,
    /// US dollars per million input tokens that are written to the provider's cache. Default: as `input`.
    pub cache_write: Option<f64>,
}

/// What limits do while Redis is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawOnRedisLoss {
    /// This node goes on with the share that it has.
    Share,
    /// Nothing more is admitted.
    Refuse,
    /// Everything is admitted, and counted.
    Allow,
}
