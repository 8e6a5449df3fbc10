//! Requests on Pingora's own loop: WebSockets, and uploads too large to hold. The same selector,
//! the same judgement, the same records; only the driver differs.
//!
//! Nothing can be replayed here once bytes went upstream: a WebSocket may move on until the upgrade
//! succeeds, an upload only while no connection stands.

mod socket;
mod state;
mod upload;

pub use state::Tunnel;
use upload::spliced_length;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, ErrorType};
use spillway_plugins::retry::{Verdict, judge, read_signal};
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::Metered;

use super::attempt::{Running, is_timeout};
use super::ctx::{End, Inquiry, RequestCtx};
use super::deliver::Tap;
use super::exchange::connect_error;
use super::progress::{Progress, pick};
use super::refusal::Refusal;
use super::upstream_request::{Framing, NoHead, head_for};
use super::{Gateway, cors, headers, metering, own_fields, stored, transformed};
use crate::attempt_outcome::AttemptOutcome;
use crate::backend::Upstream;
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::target::{OutageReason, Outcome};
use crate::balance::waiting::asked_back;
use crate::provider::Signing;

/// Takes inquiry and tunnel out of the context for the time of a hook.
fn parts(ctx: &mut RequestCtx) -> Option<(Inquiry, Box<Tunnel>)> {
    let tunnel = ctx.tunnel.take()?;
    Some((ctx.inquiry.take()?, tunnel))
}

fn put_back(ctx: &mut RequestCtx, inquiry: Inquiry, tunnel: Box<Tunnel>) {
    ctx.inquiry = Some(inquiry);
    ctx.tunnel = Some(tunnel);
}

fn upstream_of<'r>(ctx: &'r RequestCtx, inquiry: &Inquiry, member: usize) -> Option<&'r Upstream> {
    ctx.runtime.backends[inquiry.model.route.members()[member].backend].upstream.as_ref()
}

/// `request_body_filter`: what a caller sends, of an upload or on a socket.
///
/// # Errors
/// If it may not go on.
pub(super) async fn body(
    gateway: &Gateway,
    session: &mut Session,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut RequestCtx,
) -> pingora::Result<()> {
    upload::body(gateway, session, body, end, ctx)?;
    if ctx.tunnel.as_ref().is_some_and(|tunnel| tunnel.upload.is_none()) {
        return socket::said(gateway, session, body, ctx).await;
    }
    Ok(())
}

/// `upstream_peer`: consults the selector.
pub(super) async fn peer(gateway: &Gateway, ctx: &mut RequestCtx) -> pingora::Result<Box<HttpPeer>> {
    let (inquiry, mut tunnel) = parts(ctx).ok_or_else(|| Error::explain(ErrorType::InternalError, "no inquiry"))?;
    let peer = choose(gateway, ctx, &inquiry, &mut tunnel).await;
    put_back(ctx, inquiry, tunnel);
    peer
}

async fn choose(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, tunnel: &mut Tunnel) -> pingora::Result<Box<HttpPeer>> {
    let mut now = gateway.clock.now();
    let (arrived, by) = (ctx.arrived, ctx.runtime.callers.number_of(ctx.consumer()));
    let progress = tunnel.progress.get_or_insert_with(|| {
        inquiry.pool.budget.request(now);
        let mut progress = Progress::new(inquiry, by, arrived);
        progress.asked.whole = tunnel.upload.is_none();
        progress
    });
    loop {
        match pick(inquiry, ctx, progress, now) {
            Ok(pick) => {
                let running = Running::begin(ctx, inquiry, progress, pick, now);
                let Some(found) = upstream_of(ctx, inquiry, running.member).and_then(|upstream| upstream.peers.next()) else { continue };
                let timeouts = &inquiry.pool.config.timeouts;
                let mut peer = Box::new((*found).clone());
                peer.options.total_connection_timeout = Some(timeouts.connect);
                peer.options.read_timeout = tunnel.upload.is_some().then_some(timeouts.answer);
                tunnel.prefix_due = tunnel.upload.is_some();
                tunnel.attempt = Some(running);
                return Ok(peer);
            }
            Err(none) => {
                if let Some((until, mut place)) = progress.wait_until(none, inquiry, ctx, now) {
                    let displaced = tokio::select! {
                        biased;
                        () = asked_back(place.as_mut()) => true,
                        () = progress.timer.until(until, &gateway.clock) => false,
                    };
                    let waited = gateway.clock.now().since(now);
                    ctx.waited += waited;
                    progress.waited += waited;
                    if !displaced {
                        progress.release(until, now);
                        now = gateway.clock.now();
                        continue;
                    }
                }
                tunnel.refusal = Some(progress.refusal(&inquiry.model.name, Some(none), now));
                return Error::e_explain(ErrorType::ConnectNoRoute, "no target is left");
            }
        }
    }
}

