//! A request's position in its caller's trace, the trace headers for upstreams and callers, and the spans at its end.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use spillway_plugins::trace::context::{TRACEPARENT, TRACESTATE};
use spillway_plugins::trace::{AttemptSpan, Parent, RequestSpan, SpanId, Trace, begin};

use super::finished_request::FinishedRequest;
use super::headers;
use crate::clock::Tick;
use crate::downstream::HeadFields;
use crate::gateway::Gateway;
use crate::request::{AttemptRecord, Facts};

/// Adds a request to its caller's trace, or starts a new one.
pub(super) fn join(gateway: &Gateway, caller: &HeaderMap, facts: &mut Facts) {
    let Some(traces) = &facts.runtime.traces else { return };
    let random = crate::random::with_rng(|rng| (rng.u128(..), rng.u64(..)));
    let now = Duration::from_nanos(gateway.clock.now().0);
    facts.trace = Some(Box::new(begin(caller, &traces.sampler, random, now)));
}

/// A request that the gateway itself made belongs to the trace of the request that caused it.
pub(super) fn join_own(parent: Option<Parent>, facts: &mut Facts) {
    let (Some(trace), Some(parent)) = (&mut facts.trace, parent) else { return };
    let sampled = parent.sampled;
    **trace = Trace::new(parent.trace, trace.span, Some(parent), sampled);
}

/// The span id of an attempt that begins.
pub(super) fn attempt(facts: &Facts) -> Option<SpanId> {
    facts.trace.as_ref().map(|_| SpanId::new(crate::random::with_rng(|rng| rng.u64(..))))
}

/// Adds the trace headers of this attempt to an upstream's request, in place of the caller's.
pub(super) fn add_to_request(facts: &Facts, span: Option<SpanId>, head: &mut impl HeadFields) {
    let (Some(trace), Some(span)) = (&facts.trace, span) else { return };
    head.set(&TRACEPARENT, trace.traceparent(span).as_bytes());
    match &trace.state {
        Some(state) => head.set(&TRACESTATE, state.as_bytes()),
        None => head.remove(&TRACESTATE),
    }
}

/// Adds the trace id to the caller's answer.
pub(super) fn add_to_answer(trace: Option<&Trace>, head: &mut impl HeadFields) {
    if let Some(trace) = trace {
        head.set(&headers::X_SPILLWAY_TRACE_ID, trace.id.to_string().as_bytes());
    }
}

/// Sends the spans of a request that has ended.
pub(super) fn write(request: &FinishedRequest<'_>) {
    let Some(trace) = request.facts.trace.as_ref().filter(|trace| trace.sampled) else { return };
    let Some(traces) = &request.facts.runtime.traces else { return };
    let began = u64::try_from(request.facts.arrived_at.timestamp_nanos_opt().unwrap_or(0)).unwrap_or(0);
    // The wall clock is read only once; later times are computed from there.
    let at = |tick: Tick| after(began, tick.since(request.facts.arrived));
    let model_request = request.model_request;
    let span = |attempt: &AttemptRecord| {
        Some(AttemptSpan {
            id: attempt.span?,
            place: Arc::clone(&model_request?.model.members.get(attempt.member)?.traced),
            began: at(attempt.began),
            ended: at(attempt.began + attempt.took),
            waited: attempt.waited,
            outcome: attempt.outcome.label(),
            is_error: attempt.outcome.is_error(),
            status: attempt.status,
        })
    };
    let head = request.session.req_header();
    traces.write(Box::new(RequestSpan {
        trace: (**trace).clone(),
        began,
        ended: after(began, request.took),
        id: request.facts.id.clone(),
        consumer: request.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        api: request.facts.api,
        // Requests about stored objects name no model.
        model: model_request
            .filter(|model_request| model_request.object.is_none())
            .map(|model_request| Arc::clone(&model_request.model.name)),
        pool: model_request.map(|model_request| Arc::clone(&model_request.pool.config.name)),
        stream: model_request.is_some_and(|model_request| model_request.fields.stream),
        max_tokens: model_request.and_then(|model_request| model_request.fields.cap()),
        choices: model_request.and_then(|model_request| model_request.fields.choices),
        status: request.status,
        end: request.reply.end.label(),
        code: request.reply.end.code(),
        cache: request.cache,
        first: request.timing.first,
        overhead: request.overhead,
        usage: request.usage.map(|metered| metered.usage),
        attempts: request.attempts.iter().filter_map(span).collect(),
    }));
}

fn after(nanos: u64, time: Duration) -> u64 {
    nanos.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
