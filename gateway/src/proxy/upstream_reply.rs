//! Sends a request to one target and judges the reply: an answer for the caller, or a reason to try another target.

use std::sync::Arc;
use std::time::Duration;

use crate::downstream::Session;
use bytes::Bytes;
use http::{StatusCode, header};
use smallvec::SmallVec;
use spillway_plugins::objects::refuses_sealed;
use spillway_plugins::request::StreamOptions;
use spillway_plugins::retry::{
    Fault, RateSignal, Verdict, classify_error, is_too_long, judge, read_signal_of, refuses_parameter, throttle_scope,
};
use tracing::info;

use super::attempt::Attempt;
use super::body_pieces::joined;
use super::books::Books;
use super::exchange::{Broken, Exchange};
use super::retry_state::{RetryState, pick};
use super::send::{SendError, read_error, send};
use super::{last_refusal, spillover, upstream_message};
use crate::backend::Upstream;
use crate::backend::auth::TokenSource;
use crate::balance::circuit::ErrorKind;
use crate::gateway::Gateway;
use crate::request::Timing;

/// The result of sending a request to a target once.
pub(super) enum UpstreamReply {
    /// An answer for the caller, and what was already read of its body if it is an error.
    Deliver(Exchange, SmallVec<[Bytes; 4]>),
    /// Another target is tried.
    Failover(Verdict, StatusCode),
    /// The target can't decrypt the caller's encrypted content, or its API lacks this part. Other targets are tried,
    /// once each.
    Unfit,
    /// The prompt is too long for the model's context window. Targets with a larger window are tried.
    TooLong,
}

/// Sends a request to a target. Sends it a second time if the target refuses the token or an option that the gateway
/// itself added.
pub(super) async fn send_and_judge(
    session: &mut Session<'_>,
    books: &mut Books<'_>,
    attempt: &mut Attempt<'_>,
    retry_state: &mut RetryState,
) -> Result<UpstreamReply, SendError> {
    let (gateway, model_request) = (attempt.gateway, attempt.model_request);
    let runtime = Arc::clone(&books.facts.runtime);
    let Some(upstream) = runtime.backends[model_request.model.route.members()[attempt.state.member].backend].upstream.as_ref() else {
        return Err(SendError::Broken(Broken::Unreached(ErrorKind::Connect)));
    };
    attempt.credentials = upstream.auth.credentials();
    let shown = upstream.auth.token().map_or(0, |token| token.number());
    if let Some(permit) = &mut books.metering.permit {
        permit.spend();
    }
    let mut reply = send_once(session, books, upstream, attempt, retry_state).await;
    if let (Ok(UpstreamReply::Failover(Verdict::Misconfigured, StatusCode::UNAUTHORIZED)), Some(token)) = (&reply, upstream.auth.token()) {
        match renewed(gateway, session, books.timing, retry_state, token, shown).await {
            Ok(true) => reply = send_once(session, books, upstream, attempt, retry_state).await,
            Ok(false) => {}
            Err(broken) => reply = Err(SendError::Broken(broken)),
        }
    }
    if attempt.asked_usage && refuses_stream_options(&reply, attempt) {
        attempt.refused_usage = true;
        let target = attempt.state.lease.target();
        // The caller's own options may be the reason for the refusal: in that case it says nothing about other
        // requests.
        if model_request.fields.stream_options == StreamOptions::Absent && target.refused_usage(model_request.api, gateway.clock.now()) {
            info!(target = %target.id, api = %model_request.api, "refuses stream_options: for a while its streams will not report their usage");
        }
        if let Ok(UpstreamReply::Deliver(exchange, _)) = reply {
            exchange.release(&gateway.idle);
        }
        reply = send_once(session, books, upstream, attempt, retry_state).await;
    }
    reply
}

/// Whether a target refuses the option that the gateway, not the caller, added to the request.
fn refuses_stream_options(reply: &Result<UpstreamReply, SendError>, attempt: &Attempt<'_>) -> bool {
    let Ok(UpstreamReply::Deliver(_, body)) = reply else { return false };
    attempt.state.status == Some(StatusCode::BAD_REQUEST) && refuses_parameter(&body.concat(), "stream_options")
}

