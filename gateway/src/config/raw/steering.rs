//! Provisioned throughput, and how a pool uses it, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::RawClass;
use crate::config::scalar::DurationText;

/// The provisioned throughput (PTU) of a deployment. Without `units` and `tokens_per_minute` it is learned from the
/// deployment's 429s.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPtu {
    /// The number of PTUs that are deployed. What a PTU takes comes from a table that the gateway ships, by the model.
    pub units: Option<u32>,
    /// Instead of `units`: the input tokens that the deployment takes per minute.
    pub tokens_per_minute: Option<u64>,
    /// How many input tokens an output token weighs. Default: the table's value for the model, or 4.
    pub output_ratio: Option<f64>,
    /// The model, as the table names it. Default: the model of `deployments` that has this deployment, or the
    /// deployment's name.
    pub model: Option<String>,
    /// How many seconds' worth of tokens the deployment takes in a burst before it answers 429. Azure doesn't document
    /// it. Default `10s`.
    pub depth: Option<DurationText>,
    /// With `spill = "ahead"`: the percentage of requests that may meet its 429. Only these tell the gateway how full it
    /// is. Default 0.4.
    pub refusal_percent: Option<f64>,
    /// With `spill = "ahead"`: who is guaranteed how much of it. What they don't need is lent to all.
    #[serde(default)]
    pub shares: Vec<RawShare>,
    /// How reports divide its price per hour (`prices`) among consumers. Default `by-use`.
    pub cost: Option<RawPtuCost>,
}

/// How reports divide the price per hour of provisioned throughput.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPtuCost {
    /// By tokens, among those who used it in that hour.
    #[default]
    ByUse,
    /// By `shares`, used or not. What no one has a share of is divided by tokens among those who have none.
    ByShare,
}

/// What a consumer, a group or a class is guaranteed of provisioned throughput.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawShare {
    /// The consumer's name.
    pub consumer: Option<String>,
    /// Instead: the group's name. A consumer's own share goes before that of its group.
    pub group: Option<String>,
    /// Instead: a class. The share of a consumer or its group goes before that of its class.
    pub class: Option<RawClass>,
    /// How much, in percent.
    pub percent: f64,
}

/// When requests leave a deployment with provisioned throughput for the next tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawSpill {
    /// When it answers 429.
    #[default]
    #[serde(rename = "on-429")]
    On429,
    /// When the gateway's own account of it says that it is full. Its 429s correct the account.
    Ahead,
}

/// Which requests get the room of a deployment with provisioned throughput when there is not enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPrefer {
    /// Those that come first.
    #[default]
    FirstCome,
    /// Those that would cost most elsewhere for what they take here.
    Savings,
}

/// How long a request waits for room in a deployment with provisioned throughput, by the class of its consumer,
/// before it goes to the next tier.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPatience {
    /// Default `0s`.
    pub interactive: Option<DurationText>,
    /// Default `0s`.
    pub standard: Option<DurationText>,
    /// Default `0s`.
    pub batch: Option<DurationText>,
}
