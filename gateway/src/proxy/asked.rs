//! Asks one target, and judges what it says: an answer for the caller, or why the request goes elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::proxy::Session;
use smallvec::SmallVec;
use spillway_plugins::objects::refuses_sealed;
use spillway_plugins::request::StreamOptions;
use spillway_plugins::retry::{Fault, Verdict, classify_error, is_too_long, judge, read_signal, refuses_parameter};
use tracing::info;

use super::attempt::Attempt;
use super::books::Books;
use super::exchange::{Broken, Exchange};
use super::held::joined;
use super::retry_state::{RetryState, pick};
use super::send::{SendError, ask, read_error};
use super::{last_word, words};
use crate::backend::Upstream;
use crate::backend::auth::TokenSource;
use crate::balance::circuit::ErrorKind;
use crate::gateway::Gateway;
use crate::request::Timing;

/// What asking a target once led to.
pub(super) enum Asked {
    /// An answer for the caller; of a refusal's body this much was read.
    Answer(Exchange, SmallVec<[Bytes; 4]>),
    /// The request goes elsewhere.
    Elsewhere(Verdict, StatusCode),
    /// What the caller brings sealed can't be read there, or that API has no such part: others are asked, once each.
    Unfit,
    /// The prompt is too long for that model's window: those with a larger one are asked.
    TooLong,
}

/// Asks a target; once more with another token, or without what the gateway itself asks for, if that is what it refuses.
pub(super) async fn asked(
    session: &mut Session,
    books: &mut Books<'_>,
    attempt: &mut Attempt<'_>,
    retry_state: &mut RetryState,
) -> Result<Asked, SendError> {
    let (gateway, model_request) = (attempt.gateway, attempt.model_request);
    let runtime = Arc::clone(&books.facts.runtime);
    let Some(upstream) = runtime.backends[model_request.model.route.members()[attempt.running.member].backend].upstream.as_ref() else {
        return Err(SendError::Broken(Broken::Upstream(ErrorKind::Connect)));
    };
    attempt.credentials = upstream.auth.credentials();
    let shown = upstream.auth.token().map_or(0, |token| token.number());
    if let Some(permit) = &mut books.metering.permit {
        permit.spend();
    }
    let mut asked = send_once(session, books, upstream, attempt, retry_state).await;
    if let (Ok(Asked::Elsewhere(Verdict::Misconfigured, StatusCode::UNAUTHORIZED)), Some(token)) = (&asked, upstream.auth.token()) {
        match renewed(gateway, session, books.timing, retry_state, token, shown).await {
            Ok(true) => asked = send_once(session, books, upstream, attempt, retry_state).await,
            Ok(false) => {}
            Err(broken) => asked = Err(SendError::Broken(broken)),
        }
    }
    if attempt.asked_usage && refuses_stream_options(&asked, attempt) {
        attempt.refused_usage = true;
        let target = attempt.running.lease.target();
        // Options of the caller's own may be what is refused: that says nothing about others.
        if model_request.fields.stream_options == StreamOptions::Absent && target.refused_usage(model_request.api, gateway.clock.now()) {
            info!(target = %target.id, api = %model_request.api, "refuses stream_options: for a while its streams will not tell their usage");
        }
        if let Ok(Asked::Answer(exchange, _)) = asked {
            exchange.release(&gateway.connector).await;
        }
        asked = send_once(session, books, upstream, attempt, retry_state).await;
    }
    asked
}

/// Whether a target is too old for what we, not the caller, put into the request.
fn refuses_stream_options(asked: &Result<Asked, SendError>, attempt: &Attempt<'_>) -> bool {
    let Ok(Asked::Answer(_, body)) = asked else { return false };
    attempt.running.status == Some(StatusCode::BAD_REQUEST) && refuses_parameter(&body.concat(), "stream_options")
}

