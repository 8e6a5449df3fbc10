//! Reads the small JSON body of a change.

use std::time::Duration;

use http::{StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde::de::DeserializeOwned;

use super::super::answer::{Answer, problem};

/// The largest body.
const MAX: usize = 16 * 1024;
/// The longest time for a whole body.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body as `T`. An empty one is `{}`.
///
/// # Errors
/// The answer that says what is wrong; then the connection closes after it.
pub(super) async fn read<T: DeserializeOwned>(session: &mut ServerSession) -> Result<T, Answer> {
    let read = tokio::time::timeout(PATIENCE, parsed(session)).await;
    read.unwrap_or_else(|_| Err(problem(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))).inspect_err(|_| {
        // What is left of the body is not read.
        session.set_keepalive(None);
    })
}

async fn parsed<T: DeserializeOwned>(session: &mut ServerSession) -> Result<T, Answer> {
    let mut bytes = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) if bytes.len() + piece.len() <= MAX => bytes.extend_from_slice(&piece),
            Ok(Some(_)) => return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "the body must have at most 16 KiB")),
            Ok(None) => break,
            Err(_) => return Err(problem(StatusCode::BAD_REQUEST, "the body can't be read")),
        }
    }
    if bytes.is_empty() {
        bytes.extend_from_slice(b"{}");
    } else if !is_json(session) {
        return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON, with 'Content-Type: application/json'"));
    }
    serde_json::from_slice(&bytes).map_err(|error| problem(StatusCode::BAD_REQUEST, &format!("the body is not valid: {error}")))
}

fn is_json(session: &ServerSession) -> bool {
    let given = session.req_header().headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    given.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}
