//! The end of every request: counted, timed and written to the access log.

use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use spillway_plugins::api::Api;

use super::ctx::RequestCtx;
use super::{Gateway, logged, traced};
use crate::clock::micros;
use crate::request::{AttemptRecord, End, Reply};
use crate::telemetry::access_log::{AttemptLine, RequestLine};
use crate::telemetry::recent::{Recent, Tried};

/// Writes a request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, ctx: &mut RequestCtx) {
    let took = gateway.clock.now().since(ctx.facts.arrived);
    let status = ctx.reply.status.unwrap_or(499);
    let overhead = ctx.timing.overhead.unwrap_or_else(|| took.saturating_sub(ctx.timing.waited));
    let counters = ctx.inquiry.as_ref().and_then(|inquiry| inquiry.pool.requests(inquiry.api)).unwrap_or(&gateway.unrouted);
    counters.count(status);
    counters.duration.observe(took.as_secs_f64());
    gateway.metrics.overhead.observe(overhead.as_secs_f64());
    if ctx.facts.runtime.access_log.is_on() || ctx.copies.logged.is_some() {
        write_down(session, ctx, status, took, overhead);
    }
    traced::write(session, ctx, status, took, overhead);
    if !ctx.facts.internal {
        gateway.recent.push(recent(ctx, status, took));
    }
}

fn write_down(session: &Session, ctx: &mut RequestCtx, status: u16, took: Duration, overhead: Duration) {
    let logged = logged::take(&mut ctx.body, &mut ctx.copies);
    let line = line(session, ctx, status, took, overhead);
    ctx.facts.runtime.access_log.write(&line);
    if let (Some(logged), Some(inquiry), Some(log)) = (logged, &ctx.inquiry, &ctx.facts.runtime.prompt_log) {
        logged::write(log, logged, inquiry.api, ctx.reply.streamed, &line);
    }
}

/// How a request ended, and with which code of the gateway's own.
pub(super) fn end(reply: &Reply) -> (&'static str, Option<&'static str>) {
    match reply.end {
        End::CallerLeft => ("caller_left", None),
        End::Complete => ("ok", None),
        End::Refused(code) => ("refused", Some(code)),
        End::LastResort => ("last_resort", None),
        End::Cut => ("cut", None),
    }
}

/// What is remembered of a request that is over.
fn recent(ctx: &mut RequestCtx, status: u16, took: Duration) -> Recent {
    let (end, code) = end(&ctx.reply);
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
        at: ctx.facts.arrived_at.timestamp_millis(),
        consumer: ctx.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
        api: ctx.facts.api.map_or("-", Api::label),
        model: model.map(|model| Arc::clone(&model.name)),
        pool: ctx.inquiry.as_ref().map(|inquiry| Arc::clone(&inquiry.pool.config.name)),
        status,
        end,
        code,
        cache: ctx.copies.cached.as_ref().map(|cached| cached.result.label()),
        attempts: ctx.attempts.made.iter().map(tried).collect(),
        passed_over: std::mem::take(&mut ctx.attempts.passed_over),
        us: micros(took),
        id: std::mem::take(&mut ctx.facts.id),
    }
}

/// All that is told of a request but its prompt and answer.
fn line<'r>(session: &'r Session, ctx: &'r RequestCtx, status: u16, took: Duration, overhead: Duration) -> RequestLine<'r> {
    let (end, code) = end(&ctx.reply);
    RequestLine {
        time: ctx.facts.arrived_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        id: &ctx.facts.id,
        trace_id: ctx.facts.trace.as_ref().map(|trace| trace.id),
        span_id: ctx.facts.trace.as_ref().map(|trace| trace.span),
        consumer: ctx.facts.consumer().map(|consumer| &*consumer.name),
        method: session.req_header().method.as_str(),
        api: ctx.facts.api.map_or("-", Api::label),
        model: ctx.facts.asked_for.as_deref(),
        pool: ctx.inquiry.as_ref().map(|inquiry| &*inquiry.pool.config.name),
        status,
        end,
        code,
        stream: ctx.reply.streamed,
        cache: ctx.copies.cached.as_ref().map(|cached| cached.result.label()),
        rescued: ctx.reply.rescued,
        attempts: ctx
            .attempts
            .made
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
        usage: ctx.metering.usage,
        bytes_in: ctx.body.bytes,
        bytes_out: ctx.reply.bytes_out,
        first_us: ctx.timing.first.map(micros),
        us: micros(took),
        overhead_us: micros(overhead),
    }
}