/// Sends a request to a target, and judges the reply.
async fn send_once(
    session: &mut Session<'_>,
    books: &mut Books<'_>,
    upstream: &Upstream,
    attempt: &mut Attempt<'_>,
    retry_state: &mut RetryState,
) -> Result<UpstreamReply, SendError> {
    let gateway = attempt.gateway;
    let mut exchange = send(session, books, upstream, attempt, retry_state).await?;
    let status = exchange.status().unwrap_or(StatusCode::BAD_GATEWAY);
    attempt.state.status = Some(status);
    if let Some(head) = exchange.fields() {
        attempt.state.signal = read_signal_of(head.iter(), || gateway.clock.wall());
        spillover::note(books.facts, attempt.model_request, &mut attempt.state, |name| head.get(name));
    }
    if status.is_success() {
        if attempt.state.spilled_to.is_some() {
            // The limits of the deployment that served are not those of the one that was asked.
            attempt.state.signal = RateSignal::default();
        }
        return Ok(UpstreamReply::Deliver(exchange, SmallVec::new()));
    }
    spillover::rule_out_second(attempt.model_request, &attempt.state, retry_state);
    // An error: its body says which one, and is small.
    let began = gateway.clock.now();
    let body = read_error(gateway, session, &mut exchange, retry_state).await;
    books.timing.waited += gateway.clock.now().since(began);
    let (body, broken) = body.map_err(SendError::Broken)?;
    let text = joined(&body);
    attempt.state.filtered = status == StatusCode::BAD_REQUEST && classify_error(&text) == Some(Fault::ContentFilter);
    if status == StatusCode::TOO_MANY_REQUESTS {
        attempt.state.scope = throttle_scope(&text);
    }
    if status.is_server_error() {
        attempt.state.said = upstream_message::of(&text);
    }
    // Not every resource with this API has all its parts (such as counting tokens): this says nothing about the target.
    let has_no_such_part = attempt.model_request.part.is_some() && matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    let verdict = match status {
        // Nothing was asked for on a condition, as a caller does that has a copy of a stored object.
        StatusCode::NOT_MODIFIED if !is_conditional(session) => Verdict::Misconfigured,
        _ => judge(status, &text, &attempt.model_request.pool.config.retry.statuses, upstream.auth.credentials()),
    };
    let verdict = match verdict {
        // No other target stores the object: the caller gets the reply of the one that does.
        Verdict::RateLimited | Verdict::OutOfQuota | Verdict::Failed
            if attempt.model_request.object.is_some() && attempt.model_request.is_pinned() =>
        {
            Verdict::Deliver
        }
        _ if has_no_such_part => Verdict::Deliver,
        // In another tier, it is a rate limit.
        Verdict::FlexUnavailable if !attempt.asks_for_flex() => Verdict::RateLimited,
        other => other,
    };
    let refuses_what_is_sealed =
        attempt.model_request.sealed && verdict == Verdict::Deliver && status == StatusCode::BAD_REQUEST && refuses_sealed(&text);
    if refuses_what_is_sealed || has_no_such_part {
        retry_state.unsealed |= refuses_what_is_sealed;
        // If no other target is ready now or soon, the caller gets this reply.
        if pick(attempt.model_request, books.facts, books.attempts, retry_state, gateway.clock.now())
            .map_or_else(|none| none.soonest.is_some(), |_| true)
        {
            exchange.release(&gateway.idle);
            return Ok(UpstreamReply::Unfit);
        }
    }
    if verdict == Verdict::Deliver
        && broken.is_none()
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
        && is_too_long(&text)
        && retry_state.rule_out_smaller(attempt.model_request, attempt.state.member)
    {
        retry_state.last_refusal = exchange.head().map(|head| Box::new((head.clone(), text)));
        exchange.release(&gateway.idle);
        return Ok(UpstreamReply::TooLong);
    }
    match (verdict, broken) {
        // A part must not be delivered as a whole.
        (Verdict::Deliver, Some(broken)) => Err(SendError::Broken(broken)),
        (Verdict::Deliver, None) => Ok(UpstreamReply::Deliver(exchange, body)),
        _ => {
            let is_callers = verdict == Verdict::FlexUnavailable && attempt.is_callers_tier();
            if (is_callers || verdict == Verdict::Misconfigured)
                && broken.is_none()
                && let Some(head) = exchange.head().filter(|head| is_callers || last_refusal::may_be_said(head))
            {
                retry_state.last_refusal = Some(Box::new((head.clone(), text)));
            }
            exchange.release(&gateway.idle);
            Ok(UpstreamReply::Failover(verdict, status))
        }
    }
}

/// Whether the caller says what it has already. If it does so for an answer, the reply is its own fault, and not the backend's.
fn is_conditional(session: &Session<'_>) -> bool {
    let fields = &session.req_header().headers;
    fields.contains_key(header::IF_NONE_MATCH) || fields.contains_key(header::IF_MODIFIED_SINCE)
}

/// Longest wait for a new token after a target refused one.
const RENEWAL: Duration = Duration::from_secs(3);

/// A target refused token number `shown`: waits for a new one, if one can be fetched now.
async fn renewed(
    gateway: &Gateway,
    session: &mut Session<'_>,
    timing: &mut Timing,
    retry_state: &RetryState,
    token: &TokenSource,
    shown: u64,
) -> Result<bool, Broken> {
    let began = gateway.clock.now();
    let limit = RENEWAL.min(retry_state.deadline.since(began));
    let renewed = tokio::select! {
        biased;
        renewed = token.renew(shown, &gateway.clock, limit) => Ok(renewed),
        _ = session.left() => Err(Broken::CallerLeft),
    };
    timing.waited += gateway.clock.now().since(began);
    renewed
}

#[cfg(test)]
mod tests;
