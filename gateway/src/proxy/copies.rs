//! Copies of a request and its answer, for the cache and the prompt log.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use spillway_plugins::cache::CacheKey;
use spillway_plugins::cache::semantic::Question;
use spillway_plugins::prompt_log::{Compact, Level};

use super::answer_copy::AnswerCopy;
use crate::cache::Flight;
use crate::request::{BufferShare, ReplayBody};
use crate::telemetry::metrics::CacheResult;

/// Copies of a request and its answer, for the cache and the prompt log.
#[derive(Debug, Default)]
pub struct Copies {
    /// For the cache, if one is configured.
    pub cached: Option<Box<Cached>>,
    /// For the prompt log, if one is configured.
    pub logged: Option<Box<Logged>>,
}

/// What the cache did for a request.
#[derive(Debug)]
pub struct Cached {
    pub(super) key: CacheKey,
    /// The result that the caller is shown.
    pub result: CacheResult,
    /// How similar the question is whose answer the caller gets.
    pub(super) score: Option<f32>,
    /// Requests that wait for the same answer.
    pub(super) flight: Option<Flight>,
    /// The answer as it is sent, if it may be cached.
    pub(super) record: Option<AnswerCopy>,
    /// The entry that the semantic cache stores with the answer.
    pub(super) lesson: Option<PendingEntry>,
}

/// A question and its embedding, to be stored with the answer.
#[derive(Debug)]
pub(super) struct PendingEntry {
    pub(super) question: Question,
    pub(super) vector: Arc<[f32]>,
}

/// A request that the prompt log records.
#[derive(Debug)]
pub struct Logged {
    pub(super) level: Level,
    /// The answer as it is sent.
    pub(super) answer: Option<Copied>,
    /// The request's body, once the request has ended.
    pub(super) body: Option<ReplayBody>,
    /// An excerpt of a body that is too long for the log, and its share of the buffer budget.
    pub(super) excerpt: Option<(Compact, BufferShare)>,
    /// Counts the bytes of its consumer that wait to be logged.
    pub(super) share: Option<Arc<AtomicUsize>>,
}

/// A copy of an answer.
#[derive(Debug)]
pub(super) enum Copied {
    Stream(AnswerCopy),
    Plain(Compact),
    /// One that came in one piece, and is short.
    Whole(Bytes),
}
