//! The attempts of a request.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use spillway_plugins::retry::ThrottleScope;
use spillway_plugins::trace::SpanId;

use crate::attempt_outcome::AttemptOutcome;
use crate::balance::route::Skipped;
use crate::balance::target::Target;
use crate::clock::Tick;

/// One attempt, as it is logged. Written by the attempt loop and by `tunnel`.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The target.
    pub target: Arc<Target>,
    /// Index of the member in its route.
    pub member: usize,
    /// The deployment that served it, if the backend had another one serve it than the target's.
    pub served_by: Option<Arc<str>>,
    /// How full the target's provisioned throughput was when it began, in percent, if it has one and its rate is known.
    pub ptu_percent: Option<u32>,
    /// How it went.
    pub outcome: AttemptOutcome,
    /// The upstream's status.
    pub status: Option<u16>,
    /// When it began.
    pub began: Tick,
    /// How long it took.
    pub took: Duration,
    /// How long the request had waited for a target before this attempt.
    pub waited: Duration,
    /// Its span, where there are traces.
    pub span: Option<SpanId>,
    /// The upstream's error message, shortened and redacted.
    pub said: Option<Arc<str>>,
    /// A pooled connection was already closed: the request was sent once more, on a new connection.
    pub stale: bool,
    /// How long its target asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Which limit its 429 is about, if it is one.
    pub scope: ThrottleScope,
}

/// The attempts of a request, and the members that were skipped.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Every attempt that has ended.
    pub records: SmallVec<[AttemptRecord; 2]>,
    /// Members that were skipped, and why.
    pub skipped: Vec<Skipped>,
    /// Number of the attempt, from 1, for which the skipped members were recorded last.
    pub recorded_for: usize,
}
