//! An attempt under way.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::RateSignal;
use spillway_plugins::trace::SpanId;

use crate::balance::target::Lease;
use crate::clock::Tick;

/// An attempt's slot, and what is known of it.
pub(super) struct AttemptState {
    pub(super) lease: Lease,
    /// Index of the member in its route.
    pub(super) member: usize,
    pub(super) began: Tick,
    /// How long the request had waited for a target.
    pub(super) waited: Duration,
    /// Its span, where there are traces.
    pub(super) span: Option<SpanId>,
    pub(super) status: Option<http::StatusCode>,
    pub(super) signal: RateSignal,
    /// Whether anything of the request went there.
    pub(super) sent: bool,
    /// A content filter refused it, which costs all the same.
    pub(super) filtered: bool,
    /// What the upstream said of its failure.
    pub(super) said: Option<Arc<str>>,
}
