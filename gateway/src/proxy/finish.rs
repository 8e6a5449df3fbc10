//! The end of every request: it is counted, timed and written to the access log.

use std::sync::Arc;

use crate::downstream::Session;
use spillway_plugins::api::Api;
use spillway_plugins::service_tier::ServiceTier;

use super::ctx::RequestCtx;
use super::finished_request::FinishedRequest;
use super::{headers, logged, traced, unpaid};
use crate::balance::route::Skipped;
use crate::clock::{Tick, micros};
use crate::gateway::Gateway;
use crate::request::AttemptRecord;
use crate::telemetry::access_log::{AttemptLine, RequestLine};
use crate::telemetry::log_time::LogTime;
use crate::telemetry::recent::{Recent, Tried};

/// Records a request that has ended, and says when.
pub(super) fn finish(gateway: &Gateway, session: &Session<'_>, ctx: &mut RequestCtx) -> Tick {
    let now = gateway.clock.now();
    let took = now.since(ctx.facts.arrived);
    let status = ctx.reply.status.unwrap_or(499);
    let overhead = ctx.timing.overhead.unwrap_or_else(|| took.saturating_sub(ctx.timing.waited));
    let counters =
        ctx.model_request.as_ref().and_then(|model_request| model_request.pool.requests(model_request.api)).unwrap_or(&gateway.unrouted);
    counters.count(status);
    counters.duration.observe(took.as_secs_f64());
    gateway.metrics.requests.overhead.observe(overhead.as_secs_f64());
    let logged = logged::take(&mut ctx.body, &mut ctx.copies);
    let passed_over = std::mem::take(&mut ctx.attempts.skipped);
    let over = FinishedRequest {
        session,
        facts: &ctx.facts,
        model_request: ctx.model_request.as_deref(),
        attempts: &ctx.attempts.records,
        timing: &ctx.timing,
        reply: &ctx.reply,
        usage: ctx.metering.usage,
        service_tier: ctx.metering.service_tier,
        cache: ctx.copies.cached.as_ref().map(|cached| cached.result.label()),
        bytes_in: ctx.body.bytes,
        status,
        took,
        overhead,
    };
    let runtime = &ctx.facts.runtime;
    if runtime.access_log.is_on() || logged.is_some() {
        let line = line(&over);
        if let (Some(logged), Some(model_request), Some(log)) = (logged, over.model_request, &runtime.prompt_log) {
            // One that the gateway has made has nothing in it.
            let chosen = session.req_header().headers.contains_key(&headers::X_REQUEST_ID);
            logged::write(log, &runtime.access_log, logged, (model_request.api, over.reply.streamed), line, chosen);
        } else {
            runtime.access_log.write(&line);
        }
    }
    traced::write(&over);
    unpaid::record(gateway, &over, ctx.body.input_bound);
    if !ctx.facts.internal {
        gateway.recent.push(recent(&over, passed_over));
    }
    now
}

/// What the admin API shows of a request that has ended.
fn recent(over: &FinishedRequest<'_>, passed_over: Vec<Skipped>) -> Recent {
    let model = over.model_request.map(|model_request| &model_request.model);
    let priority = |member: usize| model.and_then(|model| model.route.members().get(member)).map_or(0, |member| member.priority);
    let tried = |attempt: &AttemptRecord| Tried {
        backend: Arc::clone(&attempt.target.id.backend),
        deployment: Arc::clone(attempt.served_by.as_ref().unwrap_or(&attempt.target.id.deployment)),
        spilled_from: attempt.served_by.as_ref().map(|_| Arc::clone(&attempt.target.id.deployment)),
        priority: priority(attempt.member),
        service_tier: over.model_request.and_then(|asked| asked.service_tier_at(attempt.member)).map(ServiceTier::label),
        ptu_percent: attempt.ptu_percent,
        outcome: attempt.outcome.label(),
        status: attempt.status,
        us: micros(attempt.took),
        said: attempt.said.clone(),
        stale: attempt.stale,
    };
    Recent {
        at: over.facts.arrived_at.timestamp_millis(),
        consumer: over.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
        api: over.facts.api.map_or("-", Api::label),
        model: model.map(|model| Arc::clone(&model.name)),
        pool: over.model_request.map(|model_request| Arc::clone(&model_request.pool.config.name)),
        status: over.status,
        end: over.reply.end,
        code: over.reply.end.code(),
        limit: over.reply.limit.as_ref().map(ToString::to_string),
        cache: over.cache,
        service_tier: over.service_tier.map(ServiceTier::label),
        attempts: over.attempts.iter().map(tried).collect(),
        passed_over,
        us: micros(over.took),
        id: over.facts.id.clone(),
    }
}

/// Everything that is logged of a request except its prompt and answer.
fn line<'r>(over: &FinishedRequest<'r>) -> RequestLine<'r> {
    RequestLine {
        time: LogTime::new(over.facts.arrived_at.timestamp_millis()),
        id: &over.facts.id,
        trace_id: over.facts.trace.as_ref().map(|trace| trace.id),
        span_id: over.facts.trace.as_ref().map(|trace| trace.span),
        consumer: over.facts.consumer().map(|consumer| &*consumer.name),
        method: over.session.req_header().method.as_str(),
        api: over.facts.api.map_or("-", Api::label),
        model: over.facts.asked_for.as_deref(),
        pool: over.model_request.map(|model_request| &*model_request.pool.config.name),
        status: over.status,
        end: over.reply.end.label(),
        code: over.reply.end.code(),
        stream: over.reply.streamed,
        cache: over.cache,
        rescued: over.reply.rescued,
        attempts: over
            .attempts
            .iter()
            .map(|attempt| AttemptLine {
                backend: &attempt.target.id.backend,
                deployment: attempt.served_by.as_ref().unwrap_or(&attempt.target.id.deployment),
                spilled_from: attempt.served_by.as_ref().map(|_| &*attempt.target.id.deployment),
                outcome: attempt.outcome.label(),
                status: attempt.status,
                us: micros(attempt.took),
                said: attempt.said.as_deref(),
                stale: attempt.stale,
            })
            .collect(),
        service_tier: over.service_tier.map(ServiceTier::label),
        usage: over.usage,
        bytes_in: over.bytes_in,
        bytes_out: over.reply.bytes_out,
        first_us: over.timing.first.map(micros),
        us: micros(over.took),
        overhead_us: micros(over.overhead),
    }
}

#[cfg(test)]
mod tests;
