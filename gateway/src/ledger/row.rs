//! One row of the ledger: one attempt that cost something, or may have.

use std::sync::Arc;

use smallvec::SmallVec;
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::prices::Cost;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::Metered;

/// A request's id; those that the gateway generates need no allocation.
pub type RequestId = SmallVec<[u8; 32]>;

/// A model at one member of its pool: what all attempts there have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLabels {
    /// The model asked for.
    pub model: Arc<str>,
    /// The pool.
    pub pool: Arc<str>,
    /// The backend.
    pub backend: Arc<str>,
    /// The deployment there that served it, or was asked.
    pub deployment: Arc<str>,
    /// The tier.
    pub tier: u32,
    /// The deployment that was asked, if the backend itself had another one serve it.
    pub spilled_from: Option<Arc<str>>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Row {
    /// When its request arrived, in milliseconds since 1970.
    pub at: i64,
    /// The microseconds beyond that, below 1000.
    pub at_us: u16,
    /// The request's id.
    pub request: RequestId,
    /// The number of the attempt in its request, from 1.
    pub attempt: usize,
    /// Whether the caller got this attempt's answer.
    pub answered: bool,
    /// The consumer, if known.
    pub consumer: Option<Arc<str>>,
    /// The configured tag headers that the caller sent, as a JSON object.
    pub tags: Option<Arc<str>>,
    /// The operation.
    pub api: Api,
    /// Where the attempt was sent.
    pub place: Arc<MemberLabels>,
    /// The outcome: an attempt's label, or why none was made.
    pub outcome: &'static str,
    /// The upstream's status.
    pub status: Option<u16>,
    /// The usage.
    pub metered: Metered,
    /// The service tier that served it, if the answer names it.
    pub service_tier: Option<ServiceTier>,
    /// The cost.
    pub cost: Cost,
    /// The price of its service tier is not known: the cost is that of another tier.
    pub cost_estimated: bool,
    /// Which cache the answer came from, if any.
    pub cache: Option<&'static str>,
    /// From the request's arrival until its first output, in microseconds.
    pub first_us: Option<u64>,
    /// How long this attempt took, in microseconds.
    pub us: u64,
    /// The class of its consumer.
    pub class: Class,
    /// The most tokens that the request allowed its answers to have together, if it set a maximum.
    pub cap: Option<u64>,
    /// Upper bound of the tokens in its prompt, if it was computed: a limit reserves so much.
    pub reserved: Option<u64>,
    /// How long the request had waited for a target before this attempt, in microseconds.
    pub waited_us: u64,
    /// From the request's arrival to the beginning of this attempt, in microseconds.
    pub began_us: u64,
}
