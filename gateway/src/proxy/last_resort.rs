//! The last resort: an answer that the gateway makes itself when no target can.

use crate::downstream::Session;
use bytes::Bytes;
use http::StatusCode;
use spillway_plugins::api::Api;

use super::books::OwnAnswer;
use super::offload::on_bytes;
use super::{gateway_headers, logged, respond};
use crate::gateway::Gateway;
use crate::mock::answer::{Answer, Question, answer as make, embeddings_length};
use crate::mock::body::Body;
use crate::request::{BufferShare, ModelRequest};
use crate::runtime::LastResort;

/// Answers with the pool's configured reply, plain or streamed as requested. `false` if this API has no mock answer, or
/// if there is no memory for it.
///
/// # Errors
/// If nothing more can be written to the caller.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut Session<'_>,
    own: &mut OwnAnswer<'_>,
    model_request: &ModelRequest,
    last_resort: &LastResort,
) -> pingora::Result<bool> {
    // A caller would believe an invented token count, or a conversation that was not really compacted; and keep vectors that
    // stand for nothing.
    let is_believed = matches!(model_request.api, Api::Embeddings | Api::Speech) && !last_resort.alone;
    if model_request.part.is_some() || is_believed {
        return Ok(false);
    }
    let body = match &own.body.kept {
        Some(kept) => on_bytes(&gateway.turns, || own.facts.owner(), kept.bytes(), |body| Body::read(body).ok()).await.ok().flatten(),
        None => None,
    };
    let body = body.unwrap_or_default();
    let mut share = BufferShare::new(&gateway.buffered);
    // A short request can ask for many vectors.
    if model_request.api == Api::Embeddings && !share.grow(embeddings_length(&body)) {
        return Ok(false);
    }
    let question = Question {
        api: model_request.api,
        part: None,
        model: &model_request.model.name,
        body: &body,
        text: &last_resort.reply,
        created: gateway.clock.wall().timestamp(),
        unique: fastrand::u64(..),
        azure: false,
    };
    let Some(answer) = make(&question) else { return Ok(false) };
    let (content_type, body, length): (_, Bytes, _) = match answer {
        Answer::Plain(text) => {
            let length = text.len();
            ("application/json", text.into(), Some(length))
        }
        Answer::Stream(events) => ("text/event-stream", events.concat().into(), None),
        Answer::Bytes(kind, bytes) => {
            let length = bytes.len();
            (kind, bytes, Some(length))
        }
    };
    gateway.metrics.requests.last_resort(&model_request.pool.config.name).inc();
    own.timing.note_first(own.facts.arrived, gateway.clock.now());
    own.reply.streamed = length.is_none();
    own.reply.status = Some(200);
    own.reply.bytes_out = body.len();
    logged::record(own.copies, own.reply, &body);
    let mut head = respond::head(StatusCode::OK, content_type, length, &own.facts.id);
    gateway_headers::complete(own, model_request, &mut head, &last_resort.backend, own.attempts.records.len());
    let limit = (own.facts.runtime.config.server.write_timeout, &gateway.clock);
    respond::send(session, Some(head), body, true, limit).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
