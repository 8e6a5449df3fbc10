//! Sends a cached answer, in the form that the caller asked for.

use bytes::Bytes;
use http::{StatusCode, header};
use spillway_plugins::answer;
use spillway_plugins::api::Api;
use spillway_plugins::cache::Entry;
use spillway_plugins::request::StreamOptions;

use crate::downstream::{HeadFields as _, ReplyHead, Session};
use crate::gateway::Gateway;
use crate::proxy::books::OwnAnswer;
use crate::proxy::intake_outcome::IntakeError;
use crate::proxy::{gateway_headers, headers, logged, respond};
use crate::request::{BufferShare, End, Facts, ModelRequest};
use crate::telemetry::metrics::CacheResult;

/// Whether the caller wants the usage of a stream.
fn wants_usage(model_request: &ModelRequest) -> bool {
    model_request.fields.stream_options == StreamOptions::UsageAsked
}

/// The cached answer in the form that this caller asked for, if it can be converted.
fn replay(model_request: &ModelRequest, entry: &Entry) -> Option<Bytes> {
    let (api, body) = (model_request.api, &entry.body);
    match (entry.streamed, model_request.fields.stream) {
        (false, false) => Some(body.clone()),
        (false, true) if api == Api::Embeddings => Some(body.clone()),
        (false, true) => answer::to_stream(api, body, wants_usage(model_request)),
        (true, true) => answer::with_usage(api, body, wants_usage(model_request)),
        // A plain answer always has the usage.
        (true, false) => answer::with_usage(api, body, true).and_then(|body| answer::to_plain(api, &body)),
    }
}

/// A cached answer that is about to be sent, and its share of the buffer budget.
pub(in crate::proxy) struct Kept {
    body: Bytes,
    /// How it was found: `exact` or `semantic`.
    pub(in crate::proxy) how: &'static str,
    _share: BufferShare,
}

/// Prepares a cached answer; `None` if it can't be converted to the form that the caller asked for.
pub(in crate::proxy) fn prepare(gateway: &Gateway, own: &mut OwnAnswer<'_>, model_request: &ModelRequest, entry: &Entry) -> Option<Kept> {
    let cache = own.facts.runtime.cache.as_ref()?;
    let mut share = BufferShare::new(&gateway.buffered);
    let has_room = entry.streamed == model_request.fields.stream || share.grow(answer::cost(&entry.body));
    let Some(body) = Some(entry).filter(|_| has_room).and_then(|entry| replay(model_request, entry)) else {
        // Not in this form: a backend is asked, and its answer replaces the cached one.
        if let Some(cached) = &mut own.copies.cached {
            cached.result = CacheResult::Miss;
            cached.score = None;
        }
        cache.metrics.count(CacheResult::Miss);
        return None;
    };
    let result = own.copies.cached.as_ref().map_or(CacheResult::Hit, |cached| cached.result);
    cache.metrics.count(result);
    cache.metrics.saved(entry.input, entry.output);
    own.reply.streamed = model_request.fields.stream && model_request.api != Api::Embeddings;
    own.reply.status = Some(StatusCode::OK.as_u16());
    own.reply.bytes_out = body.len();
    logged::record(own.copies, own.reply, &body);
    own.timing.note_first(own.facts.arrived, gateway.clock.now());
    Some(Kept { body, how: if result == CacheResult::Semantic { "semantic" } else { "exact" }, _share: share })
}

/// Sends a cached answer.
pub(in crate::proxy) async fn send(
    gateway: &Gateway,
    session: &mut Session<'_>,
    own: OwnAnswer<'_>,
    model_request: &ModelRequest,
    entry: &Entry,
    kept: Kept,
) -> Result<(), IntakeError> {
    let server = &own.facts.runtime.config.server;
    let mut head = head(own.facts, own.reply.streamed, kept.body.len());
    if server.response_headers {
        let age = entry.age(gateway.clock.wall_millis());
        head.set(&header::AGE, itoa::Buffer::new().format(age).as_bytes());
    }
    gateway_headers::complete(&own, model_request, &mut head, &entry.backend, 0);
    respond::send(session, Some(head), kept.body, true, (server.write_timeout, &gateway.clock))
        .await
        .map_err(|_| IntakeError::CallerLeft)?;
    own.reply.end = End::Complete;
    Ok(())
}

fn head(facts: &Facts, streamed: bool, length: usize) -> ReplyHead {
    let kind = if streamed { "text/event-stream" } else { "application/json" };
    let mut head = respond::head(StatusCode::OK, kind, Some(length), &facts.id);
    if streamed {
        headers::never_buffered(&mut head);
    }
    head
}
