//! The end of every request: counted, timed and written to the access log.

use pingora::proxy::Session;
use spillway_plugins::api::Api;

use super::Gateway;
use super::ctx::{End, RequestCtx};
use crate::clock::micros;
use crate::telemetry::access_log::{AttemptLine, RequestLine};

/// Writes a request down.
pub(super) fn finish(gateway: &Gateway, session: &Session, ctx: &RequestCtx) {
    let took = gateway.clock.now().since(ctx.arrived);
    let status = ctx.status.unwrap_or(499);
    let overhead = ctx.overhead.unwrap_or_else(|| took.saturating_sub(ctx.waited));
    let counters = ctx.inquiry.as_ref().and_then(|inquiry| inquiry.pool.requests(inquiry.api)).unwrap_or(&gateway.unrouted);
    counters.count(status);
    counters.duration.observe(took.as_secs_f64());
    gateway.metrics.overhead.observe(overhead.as_secs_f64());
    if !gateway.access_log.is_on() {
        return;
    }
    let (end, code) = match ctx.end {
        End::CallerLeft => ("caller_left", None),
        End::Complete => ("ok", None),
        End::Refused(code) => ("refused", Some(code)),
        End::LastResort => ("last_resort", None),
        End::Cut => ("cut", None),
    };
    gateway.access_log.write(&RequestLine {
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
    });
}