/// `upstream_request_filter`: the request as this target gets it.
pub(super) fn request(gateway: &Gateway, session: &Session, request: &mut RequestHeader, ctx: &mut RequestCtx) -> pingora::Result<()> {
    let (Some(inquiry), Some(tunnel)) = (&ctx.inquiry, &ctx.tunnel) else { return Ok(()) };
    let Some(attempt) = &tunnel.attempt else { return Ok(()) };
    let Some(upstream) = upstream_of(ctx, inquiry, attempt.member) else { return Ok(()) };
    let caller = session.req_header();
    let deployment = &inquiry.model.route.members()[attempt.member].target.id.deployment;
    let framing = match tunnel.upload {
        Some(_) => Framing::Streamed(spliced_length(caller, inquiry, deployment)),
        None => Framing::Socket,
    };
    let body = tunnel.upload.is_none().then_some(&[][..]);
    let at = (attempt.span, gateway.clock.now(), Signing { body, wall: gateway.clock.wall() });
    match head_for(ctx, inquiry, (attempt.member, upstream), caller, None, framing, at) {
        Ok(head) => *request = *head,
        Err(NoHead::NoCredential) => {
            no_credential(gateway, ctx);
            return Err(elsewhere());
        }
        Err(NoHead::Unsendable) => return Err(over()),
    }
    if let Some(attempt) = ctx.tunnel.as_mut().and_then(|tunnel| tunnel.attempt.as_mut()) {
        attempt.sent = true;
    }
    if let Some(permit) = &mut ctx.permit {
        permit.spend();
    }
    Ok(())
}

/// The token ran out between choosing and connecting: says nothing about the target.
fn no_credential(gateway: &Gateway, ctx: &mut RequestCtx) {
    let Some((inquiry, mut tunnel)) = parts(ctx) else { return };
    if let Some(attempt) = tunnel.attempt.take() {
        attempt.finish(gateway, ctx, &inquiry, AttemptOutcome::NoCredential);
    }
    put_back(ctx, inquiry, tunnel);
}

/// `upstream_response_filter`: deliver, or go elsewhere.
pub(super) fn judge_head(gateway: &Gateway, head: &ResponseHeader, ctx: &mut RequestCtx) -> pingora::Result<()> {
    let Some((inquiry, mut tunnel)) = parts(ctx) else { return Ok(()) };
    let verdict = judge_parts(gateway, head, ctx, &inquiry, &mut tunnel);
    put_back(ctx, inquiry, tunnel);
    verdict
}

