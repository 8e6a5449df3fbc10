//! What the gateway itself says in the head of an answer, the same for every kind of answer: a backend's, a kept one, the last
//! resort's, and a refusal.

use pingora::http::ResponseHeader;

use super::books::OwnAnswer;
use super::copies::Copies;
use super::{cached, headers, traced, transformed};
use crate::request::{Facts, ModelRequest, Timing};

/// Where an answer comes from, how many attempts it took (once a model is asked for), how the cache was asked, and the trace:
/// if the config wants that.
pub(super) fn describe(facts: &Facts, timing: &Timing, copies: &Copies, head: &mut ResponseHeader, backend: Option<&str>, attempts: usize) {
    if !facts.runtime.config.server.response_headers {
        return;
    }
    if backend.is_some() || facts.asked_for.is_some() {
        let _ = headers::describe(head, backend, attempts, timing.overhead);
    }
    cached::describe(copies, head);
    traced::tell_caller(facts.trace.as_deref(), head);
}

/// The rest of a head that is not a backend's: what is left of the caller's rates, what its consumer and its pool change, and
/// where the answer comes from.
pub(super) fn complete(own: &OwnAnswer<'_>, model_request: &ModelRequest, head: &mut ResponseHeader, backend: &str, attempts: usize) {
    headers::rate_limits(head, &own.remaining);
    transformed::response(own.facts, model_request, head);
    describe(own.facts, own.timing, own.copies, head, Some(backend), attempts);
}

#[cfg(test)]
mod tests;
