//! Requests on Pingora's own loop: WebSockets, and uploads too large to hold. They use the same selector, the same
//! judge and the same records; only the driver differs.
//!
//! Bytes that went upstream can't be sent again: a WebSocket may change targets until the upgrade succeeds, an upload
//! only until a connection is made.

mod socket;
pub(super) mod state;
mod upload;

use state::Tunnel;
use upload::spliced_length;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, ErrorType};
use spillway_plugins::retry::{RateSignal, Verdict, judge, read_signal};
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::Metered;

use super::attempt::is_timeout;
use super::attempt_state::AttemptState;
use super::books::{Books, Tunnelled};
use super::deliver::tap::Tap;
use super::refusal::Refusal;
use super::retry_state::{RetryState, pick};
use super::upstream_request::{Framing, NoHead, head_for};
use super::{cors, gateway_headers, headers, metering, spillover, stored, transformed};
use crate::attempt_outcome::AttemptOutcome;
use crate::backend::Upstream;
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::target::{OutageReason, Outcome};
use crate::balance::waiting::asked_back;
use crate::gateway::Gateway;
use crate::provider::Signing;
use crate::request::{End, Facts, ModelRequest};

fn upstream_of<'r>(facts: &'r Facts, model_request: &ModelRequest, member: usize) -> Option<&'r Upstream> {
    facts.runtime.backends[model_request.model.route.members()[member].backend].upstream.as_ref()
}

/// `request_body_filter`: the caller's bytes, of an upload or on a socket.
///
/// # Errors
/// If they may not be passed on.
pub(super) async fn body(
    gateway: &Gateway,
    session: &mut Session,
    body: &mut Option<Bytes>,
    end: bool,
    mut tunnelled: Tunnelled<'_>,
) -> pingora::Result<()> {
    upload::body(gateway, session, body, end, &mut tunnelled)?;
    match tunnelled.tunnel.upload {
        None => {
            tunnelled.tunnel.caller_ended |= end && !tunnelled.tunnel.backend_ended;
            socket::said(gateway, session, body, tunnelled).await
        }
        Some(_) => Ok(()),
    }
}

/// `upstream_peer`: asks the selector.
pub(super) async fn peer(gateway: &Gateway, tunnelled: Option<Tunnelled<'_>>) -> pingora::Result<Box<HttpPeer>> {
    let Some(Tunnelled { model_request, tunnel, books, .. }) = tunnelled else {
        return Error::e_explain(ErrorType::InternalError, "no inquiry");
    };
    let Books { facts, attempts, timing, .. } = books;
    let mut now = gateway.clock.now();
    let (arrived, by) = (facts.arrived, facts.runtime.callers.number_of(facts.consumer()));
    let retry_state = tunnel.retry_state.get_or_insert_with(|| {
        model_request.pool.budget.request(now);
        let mut retry_state = RetryState::new(model_request, by, arrived);
        retry_state.key.whole = tunnel.upload.is_none();
        retry_state
    });
    loop {
        match pick(model_request, facts, attempts, retry_state, now) {
            Ok(pick) => {
                let state = AttemptState::begin(facts, attempts, model_request, retry_state, pick, now);
                let Some(found) = upstream_of(facts, model_request, state.member).and_then(|upstream| upstream.peers.next_peer()) else {
                    continue;
                };
                let timeouts = &model_request.pool.config.timeouts;
                let mut peer = Box::new((*found).clone());
                peer.options.total_connection_timeout = Some(timeouts.connect);
                peer.options.read_timeout = tunnel.upload.is_some().then_some(timeouts.answer);
                tunnel.prefix_due = tunnel.upload.is_some();
                tunnel.attempt = Some(state);
                return Ok(peer);
            }
            Err(none) => {
                if let Some((until, mut place)) = retry_state.wait_until(none, model_request, facts, now) {
                    let displaced = tokio::select! {
                        biased;
                        () = asked_back(place.as_mut()) => true,
                        () = retry_state.timer.until(until, &gateway.clock) => false,
                    };
                    let waited = gateway.clock.now().since(now);
                    timing.waited += waited;
                    retry_state.waited += waited;
                    if !displaced {
                        retry_state.release(until, now);
                        now = gateway.clock.now();
                        continue;
                    }
                }
                tunnel.refusal = Some(retry_state.refusal(&model_request.model.name, Some(none), now));
                return Error::e_explain(ErrorType::ConnectNoRoute, "no target is left");
            }
        }
    }
}