fn judge_parts(
    gateway: &Gateway,
    head: &ResponseHeader,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    tunnel: &mut Tunnel,
) -> pingora::Result<()> {
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let Some(mut attempt) = tunnel.attempt.take() else { return Ok(()) };
    attempt.status = Some(head.status);
    attempt.signal = read_signal(&head.headers, || gateway.clock.wall());
    let upstream = upstream_of(ctx, inquiry, attempt.member);
    let credentials = upstream.map_or(spillway_plugins::retry::Credentials::Gateway, |upstream| upstream.auth.credentials());
    let token = upstream.and_then(|upstream| upstream.auth.token()).filter(|_| head.status == StatusCode::UNAUTHORIZED);
    // With another token on its way the target is not to blame yet.
    let token_renewed = token.is_some_and(|token| token.refused(token.number(), gateway.clock.now()));
    let verdict = match head.status {
        StatusCode::SWITCHING_PROTOCOLS => Verdict::Deliver,
        status => judge(status, b"", &inquiry.pool.config.retry.statuses, credentials),
    };
    let first = gateway.clock.now().since(attempt.began);
    let retry_after = attempt.signal.retry_after;
    let (outcome, label) = match verdict {
        Verdict::Deliver if head.status.is_client_error() || head.status.is_server_error() => {
            let outcome = attempt.refusal(ctx, inquiry, head.status);
            (outcome, if outcome.is_callers() { AttemptOutcome::CallerFault } else { AttemptOutcome::Failed })
        }
        Verdict::Deliver => (Outcome::Success { first, signal: attempt.signal }, AttemptOutcome::Ok),
        Verdict::RateLimited => (attempt.throttle(ctx, inquiry), AttemptOutcome::Throttled),
        Verdict::OutOfQuota => (Outcome::Out(OutageReason::OutOfQuota), AttemptOutcome::OutOfQuota),
        Verdict::Misconfigured => (Outcome::Out(OutageReason::Misconfigured), AttemptOutcome::Misconfigured),
        Verdict::Failed => (Outcome::Failed { failure: Failure::Status(head.status), retry_after }, AttemptOutcome::Failed),
    };
    if !token_renewed {
        attempt.record(gateway, inquiry, outcome);
    }
    if verdict == Verdict::Misconfigured && tunnel.upload.is_some() {
        // What a backend says of our credentials is not for the caller.
        attempt.finish(gateway, ctx, inquiry, label);
        tunnel.refusal =
            Some(Refusal::UpstreamFailed { model: inquiry.model.name.to_string(), last: label.label(), retry_after: None, upstream: None });
        return Err(over());
    }
    if verdict.is_elsewhere() && tunnel.upload.is_none() {
        let member = attempt.member;
        attempt.finish(gateway, ctx, inquiry, label);
        if let Some(progress) = &mut tunnel.progress {
            if verdict == Verdict::RateLimited {
                progress.throttled.push(member);
            } else if verdict == Verdict::Failed {
                progress.failed(label, is_timeout(head.status));
            }
            if verdict != Verdict::Failed || progress.may_retry(inquiry, gateway.clock.now()) {
                return Err(elsewhere());
            }
        }
        return Err(over());
    }
    ctx.note_first(gateway.clock.now());
    ctx.status = Some(head.status.as_u16());
    if head.status.is_success() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        inquiry.model.metrics[attempt.member].first_token.observe(first.as_secs_f64());
    }
    if tunnel.upload.is_some() && head.status.is_success() {
        tunnel.answer = Tap::of(&head.headers, watch(head, inquiry));
    }
    tunnel.answered = true;
    tunnel.judged = label;
    // Kept until the end: its slot is taken for as long as the answer (or socket) lives.
    tunnel.attempt = Some(attempt);
    Ok(())
}

/// Most of an answer that is read for the names of what it made.
const MADE: usize = 64 * 1024;

/// What reads the answer to an upload, if that is a stream.
fn watch(head: &ResponseHeader, inquiry: &Inquiry) -> Option<StreamWatch> {
    let is = |kind: &str| {
        let value = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").trim();
        value.get(..kind.len()).is_some_and(|value| value.eq_ignore_ascii_case(kind))
    };
    let stream = is("text/event-stream") || (inquiry.fields.stream && !is("application/json"));
    stream.then(|| StreamWatch::new(inquiry.api, inquiry.fields.choices.unwrap_or(1), false))
}

/// `response_body_filter`: remembers what an answer made, and what it cost.
///
/// # Errors
/// If a socket can't be read any more.
pub(super) fn answer(
    gateway: &Gateway,
    session: &mut Session,
    piece: &mut Option<Bytes>,
    end: bool,
    ctx: &mut RequestCtx,
) -> pingora::Result<()> {
    if ctx.tunnel.as_ref().is_some_and(|tunnel| tunnel.upload.is_none()) {
        return socket::turns(gateway, session, piece, ctx);
    }
    upload_answer(gateway, piece.as_ref(), end, ctx);
    Ok(())
}

