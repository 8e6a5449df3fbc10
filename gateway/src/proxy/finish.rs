//! The end of every request: counted, timed and written to the access log.

use std::time::Duration;

use pingora::proxy::Session;
use spillway_plugins::api::Api;

use super::ctx::{End, RequestCtx};
use super::{Gateway, logged};
use crate::clock::micros;
use crate::telemetry::access_log::{AttemptLine, RequestLine};

/// Writes a request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, ctx: &mut RequestCtx) {
    let took = gateway.clock.now().since(ctx.arrived);
    let status = ctx.status.unwrap_or(499);
    let overhead = ctx.overhead.unwrap_or_else(|| took.saturating_sub(ctx.waited));
    let counters = ctx.inquiry.as_ref().and_then(|inquiry| inquiry.pool.requests(inquiry.api)).unwrap_or(&gateway.unrouted);
    counters.count(status);
    counters.duration.observe(took.as_secs_f64());
    gateway.metrics.overhead.observe(overhead.as_secs_f64());
    if !ctx.runtime.access_log.is_on() && ctx.logged.is_none() {
        return;
    }
    let logged = logged::take(ctx);
    let line = line(session, ctx, status, took, overhead);
    ctx.runtime.access_log.write(&line);
    if let (Some(logged), Some(inquiry), Some(log)) = (logged, &ctx.inquiry, &ctx.runtime.prompt_log) {
        logged::write(log, logged, inquiry.api, ctx.streamed, &line);
    }
}

/// All that is told of a request but its prompt and answer.
fn line<'r>(session: &'r Session, ctx: &'r RequestCtx, status: u16, took: Duration, overhead: Duration) -> RequestLine<'r> {
    let (end, code) = match ctx.end {
        End::CallerLeft => ("caller_left", None),
        End::Complete => ("ok", None),
        End::Refused(code) => ("refused", Some(code)),
        End::LastResort => ("last_resort", None),
        End::Cut => ("cut", None),
    };
    RequestLine {
        time: ctx.arrived_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        id: &ctx.id,
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
        attempts: ctx
            .attempts
            .iter()
            .map(|attempt| AttemptLine {
                backend: &attempt.target.id.backend,
                deployment: &attempt.target.id.deployment,
                outcome: attempt.outcome,
                status: attempt.status,
                us: micros(attempt.took),
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