/// `connected_to_upstream`: tells the target, if the connection is new.
pub(super) fn connected(tunnelled: Option<Tunnelled<'_>>, reused: bool) {
    if let Some(attempt) = tunnelled.and_then(|tunnelled| tunnelled.tunnel.attempt.as_ref()).filter(|_| !reused) {
        attempt.lease.connected();
    }
}

/// `upstream_request_filter`: the request in the form that this target needs.
pub(super) fn request(gateway: &Gateway, session: &Session, request: &mut RequestHeader, tunnelled: Tunnelled<'_>) -> pingora::Result<()> {
    let Tunnelled { model_request, tunnel, mut books, .. } = tunnelled;
    let Some(attempt) = &mut tunnel.attempt else { return Ok(()) };
    let Some(upstream) = upstream_of(books.facts, model_request, attempt.member) else { return Ok(()) };
    let caller = session.req_header();
    let deployment = &model_request.model.route.members()[attempt.member].target.id.deployment;
    let framing = match tunnel.upload {
        Some(_) => Framing::Streamed(spliced_length(caller, model_request, deployment)),
        None => Framing::Socket,
    };
    let body = tunnel.upload.is_none().then_some(&[][..]);
    // Read before the token itself, which may be renewed in between.
    tunnel.token = upstream.auth.token().map_or(0, |token| token.number());
    let at = (attempt.span, gateway.clock.now(), Signing { body, wall: gateway.clock.wall() });
    match head_for(books.facts, model_request, (attempt.member, upstream), caller, None, framing, at) {
        Ok(head) => *request = head.to_pingora()?,
        Err(NoHead::NoCredential) => {
            // The token expired between choosing and connecting. This says nothing about the target.
            if let Some(attempt) = tunnel.attempt.take() {
                attempt.finish(gateway, &mut books, model_request, AttemptOutcome::NoCredential);
            }
            return Err(elsewhere());
        }
        Err(NoHead::Unsendable) => return Err(over()),
    }
    attempt.sent = true;
    if let Some(permit) = &mut books.metering.permit {
        permit.spend();
    }
    Ok(())
}

