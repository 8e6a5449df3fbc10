//! Writes the gateway's own answers: errors in the format of the API that was called, and JSON.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Value, json};
use spillway_plugins::api::{Api, Dialect};

use super::refusal::Refusal;
use super::{cors, headers};
use crate::clock::Clock;
use crate::downstream::{HeadFields as _, ReplyHead, Session};
use crate::retry_after::retry_seconds;

/// `retry-after-ms`
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// `request-id`: Anthropic's
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// `x-should-retry`
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A JSON body of an error in the dialect that was called.
pub fn error_body(refusal: &Refusal, dialect: Dialect, request_id: &str) -> Vec<u8> {
    let shape = refusal.shape();
    let message = refusal.to_string();
    let mut body = match dialect {
        Dialect::OpenAi | Dialect::Azure => {
            json!({ "error": { "message": message, "type": shape.kind, "param": refusal.field(), "code": shape.code } })
        }
        Dialect::Anthropic => {
            json!({ "type": "error", "error": { "type": shape.anthropic, "message": message, "code": shape.code }, "request_id": request_id })
        }
    };
    if let Refusal::UpstreamFailed { upstream: Some((status, said)), .. } = refusal {
        body["error"]["upstream"] = json!({ "status": status, "message": &**said });
    }
    body.to_string().into_bytes()
}

/// An error event for a stream that broke after its first byte, in the format of its API.
pub fn error_event(api: Api, message: &str, code: &str, sequence: Option<u64>) -> Bytes {
    let text = match api {
        Api::Responses => {
            let error = json!({ "type": "server_error", "code": code, "message": message, "param": null });
            let event = json!({ "type": "error", "sequence_number": sequence.map_or(0, |n| n + 1), "error": error, "code": code, "message": message, "param": null });
            format!("event: error\ndata: {event}\n\n")
        }
        Api::Messages => {
            let event = json!({ "type": "error", "error": { "type": "api_error", "message": message, "code": code } });
            format!("event: error\ndata: {event}\n\n")
        }
        _ => {
            let event = json!({ "error": { "message": message, "type": "server_error", "param": null, "code": code } });
            format!("data: {event}\n\n")
        }
    };
    text.into()
}

/// Writes a refusal. `complete` adds fields to its head. Returns the bytes of its body.
///
/// # Errors
/// If nothing more can be written to the caller.
pub async fn refuse(
    session: &mut Session<'_>,
    refusal: &Refusal,
    dialect: Dialect,
    request_id: &str,
    clock: &Clock,
    complete: impl FnOnce(&mut ReplyHead),
) -> pingora::Result<usize> {
    let shape = refusal.shape();
    let body = error_body(refusal, dialect, request_id);
    let mut head = head(shape.status, "application/json", Some(body.len()), request_id);
    if let Some(wait) = refusal.retry_after() {
        head.set(&header::RETRY_AFTER, retry_seconds(Some(wait)).to_string().as_bytes());
        head.set(&RETRY_AFTER_MS, wait.as_millis().max(1).to_string().as_bytes());
    }
    if !shape.retryable && refusal.retry_after().is_none() {
        head.set(&X_SHOULD_RETRY, b"false");
    }
    if dialect == Dialect::Anthropic {
        // Where its clients look for an id.
        head.set(&REQUEST_ID, request_id.as_bytes());
    }
    complete(&mut head);
    let length = body.len();
    if matches!(refusal, Refusal::Unauthorized) {
        // RFC 9110, 15.5.2.
        head.set(&header::WWW_AUTHENTICATE, b"Bearer");
    }
    if let Refusal::WrongMethod { allowed } = refusal {
        head.set(&header::ALLOW, allowed.as_bytes());
    }
    let unread = !session.is_body_done();
    if refusal.closes() {
        session.close_after();
    }
    write_whole(session, head, body.into(), clock).await?;
    if unread || refusal.closes() {
        linger(session).await;
    }
    Ok(length)
}

