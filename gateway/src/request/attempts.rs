//! The attempts of a request.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use spillway_plugins::trace::SpanId;

use crate::attempt_outcome::AttemptOutcome;
use crate::balance::route::Skipped;
use crate::balance::target::Target;
use crate::clock::Tick;

/// One attempt, for the log. Written by `attempts` and `tunnel`.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// Where.
    pub target: Arc<Target>,
    /// Index of the member in its route.
    pub member: usize,
    /// How it went.
    pub outcome: AttemptOutcome,
    /// The upstream's status.
    pub status: Option<u16>,
    /// When it began.
    pub began: Tick,
    /// How long it took.
    pub took: Duration,
    /// How long the request had waited for a target before.
    pub waited: Duration,
    /// Its span, where there are traces.
    pub span: Option<SpanId>,
    /// What the upstream said of its failure, cut and redacted.
    pub said: Option<Arc<str>>,
    /// The connection from the pool turned out to be closed: the request was sent once more, on a fresh one.
    pub stale: bool,
}

/// The attempts of a request, and the members that it could not go to.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Every attempt that has ended.
    pub made: SmallVec<[AttemptRecord; 2]>,
    /// Members that the request could not go to.
    pub passed_over: Vec<Skipped>,
    /// For how many attempts that is noted.
    pub noted: usize,
}