/// `upstream_response_filter`: deliver the answer, or try another target.
pub(super) fn judge_head(gateway: &Gateway, head: &ResponseHeader, tunnelled: Tunnelled<'_>) -> pingora::Result<()> {
    let Tunnelled { model_request, tunnel, mut books, .. } = tunnelled;
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let Some(mut attempt) = tunnel.attempt.take() else { return Ok(()) };
    attempt.status = Some(head.status);
    attempt.signal = read_signal(&head.headers, || gateway.clock.wall());
    spillover::note(books.facts, model_request, &mut attempt, |name| head.headers.get(name).map(http::HeaderValue::as_bytes));
    let upstream = upstream_of(books.facts, model_request, attempt.member);
    let credentials = upstream.map_or(spillway_plugins::retry::Credentials::Gateway, |upstream| upstream.auth.credentials());
    let token = upstream.and_then(|upstream| upstream.auth.token()).filter(|_| head.status == StatusCode::UNAUTHORIZED);
    // If a new token is being fetched, the target is not to blame yet.
    let token_renewed = token.is_some_and(|token| token.refused(tunnel.token, gateway.clock.now()));
    let verdict = match head.status {
        StatusCode::SWITCHING_PROTOCOLS => Verdict::Deliver,
        status => judge(status, b"", &model_request.pool.config.retry.statuses, credentials),
    };
    let first = gateway.clock.now().since(attempt.began);
    let retry_after = attempt.signal.retry_after;
    let (outcome, label) = match verdict {
        Verdict::Deliver if head.status.is_client_error() || head.status.is_server_error() => {
            let outcome = attempt.refusal(books.body, model_request, head.status);
            (outcome, if outcome.is_callers() { AttemptOutcome::CallerFault } else { AttemptOutcome::Failed })
        }
        Verdict::Deliver if attempt.spilled_to.is_some() => (Outcome::Success { first, signal: RateSignal::default() }, AttemptOutcome::Ok),
        Verdict::Deliver => (Outcome::Success { first, signal: attempt.signal }, AttemptOutcome::Ok),
        Verdict::RateLimited | Verdict::FlexUnavailable => (attempt.throttle(books.body, model_request), AttemptOutcome::Throttled),
        Verdict::OutOfQuota => (Outcome::Out(OutageReason::OutOfQuota), AttemptOutcome::OutOfQuota),
        Verdict::Misconfigured => (Outcome::Out(OutageReason::Misconfigured), AttemptOutcome::Misconfigured),
        Verdict::Failed => (Outcome::Failed { failure: Failure::Status(head.status), retry_after }, AttemptOutcome::Failed),
    };
    if !token_renewed {
        attempt.record(model_request, outcome, gateway.clock.now());
    }
    if verdict == Verdict::Misconfigured && tunnel.upload.is_some() {
        // What a backend says about the gateway's credentials is not shown to the caller.
        attempt.finish(gateway, &mut books, model_request, label);
        tunnel.refusal = Some(Refusal::UpstreamFailed {
            model: model_request.model.name.to_string(),
            last: label.label(),
            retry_after: None,
            upstream: None,
        });
        return Err(over());
    }
    if verdict.is_elsewhere() && tunnel.upload.is_none() {
        let member = attempt.member;
        attempt.finish(gateway, &mut books, model_request, label);
        if let Some(retry_state) = &mut tunnel.retry_state {
            if matches!(verdict, Verdict::RateLimited | Verdict::FlexUnavailable) {
                retry_state.throttled.push(member);
            } else if verdict == Verdict::Failed {
                retry_state.failed(label, is_timeout(head.status));
            }
            if verdict != Verdict::Failed || retry_state.may_retry(model_request, gateway.clock.now()) {
                return Err(elsewhere());
            }
        }
        return Err(over());
    }
    books.timing.note_first(books.facts.arrived, gateway.clock.now());
    books.reply.status = Some(head.status.as_u16());
    if head.status.is_success() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        model_request.model.members[attempt.member].metrics.first_token.observe(first.as_secs_f64());
    }
    if tunnel.upload.is_some() && head.status.is_success() {
        tunnel.answer = Tap::of(head.headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes), watch(head, model_request));
    }
    tunnel.answered = true;
    tunnel.judged = label;
    // Kept until the end: the slot is taken for as long as the answer (or socket) lives.
    tunnel.attempt = Some(attempt);
    Ok(())
}

/// Most bytes of an answer in which the names of new objects are searched.
const MADE: usize = 64 * 1024;

/// Reads the answer to an upload, if it is a stream.
fn watch(head: &ResponseHeader, model_request: &ModelRequest) -> Option<StreamWatch> {
    let is = |kind: &str| {
        let value = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").trim();
        value.get(..kind.len()).is_some_and(|value| value.eq_ignore_ascii_case(kind))
    };
    let stream = is("text/event-stream") || (model_request.fields.stream && !is("application/json"));
    stream.then(|| StreamWatch::new(model_request.api, model_request.fields.choices.unwrap_or(1), false))
}