/// Writes a JSON answer.
///
/// # Errors
/// If nothing more can be written to the caller.
pub async fn json(session: &mut Session<'_>, status: StatusCode, body: &Value, request_id: &str, clock: &Clock) -> pingora::Result<()> {
    let body = body.to_string().into_bytes();
    let head = head(status, "application/json", Some(body.len()), request_id);
    write_whole(session, head, body.into(), clock).await
}

/// Writes a part of an answer within a time limit by this clock: a head, bytes of the body, and with `over` its end. Pingora
/// limits the writes of a body, but not those of a head or of the end.
///
/// # Errors
/// If nothing more can be written to the caller, or the caller doesn't read in time.
pub async fn send(
    session: &mut Session<'_>,
    mut head: Option<ReplyHead>,
    body: Bytes,
    over: bool,
    (limit, clock): (Duration, &Clock),
) -> pingora::Result<()> {
    if let Some(head) = &mut head {
        head.sent_at.get_or_insert_with(|| clock.wall().timestamp());
        cors::allow(session.rare_field(&header::ORIGIN), head);
    }
    // Pinned here, so that it isn't moved on the way.
    let writing = pin!(session.write(head, body, over));
    clock.within(limit, writing).await.unwrap_or_else(does_not_read)
}

/// Writes bytes of a body whose head was sent, within a time limit, and with `over` its end.
///
/// # Errors
/// As for [`send`].
pub async fn send_body(session: &mut Session<'_>, body: Bytes, over: bool, (limit, clock): (Duration, &Clock)) -> pingora::Result<()> {
    let writing = pin!(session.write_body(body, over));
    clock.within(limit, writing).await.unwrap_or_else(does_not_read)
}

fn does_not_read() -> pingora::Result<()> {
    pingora::Error::e_explain(pingora::ErrorType::WriteTimedout, "the caller does not read").map_err(|error| error.into_down())
}

/// Writes an answer that is only a head.
///
/// # Errors
/// If nothing more can be written to the caller.
pub async fn bodiless(session: &mut Session<'_>, head: ReplyHead, clock: &Clock) -> pingora::Result<()> {
    let limit = session.write_timeout().unwrap_or(Duration::from_secs(30));
    send(session, Some(head), Bytes::new(), true, (limit, clock)).await
}

/// Writes head and body at once.
async fn write_whole(session: &mut Session<'_>, head: ReplyHead, body: Bytes, clock: &Clock) -> pingora::Result<()> {
    if session.req_header().method == Method::HEAD {
        return bodiless(session, head, clock).await;
    }
    let limit = session.write_timeout().unwrap_or(Duration::from_secs(30));
    send(session, Some(head), body, true, (limit, clock)).await
}

/// The head of an answer that the gateway makes. Without a length it is chunked.
pub fn head(status: StatusCode, content_type: &str, length: Option<usize>, request_id: &str) -> ReplyHead {
    let mut head = ReplyHead::new(status);
    head.add(&header::CONTENT_TYPE, content_type.as_bytes());
    match length {
        Some(length) => head.add(&header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes()),
        None => head.add(&header::TRANSFER_ENCODING, b"chunked"),
    }
    head.add(&headers::X_REQUEST_ID, request_id.as_bytes());
    head.add(&header::CACHE_CONTROL, b"no-store");
    head
}

/// Longest time, and most bytes, for reading a body that is not needed.
const LINGER: (Duration, usize) = (Duration::from_millis(500), 4 << 20);

/// Reads a little more after an early answer: closing a connection with unread bytes resets it, and the caller would
/// not see the answer.
async fn linger(session: &mut Session<'_>) {
    let drain = async {
        let mut left = LINGER.1;
        while let Ok(Some(bytes)) = session.read_body().await {
            match left.checked_sub(bytes.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER.0, drain).await;
}

#[cfg(test)]
mod tests;
