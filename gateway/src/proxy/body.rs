//! Reads a caller's body within its limits, and passes it to the next stage.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::{Error, ErrorType};
use spillway_plugins::multipart::FormReader;

use super::headers;
use super::intake_outcome::{IntakeError, IntakeOutcome};
use super::refusal::Refusal;
use super::tunnel::state::Tunnel;
use crate::clock::Clock;
use crate::config::Server;
use crate::connection_phase as connection;
use crate::downstream::{Http1Session, Session};
use crate::gateway::Gateway;
use crate::request::{BodyBuffer, RequestBody, Timing};

/// Answers `Expect: 100-continue`: the caller waits for this, and nothing else sends it.
pub(super) async fn expectation(session: &mut Session<'_>) -> Result<(), IntakeError> {
    let Some(expected) = session.rare_field(&header::EXPECT) else { return Ok(()) };
    if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(Refusal::Expectation.into());
    }
    if session.is_http1() {
        session.write_continue().await.map_err(|_| IntakeError::CallerLeft)?;
    }
    Ok(())
}

/// Where the bytes of a body go.
pub(super) struct BodySink<'r> {
    pub(super) body: &'r mut RequestBody,
    pub(super) timing: &'r mut Timing,
    pub(super) buffer: &'r mut BodyBuffer,
}

/// Reads the body to its end (`true`) or until `enough` says so (`false`), which is asked after each piece. A `bounded`
/// body longer than `max_body` is refused at once; others are refused only if `max_body` bytes bring no decision.
pub(super) async fn read_body(
    gateway: &Gateway,
    session: &mut Session<'_>,
    rules: &Server,
    into: BodySink<'_>,
    bounded: bool,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> Result<bool, IntakeError> {
    let BodySink { body, timing, buffer } = into;
    let limit = rules.max_body;
    let expected = match session.http1() {
        Some(http1) => Some(http1.body_left()),
        None => headers::content_length(&session.req_header().headers),
    };
    if bounded && expected.is_some_and(|length| length > limit) {
        return Err(Refusal::TooLarge { limit }.into());
    }
    if let Some(http1) = session.http1() {
        timing.waited += gather(gateway, http1, rules, buffer).await?;
        body.bytes = buffer.len();
        return Ok(true);
    }
    let began = gateway.clock.now();
    loop {
        let piece = read_piece((rules.body_timeout, &gateway.clock), session).await?;
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
            // With HTTP/2 the end can come together with the last bytes: then nothing is left to stream.
            let whole = session.is_body_done();
            if whole {
                connection::body_ends();
            }
            return Ok(whole);
        }
    }
}

/// Reads a body of known length to its end, in one piece and without a copy. Returns how long it waited for it.
async fn gather(gateway: &Gateway, session: &mut Http1Session, rules: &Server, buffer: &mut BodyBuffer) -> Result<Duration, IntakeError> {
    // Mostly it came together with its head: then no time passes.
    let began = (!session.has_whole_body()).then(|| gateway.clock.now());
    let waited = || began.map_or(Duration::ZERO, |began| gateway.clock.now().since(began));
    while session.body_left() > 0 {
        let there = in_time((rules.body_timeout, &gateway.clock), session.gather()).await?;
        if !buffer.covers(there) {
            return Err(Refusal::Overloaded { what: "request bodies" }.into());
        }
        if there == session.body_left() {
            buffer.put(session.take_body());
        } else if too_slow(there, waited(), rules.min_body_rate) {
            return Err(Refusal::BodyTimeout.into());
        }
    }
    Ok(waited())
}

/// Passes a body on. A whole body can be sent by several attempts; one that is still arriving is streamed through.
/// `form` has read what has arrived so far of a form whose fields are used.
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

async fn read_piece(limit: (Duration, &Clock), session: &mut Session<'_>) -> Result<Option<Bytes>, IntakeError> {
    in_time(limit, session.read_body()).await
}

async fn in_time<T>((limit, clock): (Duration, &Clock), reading: impl Future<Output = pingora::Result<T>>) -> Result<T, IntakeError> {
    match clock.within(limit, reading).await {
        Some(Ok(read)) => Ok(read),
        Some(Err(error)) if *error.etype() == ErrorType::ReadTimedout => Err(Refusal::BodyTimeout.into()),
        Some(Err(error)) if is_broken_framing(&error) => Err(BROKEN_FRAMING.into()),
        Some(Err(_)) => Err(IntakeError::CallerLeft),
        None => Err(Refusal::BodyTimeout.into()),
    }
}

/// The refusal of a body with broken chunks.
pub(super) const BROKEN_FRAMING: Refusal = Refusal::Head { what: "the body's chunks are broken" };

/// Whether a Pingora error means that the body's chunks are malformed.
pub(super) fn is_broken_framing(error: &Error) -> bool {
    // The head guard reports errors that Pingora can't see, in the form of an I/O error.
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

/// The rate is measured only after this time, so that a slow start is allowed.
const RATE_GRACE: Duration = Duration::from_secs(5);

pub(super) fn too_slow(bytes: usize, took: Duration, least_per_second: usize) -> bool {
    took > RATE_GRACE && (bytes as f64) < least_per_second as f64 * (took - RATE_GRACE).as_secs_f64()
}

#[cfg(test)]
mod tests;
