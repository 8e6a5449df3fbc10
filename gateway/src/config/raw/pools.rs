//! `[[pools]]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::{RawClass, RawLimits};
use super::service_tier::RawServiceTier;
use super::steering::{RawPatience, RawPrefer, RawSpill};
use crate::balance::policy::Policy;
use crate::config::quota_pools::RawQuotaPool;
use crate::config::scalar::{DurationText, SizeText, StatusText};
use crate::config::transform::RawTransform;

/// A pool: the members that serve a set of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPool {
    /// Its name.
    pub name: String,
    /// The models it serves; a model belongs to one pool.
    pub models: Vec<String>,
    /// How the members of one tier share the traffic. Default `weighted`.
    pub policy: Option<Policy>,
    /// Its backends.
    pub members: Vec<RawMember>,
    /// When a member's circuit opens.
    pub circuit: Option<RawCircuit>,
    /// When a request goes to another member.
    pub retry: Option<RawRetry>,
    /// Timeouts.
    pub timeouts: Option<RawTimeouts>,
    /// What happens to streams that break.
    pub streams: Option<RawStreams>,
    /// Callers need a token with one of these application roles. Default: none is needed.
    pub roles: Option<Vec<String>>,
    /// Callers need a token with one of these scopes. Default: none is needed.
    pub scopes: Option<Vec<String>>,
    /// The limits of all its callers together. If there is not enough capacity, lower classes are refused first.
    pub limits: Option<RawLimits>,
    /// Active health checks. Default: none.
    pub health: Option<RawHealth>,
    /// When requests leave a deployment with provisioned throughput (`backends.ptu`) for the next tier. Default
    /// `on-429`.
    pub spill: Option<RawSpill>,
    /// With `spill = "ahead"`: which requests get its room when there is not enough. Default `first-come`.
    pub prefer: Option<RawPrefer>,
    /// With `spill = "ahead"`: how long requests wait for its room. Default: they don't.
    pub patience: Option<RawPatience>,
    /// Changes to its requests and their answers, after the `transform` of the consumer.
    pub transform: Option<RawTransform>,
}

/// A backend as a member of a pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMember {
    /// The backend's name.
    pub backend: String,
    /// Its tier; lower goes first. Default 1.
    pub priority: Option<u32>,
    /// Its share within the tier; 0 gets no requests. Default 1.
    pub weight: Option<u32>,
    /// The most tokens that a prompt may have there. A longer prompt goes to a member with a higher limit. Default: the
    /// model's limit in the price table.
    pub context: Option<u64>,
    /// The name of the quota that it shares with other members: a 429 of one of them closes all of them for its time. Azure
    /// counts the quota of a model by subscription, for many models over all regions. All members of the config with the
    /// same name share one. A table gives each model its own name: `{ "gpt-4o" = "a", "gpt-4o-mini" = "b" }`. `own` says
    /// that it shares none. Default: it shares none, and `check` warns if it may.
    pub quota_pool: Option<RawQuotaPool>,
    /// The service tier in which its requests of chats and responses are sent, whatever their callers ask for. The same
    /// backend may be a member once for each tier, with different priorities. Default: as the caller asks.
    pub service_tier: Option<RawServiceTier>,
    /// The classes of callers whose requests it serves. Default: all.
    pub classes: Option<Vec<RawClass>>,
    /// It serves only requests whose deadline (`x-spillway-deadline`, `consumers.deadline`) is nearer than the time that
    /// nearly all answers of the model take: for the service tier `priority`, for instance. Default false.
    pub late_only: Option<bool>,
}

/// When a member's circuit opens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCircuit {
    /// Failures within `interval` that open the circuit, if they are at least a tenth of the calls. Connections that fail
    /// count only until one is made. Default 5.
    pub failures: Option<u32>,
    /// Percentage of failed calls within `interval` that opens it, instead of `failures`.
    pub failure_percent: Option<u32>,
    /// Calls from which on `failure_percent` counts. Default 10.
    pub min_calls: Option<u32>,
    /// The sliding window. Default `1m`.
    pub interval: Option<DurationText>,
    /// Statuses that count as failures. Default `[408, "500-599"]`.
    pub statuses: Option<Vec<StatusText>>,
    /// Errors that count. Default `["connect", "tls", "reset"]`, without timeouts: time also runs out when a model thinks for
    /// long.
    pub errors: Option<Vec<RawCircuitError>>,
    /// How long the circuit stays open at first; twice as long after each failed probe. Default `5s`, or `trip` if that
    /// is shorter.
    pub first_trip: Option<DurationText>,
    /// How long it stays open at most. Default `30s`.
    pub trip: Option<DurationText>,
    /// Retry-After sets how long. Default true.
    pub honour_retry_after: Option<bool>,
    /// The longest Retry-After that is used. Default `2m`.
    pub max_retry_after: Option<DurationText>,
    /// The throttle's length if a 429 has no Retry-After. Default `10s`.
    pub default_retry_after: Option<DurationText>,
}

