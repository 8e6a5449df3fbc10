//! The end of every request: counted, timed and written to the access log.

use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use spillway_plugins::api::Api;

use super::ctx::{AttemptRecord, End, RequestCtx};
use super::{Gateway, logged, traced};
use crate::clock::micros;
use crate::telemetry::access_log::{AttemptLine, RequestLine};
use crate::telemetry::recent::{Recent, Tried};

/// Writes a request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, ctx: &mut RequestCtx) {
    let took = gateway.clock.now().since(ctx.arrived);
    let status = ctx.status.unwrap_or(499);
    let overhead = ctx.overhead.unwrap_or_else(|| took.saturating_sub(ctx.waited));
    let counters = ctx.inquiry.as_ref().and_then(|inquiry| inquiry.pool.requests(inquiry.api)).unwrap_or(&gateway.unrouted);
    counters.count(status);
    counters.duration.observe(took.as_secs_f64());
    gateway.metrics.overhead.observe(overhead.as_secs_f64());
    if ctx.runtime.access_log.is_on() || ctx.logged.is_some() {
        write_down(session, ctx, status, took, overhead);
    }
    traced::write(session, ctx, status, took, overhead);
    if !ctx.internal {
        gateway.recent.push(recent(ctx, status, took));
    }
}

fn write_down(session: &Session, ctx: &mut RequestCtx, status: u16, took: Duration, overhead: Duration) {
    let logged = logged::take(ctx);
    let line = line(session, ctx, status, took, overhead);
    ctx.runtime.access_log.write(&line);
    if let (Some(logged), Some(inquiry), Some(log)) = (logged, &ctx.inquiry, &ctx.runtime.prompt_log) {
        logged::write(log, logged, inquiry.api, ctx.streamed, &line);
    }
}

/// How a request ended, and with which code of the gateway's own.
pub(super) fn end(ctx: &RequestCtx) -> (&'static str, Option<&'static str>) {
    match ctx.end {
        End::CallerLeft => ("caller_left", None),
        End::Complete => ("ok", None),
        End::Refused(code) => ("refused", Some(code)),
        End::LastResort => ("last_resort", None),
        End::Cut => ("cut", None),
    }
}

/// What is remembered of a request that is over.
fn recent(ctx: &mut RequestCtx, status: u16, took: Duration) -> Recent {
    let (end, code) = end(ctx);
    let model = ctx.inquiry.as_ref().map(|inquiry| &inquiry.model);
    let priority = |member: usize| model.and_then(|model| model.route.members().get(member)).map_or(0, |member| member.priority);
    let tried = |attempt: &AttemptRecord| Tried {
        backend: Arc::clone(&attempt.target.id.backend),
        deployment: Arc::clone(&attempt.target.id.deployment),
        priority: priority(attempt.member),
        outcome: attempt.outcome.label(),
        status: attempt.status,
        us: micros(attempt.took),
        said: attempt.said.clone(),
        stale: attempt.stale,
    };
    Recent {
        at: ctx.arrived_at.timestamp_millis(),
        consumer: ctx.consumer().map(|consumer| Arc::clone(&consumer.name)),
        api: ctx.api.map_or("-", Api::label),
        model: model.map(|model| Arc::clone(&model.name)),
        pool: ctx.inquiry.as_ref().map(|inquiry| Arc::clone(&inquiry.pool.config.name)),
        status,
        end,
        code,
        cache: ctx.cached.as_ref().map(|cached| cached.result.label()),
        attempts: ctx.attempts.iter().map(tried).collect(),
        passed_over: std::mem::take(&mut ctx.passed_over),
        us: micros(took),
        id: std::mem::take(&mut ctx.id),
    }
}

/// All that is told of a request but its prompt and answer.
fn line<'r>(session: &'r Session, ctx: &'r RequestCtx, status: u16, took: Duration, overhead: Duration) -> RequestLine<'r> {
    let (end, code) = end(ctx);
    RequestLine {
        time: ctx.arrived_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        id: &ctx.id,
        trace_id: ctx.trace.as_ref().map(|trace| trace.id),
        span_id: ctx.trace.as_ref().map(|trace| trace.span),
        consumer: ctx.consumer().map(|consumer| &*consumer.name),
        method: session.req_header().method.as_str(),
        api: ctx.api.map_or("-", Api::label),
        model: ctx.asked_for.as_deref(),
        pool: ctx.inquiry.as_ref().map(|inquiry| &*inquiry.pool.config.name),
        status,
        end,
        code,
        stream: ctx.streamed,
        cache: ctx.cached.as_ref().map(|cached| cached.result.label()),
        rescued: ctx.rescued,
        attempts: ctx
            .attempts
            .iter()
            .map(|attempt| AttemptLine {
                backend: &attempt.target.id.backend,
                deployment: &attempt.target.id.deployment,
                outcome: attempt.outcome.label(),
                status: attempt.status,
                us: micros(attempt.took),
                said: attempt.said.as_deref(),
                stale: attempt.stale,
            })
            .collect(),
        usage: ctx.usage,
        bytes_in: ctx.bytes_in,
        bytes_out: ctx.bytes_out,
        first_us: ctx.first.map(micros),
        us: micros(took),
        overhead_us: micros(overhead),
    }
}
