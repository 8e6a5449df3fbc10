//! `[[pools]]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::RawLimits;
use super::transform::RawTransform;
use crate::config::scalar::{DurationText, SizeText, StatusText};

/// How the members of one tier share the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPolicy {
    /// In proportion to the weights.
    Weighted,
    /// The less busy of two.
    LeastRequests,
    /// The faster of two.
    Latency,
    /// By what the rate-limit headers say is left.
    Headroom,
    /// The same member for the same conversation.
    Affinity,
}

/// A pool: the members that serve a set of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPool {
    /// Its name.
    pub name: String,
    /// The models it serves; a model stands in one pool.
    pub models: Vec<String>,
    /// How the members of one tier share the traffic. Default `weighted`.
    pub policy: Option<RawPolicy>,
    /// Its backends.
    pub members: Vec<RawMember>,
    /// When a member is taken out.
    pub circuit: Option<RawCircuit>,
    /// When a request goes to another member.
    pub retry: Option<RawRetry>,
    /// How long things may take.
    pub timeouts: Option<RawTimeouts>,
    /// What becomes of streams that break.
    pub streams: Option<RawStreams>,
    /// Callers need a token with one of these application roles. Default: none is needed.
    pub roles: Option<Vec<String>>,
    /// Callers need a token with one of these scopes. Default: none is needed.
    pub scopes: Option<Vec<String>>,
    /// What all callers of the pool may use up together. Where room is short, lower classes are refused first.
    pub limits: Option<RawLimits>,
    /// Active health checks. Default: none.
    pub health: Option<RawHealth>,
    /// What becomes of its requests on their way, after what their consumers' `transform` does.
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
    /// Its share within the tier; 0 takes no traffic. Default 1.
    pub weight: Option<u32>,
    /// The most tokens that a prompt may have there. Where one is too long for a member, it goes on to those that take more.
    /// Default: what the table of prices says of the model.
    pub context: Option<u64>,
}

/// When a member is taken out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCircuit {
    /// Failures within `interval` that open the circuit. Default 5.
    pub failures: Option<u32>,
    /// Percentage of failed calls within `interval` that opens it, instead of `failures`.
    pub failure_percent: Option<u32>,
    /// Calls before `failure_percent` means anything. Default 10.
    pub min_calls: Option<u32>,
    /// The sliding window. Default `1m`.
    pub interval: Option<DurationText>,
    /// Statuses that count as failures. Default `[408, "500-599"]`.
    pub statuses: Option<Vec<StatusText>>,
    /// Errors that count: `connect`, `tls`, `timeout`, `reset`, `first_token`, `idle`. Default
    /// `["connect", "tls", "reset"]`: time runs out for a model that thinks, too.
    pub errors: Option<Vec<String>>,
    /// How long the circuit stays open at first; twice as long after each probe that fails. Default `5s`, or `trip` if that is
    /// shorter.
    pub first_trip: Option<DurationText>,
    /// How long it stays open at most. Default `30s`.
    pub trip: Option<DurationText>,
    /// Let Retry-After say how long. Default true.
    pub honour_retry_after: Option<bool>,
    /// The longest Retry-After that is believed. Default `2m`.
    pub max_retry_after: Option<DurationText>,
    /// The throttle's length when a 429 says nothing. Default `10s`.
    pub default_retry_after: Option<DurationText>,
}

/// When a request goes to another member.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetry {
    /// Attempts that may fail; moves away from a throttled member don't count. Default 4.
    pub max_attempts: Option<u32>,
    /// Statuses that go elsewhere. Default `[408, 429, 500, 502, 503, 504, 529]`.
    pub statuses: Option<Vec<StatusText>>,
    /// How often a member that throttled a request, or failed fast, is asked again before the others are: after its
    /// Retry-After, if that is within `wait` or a second, or after 100 to 500 ms. Default 0.
    pub same_target: Option<u32>,
    /// How long a request may wait when every member is throttled. Default `1s`.
    pub wait: Option<DurationText>,
    /// Requests that may wait at once; past it the lower classes of callers are refused first. Default 100.
    pub queue: Option<usize>,
    /// Bound on retries after failures.
    pub budget: Option<RawBudget>,
}

/// Bound on retries after failures.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBudget {
    /// Retries as a share of requests, in percent. Default 20.
    pub percent: Option<u32>,
    /// Retries per second that are always allowed. Default 10.
    pub floor_per_second: Option<u32>,
}

/// How long things may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTimeouts {
    /// Until a connection stands, TLS included. Default `3s`.
    pub connect: Option<DurationText>,
    /// Until a stream's first event, and where no thinking is to be expected, until its first output. Default `30s`.
    pub first_token: Option<DurationText>,
    /// Until the head of a plain answer, where no thinking is to be expected. Default `2m`.
    pub answer: Option<DurationText>,
    /// Until the first output of a model that thinks: from each event that shows that it works to the next, or where there
    /// are none, in all. Default `10m`.
    pub thinking: Option<DurationText>,
    /// Longest silence within an answer. Default `60s`.
    pub idle: Option<DurationText>,
    /// For everything, all attempts and waits included. Default `10m`.
    pub total: Option<DurationText>,
}

/// What becomes of streams that break.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStreams {
    /// Whether a stream of chat, completions, Messages or (with `store` false) Responses that breaks after its first output is
    /// continued with another answer to the same request, as far as that one repeats what was sent. Costs a second answer. The
    /// stream of a response with `background` is read on where it runs. Default `off`.
    pub rescue: Option<RawRescue>,
    /// Most text of a stream that is kept for that. A stream with more is not continued. Default `64KiB`.
    pub rescue_max: Option<SizeText>,
}

/// Whether streams that break are continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawRescue {
    /// They end with an error event.
    Off,
    /// With another answer that repeats what was sent; the first difference ends it with the error event.
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
    /// Statuses that are healthy. Default `["200-499"]`: any answer but a server error.
    pub statuses: Option<Vec<StatusText>>,
    /// Failed checks in a row that take a member out. Default 2.
    pub unhealthy_after: Option<usize>,
    /// Good checks in a row that bring it back. Default 1.
    pub healthy_after: Option<usize>,
}
