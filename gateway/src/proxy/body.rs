//! Reads a caller's body, within its bounds, and hands it on.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use spillway_plugins::multipart::FormReader;

use super::headers;
use super::intake_outcome::{IntakeError, IntakeOutcome};
use super::refusal::Refusal;
use super::tunnel::state::Tunnel;
use crate::config::Server;
use crate::connection_phase as connection;
use crate::gateway::Gateway;
use crate::request::{BodyBuffer, RequestBody, Timing};

/// Answers `Expect: 100-continue`: nothing else does, and the caller waits for it.
pub(super) async fn expectation(session: &mut Session) -> Result<(), IntakeError> {
    let Some(expected) = session.req_header().headers.get(header::EXPECT) else { return Ok(()) };
    if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(Refusal::Expectation.into());
    }
    if session.as_http1().is_some() {
        session.write_continue_response().await.map_err(|_| IntakeError::CallerLeft)?;
    }
    Ok(())
}

/// Where what is read of a body goes.
pub(super) struct Reading<'r> {
    pub(super) body: &'r mut RequestBody,
    pub(super) timing: &'r mut Timing,
    pub(super) buffer: &'r mut BodyBuffer,
}

/// Reads the body until its end (`true`) or until it is `enough` (`false`), which is asked with every piece. `bounded`
/// bodies longer than `max_body` are refused; others are refused only if that much brings no decision.
pub(super) async fn read_body(
    gateway: &Gateway,
    session: &mut Session,
    rules: &Server,
    into: Reading<'_>,
    bounded: bool,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> Result<bool, IntakeError> {
    let Reading { body, timing, buffer } = into;
    let limit = rules.max_body;
    let expected = headers::content_length(&session.req_header().headers);
    if bounded && expected.is_some_and(|length| length > limit) {
        return Err(Refusal::TooLarge { limit }.into());
    }
    let began = gateway.clock.now();
    loop {
        let piece = read_piece(rules.body_timeout, session).await?;
        let now = gateway.clock.now();
        let Some(piece) = piece else {
            timing.waited += now.since(began);
            connection::body_ends();
            return Ok(true);
        };
        if buffer.len() + piece.len() > limit {
            return Err(Refusal::TooLarge { limit }.into());
        }
        body.bytes += piece.len();
        let is_enough = enough(&piece);
        if !buffer.push(piece, expected) {
            return Err(Refusal::Overloaded { what: "request bodies" }.into());
        }
        if too_slow(buffer.len(), now.since(began), rules.min_body_rate) {
            return Err(Refusal::BodyTimeout.into());
        }
        if is_enough {
            timing.waited += now.since(began);
            // With HTTP/2 the end can come with the last bytes; nothing is left to stream then.
            let whole = session.downstream_session.is_body_done();
            if whole {
                connection::body_ends();
            }
            return Ok(whole);
        }
    }
}

/// On with a body: attempts can be made anew with a whole one, one that is still coming passes through.
/// `form` has read what came so far of a form that is acted on.
pub(super) fn hand_on(
    body: &mut RequestBody,
    tunnel: &mut Option<Box<Tunnel>>,
    buffer: BodyBuffer,
    whole: bool,
    form: Option<FormReader>,
) -> IntakeOutcome {
    let came = buffer.finish();
    if whole {
        body.kept = Some(came);
        return IntakeOutcome::Attempt;
    }
    *tunnel = Some(Box::new(Tunnel::upload(came, form)));
    IntakeOutcome::Tunnel
}

async fn read_piece(limit: Duration, session: &mut Session) -> Result<Option<Bytes>, IntakeError> {
    let read = std::pin::pin!(session.downstream_session.read_request_body());
    match pingora_timeout::timeout(limit, read).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) if *error.etype() == ErrorType::ReadTimedout => Err(Refusal::BodyTimeout.into()),
        Ok(Err(error)) if is_broken_framing(&error) => Err(BROKEN_FRAMING.into()),
        Ok(Err(_)) => Err(IntakeError::CallerLeft),
        Err(_) => Err(Refusal::BodyTimeout.into()),
    }
}

/// What a body with broken chunks gets.
pub(super) const BROKEN_FRAMING: Refusal = Refusal::Head { what: "the body's chunks are broken" };

/// Whether an error of Pingora's means that a body's chunks make no sense.
pub(super) fn is_broken_framing(error: &Error) -> bool {
    // The connection's guard tells what Pingora doesn't see as the kernel would tell it.
    let by_guard = || {
        error
            .cause
            .as_ref()
            .and_then(|cause| cause.downcast_ref::<io::Error>())
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    };
    matches!(
        error.etype().as_str(),
        "InvalidChunk" | "InvalidTrailerEnd" | "InvalidHTTPHeader" | "InvalidContentLength" | "PrematureBodyEnd"
    ) || by_guard()
}

/// The rate is measured only after this, so that a slow start is no offence.
const RATE_GRACE: Duration = Duration::from_secs(5);

pub(super) fn too_slow(bytes: usize, took: Duration, least_per_second: usize) -> bool {
    took > RATE_GRACE && (bytes as f64) < least_per_second as f64 * (took - RATE_GRACE).as_secs_f64()
}

#[cfg(test)]
mod tests;
