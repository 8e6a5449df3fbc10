//! The fields that the gateway adds to an answer's head. They are the same for every kind of answer: from a backend,
//! from the cache, from the last resort, or a refusal.

use super::books::OwnAnswer;
use super::copies::Copies;
use super::{cached, headers, traced, transformed};
use crate::downstream::HeadFields;
use crate::request::{Facts, ModelRequest, Timing};

/// If the config asks for it, adds where an answer comes from, how many attempts were made (once a model is known),
/// what the cache did, and the trace.
pub(super) fn describe(
    facts: &Facts,
    timing: &Timing,
    copies: &Copies,
    head: &mut impl HeadFields,
    backend: Option<&str>,
    attempts: usize,
) {
    if !facts.runtime.config.server.response_headers {
        return;
    }
    if backend.is_some() || facts.asked_for.is_some() {
        headers::describe(head, backend, attempts, timing.overhead);
    }
    cached::describe(copies, head);
    traced::add_to_answer(facts.trace.as_deref(), head);
}

/// Completes a head that is not a backend's: what is left of the caller's rates, the transforms of its consumer and its
/// pool, and where the answer comes from.
pub(super) fn complete(own: &OwnAnswer<'_>, model_request: &ModelRequest, head: &mut impl HeadFields, backend: &str, attempts: usize) {
    headers::rate_limits(head, &own.remaining);
    transformed::response(own.facts, model_request, head);
    describe(own.facts, own.timing, own.copies, head, Some(backend), attempts);
}

#[cfg(test)]
mod tests;
