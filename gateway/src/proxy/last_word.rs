//! Every member refused the request for what is set up there: the caller gets what the last one said.
//!
//! A tool that no account has, or a model that none deploys: the reason stands in the upstream's own words, and no words of
//! the gateway's are better. What a backend says of the gateway's credentials is not for the caller.

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use serde_json::{Value, json};
use spillway_plugins::sse::{Fate, Splitter};

use super::books::OwnAnswer;
use super::{headers, own_fields, respond, transformed};
use crate::gateway::Gateway;
use crate::request::{End, ModelRequest};

/// Whether a caller may have this refusal.
pub(super) fn may_be_said(head: &ResponseHeader) -> bool {
    matches!(head.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
}

/// What the last of these events of a stream says went wrong, as the refusal that it would have been without a stream.
pub(super) fn of_events(head: &ResponseHeader, events: &[u8]) -> Option<(ResponseHeader, Bytes)> {
    let mut last = None;
    Splitter::default().feed(Bytes::copy_from_slice(events), |event| {
        last = serde_json::from_slice::<Value>(&event.data).ok().or_else(|| last.take());
        Fate::Pass
    });
    let mut said = last?;
    let body = match (said["error"].is_object(), said.pointer_mut("/response/error").map(Value::take)) {
        (true, _) => said,
        (false, Some(error @ Value::Object(_))) => json!({ "error": error }),
        (false, _) => {
            json!({ "error": { "code": said["code"], "message": said["message"], "param": said["param"], "type": said["type"] } })
        }
    };
    let mut head = head.clone();
    head.set_status(StatusCode::NOT_FOUND).ok()?;
    head.insert_header(header::CONTENT_TYPE, "application/json").ok()?;
    Some((head, body.to_string().into()))
}

/// Writes it.
pub(super) async fn say(
    gateway: &Gateway,
    session: &mut Session,
    own: OwnAnswer<'_>,
    model_request: &ModelRequest,
    (upstream, body): (ResponseHeader, Bytes),
) -> End {
    let status = upstream.status;
    let Ok(mut head) = headers::for_caller(&upstream, &own.facts.id, false, &own.remaining) else { return End::CallerLeft };
    let _ = head.insert_header(header::CONTENT_LENGTH, body.len());
    own.timing.note_first(own.facts.arrived, gateway.clock.now());
    transformed::response(own.facts, model_request, &mut head);
    own_fields::describe(own.facts, own.timing, own.copies, &mut head, None, own.attempts.made.len());
    own.reply.status = Some(status.as_u16());
    own.reply.bytes_out += body.len();
    let tasks = vec![HttpTask::Header(head, false), HttpTask::Body(Some(body), true)];
    let limit = own.facts.runtime.config.server.write_timeout;
    match respond::send(&mut session.downstream_session, tasks, limit).await {
        Ok(()) => End::Complete,
        Err(_) => End::CallerLeft,
    }
}

#[cfg(test)]
mod tests;