/// Asks a target, and judges what it says.
async fn send_once(
    session: &mut Session,
    books: &mut Books<'_>,
    upstream: &Upstream,
    attempt: &mut Attempt<'_>,
    retry_state: &mut RetryState,
) -> Result<Asked, SendError> {
    let gateway = attempt.gateway;
    let mut exchange = ask(session, books, upstream, attempt, retry_state).await?;
    let status = exchange.head().map_or(StatusCode::BAD_GATEWAY, |head| head.status);
    attempt.running.status = Some(status);
    if let Some(head) = exchange.head() {
        attempt.running.signal = read_signal(&head.headers, || gateway.clock.wall());
    }
    if status.is_success() {
        return Ok(Asked::Answer(exchange, SmallVec::new()));
    }
    // A refusal or an error: its body tells which, and is small.
    let began = gateway.clock.now();
    let body = read_error(gateway, session, &mut exchange, retry_state).await;
    books.timing.waited += gateway.clock.now().since(began);
    let (body, broken) = body.map_err(SendError::Broken)?;
    let text = joined(&body);
    attempt.running.filtered = status == StatusCode::BAD_REQUEST && classify_error(&text) == Some(Fault::ContentFilter);
    if status.is_server_error() {
        attempt.running.said = words::of(&text);
    }
    // Not every resource that has an API has all parts of it: that says nothing about the target.
    let has_no_such_part = attempt.model_request.part.is_some() && matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    let verdict = judge(status, &text, &attempt.model_request.pool.config.retry.statuses, upstream.auth.credentials());
    let verdict = match verdict {
        // Nobody else has it: the caller gets what its keeper says.
        Verdict::RateLimited | Verdict::OutOfQuota | Verdict::Failed
            if attempt.model_request.object.is_some() && attempt.model_request.is_pinned() =>
        {
            Verdict::Deliver
        }
        _ if has_no_such_part => Verdict::Deliver,
        other => other,
    };
    let refuses_what_is_sealed =
        attempt.model_request.sealed && verdict == Verdict::Deliver && status == StatusCode::BAD_REQUEST && refuses_sealed(&text);
    if refuses_what_is_sealed || has_no_such_part {
        retry_state.unsealed |= refuses_what_is_sealed;
        // Where nobody else is left, now or soon, the caller gets what the last one says.
        if pick(attempt.model_request, books.facts, books.attempts, retry_state, gateway.clock.now())
            .map_or_else(|none| none.soonest.is_some(), |_| true)
        {
            exchange.release(&gateway.connector).await;
            return Ok(Asked::Unfit);
        }
    }
    if verdict == Verdict::Deliver
        && broken.is_none()
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
        && is_too_long(&text)
        && retry_state.rule_out_smaller(attempt.model_request, attempt.running.member)
    {
        retry_state.last_word = exchange.head().map(|head| Box::new((head.clone(), text)));
        exchange.release(&gateway.connector).await;
        return Ok(Asked::TooLong);
    }
    match (verdict, broken) {
        // A part must not be delivered as the whole.
        (Verdict::Deliver, Some(broken)) => Err(SendError::Broken(broken)),
        (Verdict::Deliver, None) => Ok(Asked::Answer(exchange, body)),
        _ => {
            if verdict == Verdict::Misconfigured
                && broken.is_none()
                && let Some(head) = exchange.head().filter(|head| last_word::may_be_said(head))
            {
                retry_state.last_word = Some(Box::new((head.clone(), text)));
            }
            exchange.release(&gateway.connector).await;
            Ok(Asked::Elsewhere(verdict, status))
        }
    }
}

/// Longest wait for another token after a target refused one.
const RENEWAL: Duration = Duration::from_secs(3);

/// A target refused token number `shown`: waits for another, if one may be had now.
async fn renewed(
    gateway: &Gateway,
    session: &mut Session,
    timing: &mut Timing,
    retry_state: &RetryState,
    token: &TokenSource,
    shown: u64,
) -> Result<bool, Broken> {
    let began = gateway.clock.now();
    let limit = RENEWAL.min(retry_state.deadline.since(began));
    let renewed = tokio::select! {
        biased;
        renewed = token.renew(shown, began, limit) => Ok(renewed),
        _ = session.downstream_session.read_body_or_idle(true) => Err(Broken::CallerLeft),
    };
    timing.waited += gateway.clock.now().since(began);
    renewed
}

#[cfg(test)]
mod tests;
