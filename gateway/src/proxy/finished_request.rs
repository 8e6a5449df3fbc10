//! A request that has ended, in the form that logs, traces and the admin API use.

use std::time::Duration;

use crate::downstream::Session;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::Metered;

use crate::request::{AttemptRecord, Facts, ModelRequest, Reply, Timing};

/// A request that has ended.
pub(super) struct FinishedRequest<'r> {
    pub(super) session: &'r Session<'r>,
    pub(super) facts: &'r Facts,
    pub(super) model_request: Option<&'r ModelRequest>,
    pub(super) attempts: &'r [AttemptRecord],
    pub(super) timing: &'r Timing,
    pub(super) reply: &'r Reply,
    pub(super) usage: Option<Metered>,
    /// The service tier that its answer names.
    pub(super) service_tier: Option<ServiceTier>,
    /// What the cache did for it.
    pub(super) cache: Option<&'static str>,
    /// Bytes of its body.
    pub(super) bytes_in: usize,
    pub(super) status: u16,
    pub(super) took: Duration,
    /// The gateway's own time.
    pub(super) overhead: Duration,
}
