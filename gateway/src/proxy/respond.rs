//! Writes the gateway's own answers: errors in the shape of the API that was called, and JSON.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::{HttpTask, ServerSession};
use serde_json::{Value, json};
use spillway_plugins::api::{Api, Dialect};

use super::refusal::{Refusal, retry_seconds};
use super::{cors, headers};

/// A JSON body of an error in the dialect that was called.
pub fn error_body(refusal: &Refusal, dialect: Dialect, request_id: &str) -> Vec<u8> {
    let shape = refusal.shape();
    let message = refusal.to_string();
    let mut body = match dialect {
        Dialect::OpenAi | Dialect::Azure => {
            json!({ "error": { "message": message, "type": shape.kind, "param": null, "code": shape.code } })
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

/// An error event for a stream that broke after its first byte, in the shape of its API.
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

/// Writes a refusal, whose head `complete` completes; the bytes of its body.
///
/// # Errors
/// If nothing more can be written to the caller.
pub async fn refuse(
    session: &mut ServerSession,
    refusal: &Refusal,
    dialect: Dialect,
    request_id: &str,
    complete: impl FnOnce(&mut ResponseHeader),
) -> pingora::Result<usize> {
    let shape = refusal.shape();
    let body = error_body(refusal, dialect, request_id);
    let mut head = head(shape.status, "application/json", Some(body.len()), request_id)?;
    if let Some(wait) = refusal.retry_after() {
        head.insert_header("retry-after", retry_seconds(Some(wait)).to_string())?;
        head.insert_header("retry-after-ms", wait.as_millis().max(1).to_string())?;
    }
    if !shape.retryable && refusal.retry_after().is_none() {
        head.insert_header("x-should-retry", "false")?;
    }
    complete(&mut head);
    let length = body.len();
    if matches!(refusal, Refusal::Unauthorized) {
        // RFC 9110, 15.5.2.
        head.insert_header(header::WWW_AUTHENTICATE, "Bearer")?;
    }
    if let Refusal::WrongMethod { allowed } = refusal {
        head.insert_header(header::ALLOW, *allowed)?;
    }
    let unread = !session.is_body_done();
    if refusal.closes() {
        session.set_keepalive(None);
    }
    write_whole(session, head, body.into()).await?;
    if unread || refusal.closes() {
        linger(session).await;
    }
    Ok(length)
}

/// Writes a JSON answer.
///
/// # Errors
/// If the caller can't be written to any more.
pub async fn json(session: &mut ServerSession, status: StatusCode, body: &Value, request_id: &str) -> pingora::Result<()> {
    let body = body.to_string().into_bytes();
    let head = head(status, "application/json", Some(body.len()), request_id)?;
    write_whole(session, head, body.into()).await
}

/// Writes to the caller within a time: Pingora bounds the writes of a body, but neither a head's
/// nor the end's.
///
/// # Errors
/// If the caller can't be written to any more, or doesn't take it in time.
pub async fn send(session: &mut ServerSession, mut tasks: Vec<HttpTask>, limit: Duration) -> pingora::Result<()> {
    if let Some(HttpTask::Header(head, _)) = tasks.first_mut() {
        cors::allow(&session.req_header().headers, head);
    }
    match pingora_timeout::timeout(limit, session.response_duplex_vec(tasks)).await {
        Ok(sent) => sent.map(|_| ()),
        Err(_) => {
            pingora::Error::e_explain(pingora::ErrorType::WriteTimedout, "the caller does not read").map_err(|error| error.into_down())
        }
    }
}

/// A head that is all there is.
///
/// # Errors
/// If the caller can't be written to any more.
pub async fn bodiless(session: &mut ServerSession, head: Box<ResponseHeader>) -> pingora::Result<()> {
    let limit = session.get_write_timeout().unwrap_or(Duration::from_secs(30));
    send(session, vec![HttpTask::Header(head, true)], limit).await
}

/// Head and body in one write.
async fn write_whole(session: &mut ServerSession, head: Box<ResponseHeader>, body: Bytes) -> pingora::Result<()> {
    if session.req_header().method == Method::HEAD {
        return bodiless(session, head).await;
    }
    let limit = session.get_write_timeout().unwrap_or(Duration::from_secs(30));
    send(session, vec![HttpTask::Header(head, false), HttpTask::Body(Some(body), true)], limit).await
}

/// The head of an answer that the gateway makes. Without a length it is chunked.
///
/// # Errors
/// Never, for the values that are passed.
pub fn head(status: StatusCode, content_type: &str, length: Option<usize>, request_id: &str) -> pingora::Result<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build_no_case(status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    match length {
        Some(length) => head.insert_header(header::CONTENT_LENGTH, length.to_string())?,
        None => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
    }
    head.insert_header(headers::X_REQUEST_ID, request_id)?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    Ok(Box::new(head))
}

/// Longest time, and most bytes, spent on a body that nobody wants.
const LINGER: (Duration, usize) = (Duration::from_millis(500), 4 << 20);

/// Reads on for a moment after an early answer: closing a connection with unread bytes resets it,
/// and the caller would never see the answer.
async fn linger(session: &mut ServerSession) {
    let drain = async {
        let mut left = LINGER.1;
        while let Ok(Some(bytes)) = session.read_request_body().await {
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
