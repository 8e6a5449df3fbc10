//! One row of the ledger: one attempt that cost something, or may have.

use std::sync::Arc;

use smallvec::SmallVec;
use spillway_plugins::api::Api;
use spillway_plugins::prices::Cost;
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
    /// The deployment there.
    pub deployment: Arc<str>,
    /// The tier.
    pub tier: u32,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Row {
    /// When its request arrived, in milliseconds since 1970.
    pub at: i64,
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
    /// The cost.
    pub cost: Cost,
    /// Which cache the answer came from, if any.
    pub cache: Option<&'static str>,
    /// From the request's arrival until its first output, in microseconds.
    pub first_us: Option<u64>,
    /// How long this attempt took, in microseconds.
    pub us: u64,
}