fn upload_answer(gateway: &Gateway, piece: Option<&Bytes>, end: bool, ctx: &mut RequestCtx) {
    let (Some(inquiry), Some(tunnel)) = (&ctx.inquiry, &mut ctx.tunnel) else { return };
    let success = tunnel.attempt.as_ref().and_then(|attempt| attempt.status).is_some_and(|status| status.is_success());
    if !success || tunnel.upload.is_none() {
        return;
    }
    if let (Some(piece), Some(tap)) = (piece, &mut tunnel.answer) {
        tap.push(piece);
    }
    if end {
        ctx.usage = tunnel.answer.as_mut().and_then(|tap| tap.read().usage(inquiry.api)).map(Metered::reported);
    }
    if !inquiry.stores {
        return;
    }
    if let Some(piece) = piece {
        let room = MADE.saturating_sub(tunnel.made.len());
        tunnel.made.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    if let (true, Some(attempt)) = (end, &tunnel.attempt) {
        let backend = std::sync::Arc::clone(&attempt.lease.target().id.backend);
        let made = std::mem::take(&mut tunnel.made);
        stored::remember(gateway, ctx, inquiry, &backend, &made);
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
pub(super) fn response(session: &Session, head: &mut ResponseHeader, ctx: &RequestCtx) -> pingora::Result<()> {
    let Some(tunnel) = &ctx.tunnel else { return Ok(()) };
    headers::strip_upstream(head);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // None was asked for.
        head.remove_header(&header::SEC_WEBSOCKET_EXTENSIONS);
    }
    let chosen = head.remove_header(&header::SEC_WEBSOCKET_PROTOCOL);
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(chosen) = headers::chosen_subprotocol(&session.req_header().headers, chosen.as_ref())
    {
        head.insert_header(header::SEC_WEBSOCKET_PROTOCOL, chosen)?;
    }
    if let Some(inquiry) = &ctx.inquiry {
        transformed::response(ctx, inquiry, head);
    }
    headers::rate_limits(head, &ctx.remaining);
    cors::allow(&session.req_header().headers, head);
    head.insert_header(headers::X_REQUEST_ID, ctx.id.as_str())?;
    if let Some(attempt) = &tunnel.attempt {
        own_fields::describe(ctx, head, Some(&attempt.lease.target().id.backend), ctx.attempts.len() + 1);
    }
    Ok(())
}

/// `fail_to_connect` and `error_while_proxy`: what an error means, and whether to go on.
pub(super) fn broke(gateway: &Gateway, ctx: &mut RequestCtx, mut error: BError, connecting: bool) -> BError {
    let Some((inquiry, mut tunnel)) = parts(ctx) else {
        error.set_retry(false);
        return error;
    };
    // Our own verdicts have decided already, and have no attempt left.
    if let Some(mut attempt) = tunnel.attempt.take_if(|_| !tunnel.answered) {
        let downstream = *error.esource() == pingora::ErrorSource::Downstream;
        let kind = match error.etype() {
            kind if connecting => connect_error(kind),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => ErrorKind::Timeout,
            _ => ErrorKind::Reset,
        };
        if downstream {
            error.set_retry(false);
            attempt.finish(gateway, ctx, &inquiry, AttemptOutcome::Cancelled);
        } else {
            attempt.record(gateway, &inquiry, Outcome::Failed { failure: Failure::Error(kind), retry_after: None });
            attempt.finish(gateway, ctx, &inquiry, AttemptOutcome::Broken(kind));
            let replayable = connecting || tunnel.upload.is_none();
            let retry = tunnel.progress.as_mut().is_some_and(|progress| {
                progress.failed(AttemptOutcome::Broken(kind), kind.is_timeout());
                progress.may_retry(&inquiry, gateway.clock.now()) && replayable
            });
            error.set_retry(retry);
        }
    } else if tunnel.answered {
        error.set_retry(false);
    }
    put_back(ctx, inquiry, tunnel);
    error
}

/// What the caller gets when Pingora's loop ended without an answer.
pub(super) fn refusal(gateway: &Gateway, ctx: &mut RequestCtx) -> Option<Refusal> {
    let (inquiry, mut tunnel) = parts(ctx)?;
    let refusal = tunnel
        .refusal
        .take()
        .or_else(|| tunnel.progress.as_ref().map(|progress| progress.refusal(&inquiry.model.name, None, gateway.clock.now())));
    put_back(ctx, inquiry, tunnel);
    refusal
}

/// `logging`: closes the last attempt.
pub(super) fn finish(gateway: &Gateway, ctx: &mut RequestCtx, error: Option<&Error>) {
    let Some((inquiry, mut tunnel)) = parts(ctx) else { return };
    if let Some(attempt) = tunnel.attempt.take() {
        if attempt.status == Some(StatusCode::SWITCHING_PROTOCOLS) && !tunnel.tap.is_lost() {
            // What these have used by now, nobody will tell.
            metering::book_unsettled(gateway, ctx, &inquiry, &attempt, tunnel.tap.under_way());
        }
        let label = match error {
            _ if tunnel.judged != AttemptOutcome::Ok => tunnel.judged,
            _ if tunnel.ended.is_some() => AttemptOutcome::Ok,
            None => AttemptOutcome::Ok,
            Some(error) if *error.esource() == pingora::ErrorSource::Downstream => AttemptOutcome::Cancelled,
            // A WebSocket ends when either side hangs up.
            Some(_) if attempt.status == Some(StatusCode::SWITCHING_PROTOCOLS) => AttemptOutcome::Ok,
            Some(_) => AttemptOutcome::Broken(ErrorKind::Reset),
        };
        attempt.finish(gateway, ctx, &inquiry, label);
        ctx.end = match tunnel.ended {
            Some(code) => End::Refused(code),
            None if error.is_none() || label == AttemptOutcome::Ok => End::Complete,
            None => End::Cut,
        };
    }
    put_back(ctx, inquiry, tunnel);
}