/// `response_body_filter`: remembers the objects that an answer created, and its usage.
///
/// # Errors
/// If a socket's frames can't be read any more.
pub(super) fn answer(
    gateway: &Gateway,
    session: &mut Session,
    piece: &mut Option<Bytes>,
    end: bool,
    tunnelled: Tunnelled<'_>,
) -> pingora::Result<()> {
    let Tunnelled { model_request, tunnel, mut books, .. } = tunnelled;
    if tunnel.upload.is_none() {
        tunnel.backend_ended |= end && !tunnel.caller_ended;
        return socket::turns(gateway, session, piece, &mut books, model_request, tunnel);
    }
    upload_answer(gateway, piece.as_ref(), end, &mut books, model_request, tunnel);
    Ok(())
}

fn upload_answer(
    gateway: &Gateway,
    piece: Option<&Bytes>,
    end: bool,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    tunnel: &mut Tunnel,
) {
    let success = tunnel.attempt.as_ref().and_then(|attempt| attempt.status).is_some_and(|status| status.is_success());
    if !success || tunnel.upload.is_none() {
        return;
    }
    if let (Some(piece), Some(tap)) = (piece, &mut tunnel.answer) {
        tap.push(piece);
    }
    if end {
        let reported = tunnel.answer.as_mut().map(Tap::read).unwrap_or_default();
        books.metering.usage = reported.usage(model_request.api).map(Metered::reported);
        books.metering.note_served(&reported);
        if books.metering.usage.is_none() {
            books.metering.so_far = reported;
            books.metering.length = tunnel.answer.as_mut().map_or(0, Tap::length);
        }
    }
    if !model_request.stores {
        return;
    }
    if let Some(piece) = piece {
        let room = MADE.saturating_sub(tunnel.made.len());
        tunnel.made.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    if let (true, Some(attempt)) = (end, &tunnel.attempt) {
        let backend = std::sync::Arc::clone(&attempt.lease.target().id.backend);
        let made = std::mem::take(&mut tunnel.made);
        stored::remember(gateway, books.facts, model_request, &backend, &made);
    }
}

fn elsewhere() -> BError {
    let mut error = Error::explain(ErrorType::HTTPStatus(503), "on to the next target").into_up();
    error.set_retry(true);
    error
}

fn over() -> BError {
    let mut error = Error::explain(ErrorType::HTTPStatus(502), "no retry is left").into_up();
    error.set_retry(false);
    error
}

/// `response_filter`: the head as the caller gets it.
pub(super) fn response(session: &Session, head: &mut ResponseHeader, tunnelled: &Tunnelled<'_>) -> pingora::Result<()> {
    let Tunnelled { model_request, tunnel, books, copies } = tunnelled;
    headers::strip_upstream(head);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // No extension was offered.
        head.remove_header(&header::SEC_WEBSOCKET_EXTENSIONS);
    }
    let chosen = head.remove_header(&header::SEC_WEBSOCKET_PROTOCOL);
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(chosen) = headers::chosen_subprotocol(&session.req_header().headers, chosen.as_ref())
    {
        head.insert_header(header::SEC_WEBSOCKET_PROTOCOL, chosen)?;
    }
    transformed::response(books.facts, model_request, head);
    headers::rate_limits(head, &books.metering.remaining);
    cors::allow(session.req_header().headers.get(header::ORIGIN), head);
    head.insert_header(headers::X_REQUEST_ID, books.facts.id.as_str())?;
    if let Some(attempt) = &tunnel.attempt {
        gateway_headers::describe(
            books.facts,
            books.timing,
            copies,
            head,
            Some(&attempt.lease.target().id.backend),
            books.attempts.records.len() + 1,
        );
    }
    Ok(())
}