/// An error that counts as a failure of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawCircuitError {
    /// No connection could be made.
    Connect,
    /// TLS failed.
    Tls,
    /// No answer came in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// A stream's first event or output didn't come in time.
    FirstToken,
    /// An answer was silent for too long.
    Idle,
}

/// When a request goes to another member.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetry {
    /// Most failed attempts; a move away from a throttled member, or from one that can't be reached, doesn't count. Default 4.
    pub max_attempts: Option<u32>,
    /// Statuses after which another member is asked. Default `[408, 429, 500, "502-504", 507, "520-527", "529-530"]`: not
    /// 501 and 505, which every member would answer, and not 424 and 425, which may be about the request.
    pub statuses: Option<Vec<StatusText>>,
    /// How often a member that throttled a request, or failed quickly, is asked again before the others are: after its
    /// Retry-After, if that is within `wait` or a second, or after 100 to 500 ms. Default 0.
    pub same_target: Option<u32>,
    /// How long a request may wait when every member is throttled. Default `1s`.
    pub wait: Option<DurationText>,
    /// Most requests that wait at the same time; above it the lower classes of callers are refused first. Default 100.
    pub queue: Option<usize>,
    /// Limit of retries after failures.
    pub budget: Option<RawBudget>,
}

/// Limit of retries after failures. Those that don't count for `max_attempts` don't count here, either.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBudget {
    /// Retries as a share of requests, in percent. Default 20.
    pub percent: Option<u32>,
    /// Retries per second that are always allowed. Default 10.
    pub floor_per_second: Option<u32>,
}

/// Timeouts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTimeouts {
    /// Until a connection is made, with TLS. Default `3s`.
    pub connect: Option<DurationText>,
    /// Until a stream's first event, and if the model isn't expected to think, until its first output. Default `30s`.
    pub first_token: Option<DurationText>,
    /// Until the head of a plain answer, if the model isn't expected to think. Default `2m`.
    pub answer: Option<DurationText>,
    /// Until the first output of a model that thinks: the longest time between two events that show that it works, or
    /// the whole time if there are no such events. Default `10m`.
    pub thinking: Option<DurationText>,
    /// Longest silence within an answer. Default `60s`.
    pub idle: Option<DurationText>,
    /// For the whole request, with all attempts and waits. Default `10m`.
    pub total: Option<DurationText>,
}

/// What happens to streams that break.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStreams {
    /// Whether a stream of chat, completions, Messages or (with `store` false) Responses that breaks after its first
    /// output is continued with another answer to the same request, as long as that answer repeats what was sent. Costs
    /// a second answer. For a response with `background`, the stream is read on from the backend that runs it. Default
    /// `off`.
    pub rescue: Option<RawRescue>,
    /// Most text of a stream that is kept for that. A longer stream is not continued. Default `64KiB`.
    pub rescue_max: Option<SizeText>,
}

/// Whether streams that break are continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawRescue {
    /// They end with an error event.
    Off,
    /// They are continued with another answer that repeats what was sent; the first difference ends the stream with the
    /// error event.
    Verified,
}

/// Active health checks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealth {
    /// Path and query to GET.
    pub path: String,
    /// Time between checks. Default `10s`.
    pub interval: Option<DurationText>,
    /// Time for one check. Default `3s`.
    pub timeout: Option<DurationText>,
    /// Statuses that count as healthy. Default `["200-499"]`: any answer except a server error.
    pub statuses: Option<Vec<StatusText>>,
    /// Failed checks in a row after which a member is out. Default 2.
    pub unhealthy_after: Option<usize>,
    /// Successful checks in a row after which it is in again. Default 1.
    pub healthy_after: Option<usize>,
}
