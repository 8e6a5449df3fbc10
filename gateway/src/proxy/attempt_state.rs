//! An attempt in progress.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::{RateSignal, ThrottleScope};
use spillway_plugins::trace::SpanId;

use crate::balance::provisioned::Booking;
use crate::balance::target::Lease;
use crate::clock::Tick;
use crate::runtime::Spilled;

/// An attempt's slot and state.
pub(super) struct AttemptState {
    pub(super) lease: Lease,
    /// Index of the member in its route.
    pub(super) member: usize,
    pub(super) began: Tick,
    /// How long the request had waited for a target before.
    pub(super) waited: Duration,
    /// Its span, if tracing is on.
    pub(super) span: Option<SpanId>,
    pub(super) status: Option<http::StatusCode>,
    pub(super) signal: RateSignal,
    /// Which limit its 429 is about, if it is one.
    pub(super) scope: ThrottleScope,
    /// The deployment that served it, if the backend had another one serve it.
    pub(super) spilled_to: Option<Arc<Spilled>>,
    /// Whether any byte of the request was sent.
    pub(super) sent: bool,
    /// A content filter refused it. It may cost something all the same.
    pub(super) filtered: bool,
    /// The upstream's error message.
    pub(super) said: Option<Arc<str>>,
    /// How full its target's provisioned throughput was when it began, in percent, if it has one and its rate is known.
    pub(super) ptu_percent: Option<u32>,
    /// What it takes of its target's provisioned throughput, if that has one.
    pub(super) booking: Option<Booking>,
}
