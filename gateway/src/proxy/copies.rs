//! What is kept of a request and its answer, beside what the caller gets.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use spillway_plugins::cache::CacheKey;
use spillway_plugins::cache::semantic::Question;
use spillway_plugins::prompt_log::{Compact, Level};

use super::record::Record;
use crate::cache::Flight;
use crate::request::{BufferShare, ReplayBody};
use crate::telemetry::metrics::CacheResult;

/// What is kept of a request and its answer, beside what the caller gets.
#[derive(Debug, Default)]
pub struct Copies {
    /// For the cache, where there is one.
    pub cached: Option<Box<Cached>>,
    /// For the prompt log, where there is one.
    pub logged: Option<Box<Logged>>,
}

/// How a request stands with the cache.
#[derive(Debug)]
pub struct Cached {
    pub(super) key: CacheKey,
    /// What the caller is told.
    pub result: CacheResult,
    /// How near the question was whose answer it gets.
    pub(super) score: Option<f32>,
    /// Those who wait for the answer.
    pub(super) flight: Option<Flight>,
    /// The answer as it goes out, if it may be kept.
    pub(super) record: Option<Record>,
    /// What the semantic cache learns with it.
    pub(super) lesson: Option<PendingEntry>,
}

/// A question and its embedding.
#[derive(Debug)]
pub(super) struct PendingEntry {
    pub(super) question: Question,
    pub(super) vector: Arc<[f32]>,
}

/// A request that is written down.
#[derive(Debug)]
pub struct Logged {
    pub(super) level: Level,
    /// The answer as it goes out.
    pub(super) answer: Option<Copied>,
    /// The request's body, once it is over.
    pub(super) body: Option<ReplayBody>,
    /// What is written of a body that is too long to be kept for the log, and its share of the room for bodies.
    pub(super) excerpt: Option<(Compact, BufferShare)>,
    /// What counts what waits of its consumer's.
    pub(super) share: Option<Arc<AtomicUsize>>,
}

/// What is copied of an answer.
#[derive(Debug)]
pub(super) enum Copied {
    Stream(Record),
    Plain(Compact),
}
