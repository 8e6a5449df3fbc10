//! Every member refused the request because of what is set up there: the caller gets the last refusal.
//!
//! For example, a tool that no account has, or a model that is not deployed anywhere: the upstream's own error gives
//! the reason better than the gateway could. What a backend says about the gateway's credentials is not shown to the
//! caller.

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use serde_json::{Value, json};
use spillway_plugins::sse::{Fate, Splitter};

use super::books::OwnAnswer;
use super::{gateway_headers, headers, respond, transformed};
use crate::downstream::Session;
use crate::gateway::Gateway;
use crate::request::{End, ModelRequest};

/// Whether a caller may see this refusal.
pub(super) fn may_be_said(head: &ResponseHeader) -> bool {
    matches!(head.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
}

/// Turns the error in the last of these stream events into the refusal that a request without a stream would have got.
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

/// Writes the refusal.
pub(super) async fn say(
    gateway: &Gateway,
    session: &mut Session<'_>,
    own: OwnAnswer<'_>,
    model_request: &ModelRequest,
    (upstream, body): (ResponseHeader, Bytes),
) -> End {
    let status = upstream.status;
    let mut head = headers::for_caller(&upstream, &own.facts.id, headers::Length::Of(body.len()), &own.remaining);
    own.timing.note_first(own.facts.arrived, gateway.clock.now());
    transformed::response(own.facts, model_request, &mut head);
    gateway_headers::describe(own.facts, own.timing, own.copies, &mut head, None, own.attempts.records.len());
    own.reply.status = Some(status.as_u16());
    own.reply.bytes_out += body.len();
    let limit = (own.facts.runtime.config.server.write_timeout, &gateway.clock);
    match respond::send(session, Some(head), body, true, limit).await {
        Ok(()) => End::Complete,
        Err(_) => End::CallerLeft,
    }
}

#[cfg(test)]
mod tests;