/// `fail_to_connect` and `error_while_proxy`: records an error, and decides whether to try another target.
pub(super) fn broke(gateway: &Gateway, tunnelled: Option<Tunnelled<'_>>, mut error: BError, connecting: bool) -> BError {
    let Some(Tunnelled { model_request, tunnel, mut books, .. }) = tunnelled else {
        error.set_retry(false);
        return error;
    };
    // If the gateway itself ended the attempt, it is already recorded.
    if let Some(mut attempt) = tunnel.attempt.take_if(|_| !tunnel.answered) {
        let downstream = *error.esource() == pingora::ErrorSource::Downstream;
        let timed_out = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        let kind = match error.etype() {
            kind if connecting => connect_error(kind),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => ErrorKind::Timeout,
            _ => ErrorKind::Reset,
        };
        if downstream {
            error.set_retry(false);
            attempt.finish(gateway, &mut books, model_request, AttemptOutcome::Cancelled);
        } else {
            attempt.record(model_request, Outcome::Failed { failure: Failure::Error(kind), retry_after: None }, gateway.clock.now());
            attempt.finish(gateway, &mut books, model_request, AttemptOutcome::Broken(kind));
            let replayable = connecting || tunnel.upload.is_none();
            let retry = tunnel.retry_state.as_mut().is_some_and(|retry_state| {
                retry_state.failed(AttemptOutcome::Broken(kind), kind.is_timeout());
                // To ask another member when nothing was sent is not counted. No member is asked twice here.
                let unreached = connecting && !timed_out;
                unreached || (retry_state.may_retry(model_request, gateway.clock.now()) && replayable)
            });
            error.set_retry(retry);
        }
    } else if tunnel.answered {
        error.set_retry(false);
    }
    error
}

/// The refusal for the caller if Pingora's loop ended without an answer.
pub(super) fn refusal(gateway: &Gateway, tunnelled: Option<Tunnelled<'_>>) -> Option<Refusal> {
    let Tunnelled { model_request, tunnel, .. } = tunnelled?;
    let none_is_left = || Some(tunnel.retry_state.as_ref()?.refusal(&model_request.model.name, None, gateway.clock.now()));
    tunnel.refusal.take().or_else(none_is_left)
}

/// `logging`: closes the last attempt.
pub(super) fn finish(gateway: &Gateway, tunnelled: Tunnelled<'_>, error: Option<&Error>) {
    let Tunnelled { model_request, tunnel, mut books, .. } = tunnelled;
    if let Some(attempt) = tunnel.attempt.take() {
        let is_socket = attempt.status == Some(StatusCode::SWITCHING_PROTOCOLS);
        if is_socket && !tunnel.tap.is_lost() {
            // The usage of turns that have not ended can't be reported any more.
            metering::book_unsettled(gateway, &mut books, model_request, &attempt, tunnel.tap.under_way());
        }
        let label = match error {
            _ if tunnel.judged != AttemptOutcome::Ok => tunnel.judged,
            _ if tunnel.ended.is_some() => AttemptOutcome::Ok,
            None if is_socket && tunnel.is_broken_off(false) => AttemptOutcome::Broken(ErrorKind::Reset),
            None => AttemptOutcome::Ok,
            Some(error) if *error.esource() == pingora::ErrorSource::Downstream => AttemptOutcome::Cancelled,
            // A WebSocket ends when either side closes it.
            Some(_) if is_socket && !tunnel.is_broken_off(true) => AttemptOutcome::Ok,
            Some(_) => AttemptOutcome::Broken(ErrorKind::Reset),
        };
        attempt.finish(gateway, &mut books, model_request, label);
        books.reply.end = match tunnel.ended {
            Some(code) => End::Refused(code),
            None if label == AttemptOutcome::Ok || (error.is_none() && tunnel.judged == label) => End::Complete,
            None => End::Cut,
        };
    }
}

/// Whether TLS or the TCP connection failed.
fn connect_error(kind: &ErrorType) -> ErrorKind {
    match kind {
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => ErrorKind::Tls,
        _ => ErrorKind::Connect,
    }
}

#[cfg(test)]
mod tests;
