//! `[usage]`, `[ledger]` and prices, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::DurationText;

/// How usage is reserved and counted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsage {
    /// Tokens that are reserved for a completion if the caller sets no maximum. Default 1024.
    pub assume_completion: Option<u64>,
    /// What happens to the backend's answer when its caller leaves. Default `drain`.
    pub on_disconnect: Option<RawOnDisconnect>,
    /// How the usage of a whole answer that reports none is estimated. Default `exact`.
    pub estimate: Option<RawEstimate>,
    /// Unless `on_disconnect` is `cancel`: how long an answer is read on. Default `30s`.
    pub drain_timeout: Option<DurationText>,
}

/// How the usage of a whole answer that reports none is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawEstimate {
    /// With the tokenizer of the model's family, which takes up to 75 MB of memory while it is used.
    Exact,
    /// By the length of its texts: a token for four bytes. Needs no memory.
    ByLength,
}

/// What happens to the backend's answer when its caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawOnDisconnect {
    /// It is cancelled. The reserved tokens count as used, unless the answer has reported its usage already.
    Cancel,
    /// It is read on for a while, to learn its usage. If it doesn't report any, the reserved tokens count as used.
    Drain,
}

/// The ledger, which records who used what, in `server.state_dir`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLedger {
    /// `fast`: a row is on disk within a tenth of a second. `strict`: before the caller sees the end of its answer.
    /// Default `fast`.
    pub durability: Option<RawDurability>,
    /// Answer 503 while the ledger can't be written. Default false: serve requests, and count and log the lost rows.
    pub required: Option<bool>,
    /// How long single attempts are kept. Default `90d`.
    pub retention: Option<DurationText>,
    /// How long hourly sums are kept. Default `1100d`, three years.
    pub hours_retention: Option<DurationText>,
    /// Record requests that a limit refused and attempts that backends refused, too, so that `spillway shadow` can replay them.
    /// A row each, in a file of its own; at most two million, the latest. Default false.
    pub refusals: Option<bool>,
    /// Headers of callers that are stored with a row, such as `x-team`; at most 8, 64 characters of each.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Copies the hourly sums to a place that all nodes share, for `spillway usage --all-nodes`.
    pub ship: Option<RawShip>,
}

/// Where a node ships its hourly sums, so that one report covers all nodes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawShip {
    /// A folder that all nodes can write, or `redis`: the server of `[redis]`. The gateway doesn't create the folder.
    pub to: String,
    /// Ship single attempts, too: a Parquet file for each hour that is over. Needs a folder. Default false.
    pub rows: Option<bool>,
    /// How often changed hours are shipped. Default `1m`.
    pub every: Option<DurationText>,
    /// How long shipped files of this node are kept. Default: `ledger.hours_retention`.
    pub retention: Option<DurationText>,
}

/// When a row of the ledger is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawDurability {
    /// Within a tenth of a second.
    Fast,
    /// Before the caller sees the end of its answer.
    Strict,
}

/// The price tables.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPrices {
    /// A price table in LiteLLM's JSON format. Its entries have priority over the built-in table.
    pub file: Option<String>,
    /// What a model without a price costs a budget. Default `refuse`.
    pub unknown: Option<RawUnknownPrice>,
}

/// What a model without a price costs a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawUnknownPrice {
    /// Unknown: a config in which a budget applies to such a model is refused.
    Refuse,
    /// Nothing: budgets don't count it.
    Free,
}

/// The price of a deployment, instead of the one in the price table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDeploymentPrice {
    /// The entry of the price table that applies, such as `azure/eu/gpt-4o`.
    pub table: Option<String>,
    /// US dollars per hour, independent of usage: provisioned throughput. Divided among consumers by usage, or by
    /// shares (`ptu.NAME.cost`).
    pub usd_per_hour: Option<f64>,
    /// US dollars per million input tokens.
    pub input: Option<f64>,
    /// US dollars per million output tokens.
    pub output: Option<f64>,
    /// US dollars per million input tokens that are read from the provider's cache. Default: as `input`.
    pub cached_input: Option<f64>,
    /// US dollars per million input tokens that are written to the provider's cache. Default: as `input`.
    pub cache_write: Option<f64>,
    /// What the same costs in the service tier `flex`. Default: as above, and such costs are marked as estimates.
    pub flex: Option<RawTierPrice>,
    /// What the same costs in the service tier `priority`. Default: as above, and such costs are marked as estimates.
    pub priority: Option<RawTierPrice>,
}

/// The prices of a deployment in a service tier.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTierPrice {
    /// US dollars per million input tokens.
    pub input: Option<f64>,
    /// US dollars per million output tokens.
    pub output: Option<f64>,
    /// US dollars per million input tokens that are read from the provider's cache.
    pub cached_input: Option<f64>,
    /// US dollars per million input tokens that are written to the provider's cache.
    pub cache_write: Option<f64>,
}

/// What limits do while Redis can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawOnRedisLoss {
    /// This node continues with the share that it has.
    Share,
    /// All requests are refused.
    Refuse,
    /// All requests are admitted, and counted.
    Allow,
}
