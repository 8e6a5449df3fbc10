//! Gives a caller a kept answer, in the form that it asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use spillway_plugins::answer;
use spillway_plugins::api::Api;
use spillway_plugins::cache::Entry;
use spillway_plugins::request::StreamOptions;

use crate::proxy::ctx::RequestCtx;
use crate::proxy::step::{Next, Stop};
use crate::proxy::{Gateway, logged, metering, own_fields, respond};
use crate::request::BufferShare;
use crate::request::{End, Facts, Inquiry};
use crate::telemetry::metrics::CacheResult;

/// Whether the caller wants a stream's usage told.
fn wants_usage(inquiry: &Inquiry) -> bool {
    inquiry.fields.stream_options == StreamOptions::UsageAsked
}

/// The kept answer in the form that this caller asked for, if it can be had from what is kept.
fn replay(inquiry: &Inquiry, entry: &Entry) -> Option<Bytes> {
    let (api, body) = (inquiry.api, &entry.body);
    match (entry.streamed, inquiry.fields.stream) {
        (false, false) => Some(body.clone()),
        (false, true) if api == Api::Embeddings => Some(body.clone()),
        (false, true) => answer::to_stream(api, body, wants_usage(inquiry)),
        (true, true) => answer::with_usage(api, body, wants_usage(inquiry)),
        // Who asks plainly is told the usage, too.
        (true, false) => answer::with_usage(api, body, true).and_then(|body| answer::to_plain(api, &body)),
    }
}

/// Gives the caller a kept answer.
pub(in crate::proxy) async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    entry: &Entry,
) -> Result<Next, Stop> {
    let runtime = Arc::clone(&ctx.facts.runtime);
    let Some(cache) = &runtime.cache else { return Ok(Next::Attempt) };
    let mut share = BufferShare::new(&gateway.buffered);
    let has_room = entry.streamed == inquiry.fields.stream || share.grow(answer::cost(&entry.body));
    let Some(body) = Some(entry).filter(|_| has_room).and_then(|entry| replay(inquiry, entry)) else {
        // Not in this form: it is asked for, and kept in its place.
        if let Some(cached) = &mut ctx.copies.cached {
            cached.result = CacheResult::Miss;
            cached.score = None;
        }
        cache.metrics.count(CacheResult::Miss);
        return Ok(Next::Attempt);
    };
    let streamed = inquiry.fields.stream && inquiry.api != Api::Embeddings;
    let result = ctx.copies.cached.as_ref().map_or(CacheResult::Hit, |cached| cached.result);
    cache.metrics.count(result);
    cache.metrics.saved(entry.input, entry.output);
    ctx.reply.streamed = streamed;
    ctx.reply.status = Some(StatusCode::OK.as_u16());
    ctx.reply.bytes_out = body.len();
    logged::record(&mut ctx.copies, &ctx.reply, &body);
    ctx.timing.note_first(ctx.facts.arrived, gateway.clock.now());
    metering::book_cached(gateway, ctx.books(), inquiry, if result == CacheResult::Semantic { "semantic" } else { "exact" }).await;
    let mut head = head(&ctx.facts, streamed, body.len()).map_err(|_| Stop::CallerLeft)?;
    if ctx.facts.runtime.config.server.response_headers {
        let age = entry.age(gateway.clock.wall().timestamp_millis());
        let _ = head.insert_header(header::AGE, age);
    }
    own_fields::complete(&ctx.own_answer(), inquiry, &mut head, &entry.backend, 0);
    let tasks = vec![HttpTask::Header(head, false), HttpTask::Body(Some(body), true)];
    respond::send(&mut session.downstream_session, tasks, ctx.facts.runtime.config.server.write_timeout)
        .await
        .map_err(|_| Stop::CallerLeft)?;
    ctx.reply.end = End::Complete;
    Ok(Next::Answered)
}

fn head(facts: &Facts, streamed: bool, length: usize) -> pingora::Result<Box<ResponseHeader>> {
    let kind = if streamed { "text/event-stream" } else { "application/json" };
    let mut head = respond::head(StatusCode::OK, kind, Some(length), &facts.id)?;
    if streamed {
        head.insert_header(header::CACHE_CONTROL, "no-cache")?;
        head.insert_header("x-accel-buffering", "no")?;
    }
    Ok(head)
}
