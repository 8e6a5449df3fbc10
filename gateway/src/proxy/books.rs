//! What booking an attempt, or an answer of the gateway itself, reads and writes of a request.

use spillway_plugins::limits::Remaining;

use super::copies::Copies;
use super::tunnel::state::Tunnel;
use crate::request::{Attempts, Facts, Metering, ModelRequest, Reply, RequestBody, Timing};

/// What booking an attempt reads and writes of its request.
pub(super) struct Books<'r> {
    pub(super) facts: &'r Facts,
    pub(super) body: &'r mut RequestBody,
    pub(super) attempts: &'r mut Attempts,
    pub(super) timing: &'r mut Timing,
    pub(super) metering: &'r mut Metering,
    pub(super) reply: &'r mut Reply,
    /// Another attempt continues the broken stream: this attempt's answer is not the one that the caller gets.
    pub(super) continued: bool,
}

/// A request that Pingora's loop runs.
pub(super) struct Tunnelled<'r> {
    pub(super) model_request: &'r mut ModelRequest,
    pub(super) tunnel: &'r mut Tunnel,
    pub(super) books: Books<'r>,
    pub(super) copies: &'r Copies,
}

/// What an answer of the gateway itself reads and writes of its request.
pub(super) struct OwnAnswer<'r> {
    pub(super) facts: &'r Facts,
    pub(super) body: &'r RequestBody,
    pub(super) timing: &'r mut Timing,
    pub(super) copies: &'r mut Copies,
    pub(super) reply: &'r mut Reply,
    /// What is left of the caller's rates.
    pub(super) remaining: Remaining,
    pub(super) attempts: &'r mut Attempts,
}
