//! One row of the ledger: one attempt that cost something, or may have.

use std::sync::Arc;

use smallvec::SmallVec;
use spillway_plugins::api::Api;
use spillway_plugins::prices::Cost;
use spillway_plugins::tokens::Metered;

/// A request's id; those that the gateway makes need no memory of their own.
pub type RequestId = SmallVec<[u8; 32]>;

/// A model at one of its pool's members: what all attempts there have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
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
    /// Which attempt of its request, from 1.
    pub attempt: usize,
    /// Whether it is the one whose answer the caller got.
    pub answered: bool,
    /// Whose it is, if known.
    pub consumer: Option<Arc<str>>,
    /// The configured tag headers that the caller sent, as a JSON object.
    pub tags: Option<Arc<str>>,
    /// The operation.
    pub api: Api,
    /// Where it went.
    pub place: Arc<Place>,
    /// How it went; an attempt's label, or why none was made.
    pub outcome: &'static str,
    /// The upstream's status.
    pub status: Option<u16>,
    /// What was used.
    pub metered: Metered,
    /// What it cost.
    pub cost: Cost,
    /// Which cache it came from, if it came from one.
    pub cache: Option<&'static str>,
    /// From the request's arrival until its first output, in microseconds.
    pub first_us: Option<u64>,
    /// How long this attempt took, in microseconds.
    pub us: u64,
}
