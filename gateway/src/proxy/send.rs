//! Sends a request to one target: connect, send it in the form that this target needs, read the head of the answer.

use std::ops::Range;
use std::time::Duration;

use crate::downstream::Session;
use bytes::Bytes;
use http::Method;
use pingora::http::RequestHeader;
use smallvec::SmallVec;
use spillway_plugins::json::write_text;
use spillway_plugins::request::StreamOptions;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::is_asked_for;

use super::attempt::Attempt;
use super::books::Books;
use super::exchange::{BodyEvent, Broken, Exchange};
use super::retry_state::RetryState;
use super::upstream_request::{Framing, NoHead, head_for};
use super::{headers, output_timeout};
use crate::backend::Upstream;
use crate::balance::circuit::ErrorKind;
use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::http1::request_head::RequestHead;
use crate::provider::{ModelInBody, Provider, Signing};
use crate::request::{Edit, Facts, ModelRequest, Pieces, ReplayBody, RequestBody};

/// Why a request could not be sent to a target.
pub(super) enum SendError {
    /// The gateway has no credential for it.
    NoCredential,
    /// The request can't be written in the form that this target needs. The target is not at fault.
    Unsendable,
    Broken(Broken),
}

impl From<NoHead> for SendError {
    fn from(no: NoHead) -> Self {
        match no {
            NoHead::NoCredential => SendError::NoCredential,
            NoHead::Unsendable => SendError::Unsendable,
        }
    }
}

/// Connects, sends, and reads the head. If a pooled connection was stale, it does so once more on a new one.
pub(super) async fn send(
    session: &mut Session<'_>,
    books: &mut Books<'_>,
    upstream: &Upstream,
    attempt: &mut Attempt<'_>,
    retry_state: &mut RetryState,
) -> Result<Exchange, SendError> {
    let gateway = attempt.gateway;
    let timeouts = &attempt.model_request.pool.config.timeouts;
    let mut fresh = false;
    loop {
        let remote = upstream.peers.next_remote().ok_or(SendError::Broken(Broken::Unreached(ErrorKind::Connect)))?;
        attempt.asked_usage = asks_usage(attempt);
        // An attempt sends at once when it begins.
        let began = if attempt.state.sent || fresh { gateway.clock.now() } else { attempt.state.began };
        let (head, body) = request(session, books.facts, books.body, upstream, attempt, began)?;
        let to_head = *head.method() == Method::HEAD;
        let head = head.into_bytes();
        let left = retry_state.deadline.since(began);
        let first = output_timeout::first(attempt.model_request);
        let caller = &mut *session;
        let asked = async {
            let mut exchange = Exchange::connect(remote, fresh, timeouts.connect.min(left), &gateway.clock, caller).await?;
            if exchange.is_new() {
                attempt.state.lease.connected();
            }
            attempt.state.sent = true;
            exchange.send((head, to_head), body, first.min(left), &gateway.clock, caller).await?;
            let until = (began + first).min(retry_state.deadline);
            exchange.read_head(until, &gateway.clock, &mut retry_state.timer, caller).await?;
            Ok(exchange)
        }
        .await;
        attempt.heard = gateway.clock.now();
        books.timing.waited += attempt.heard.since(began);
        match asked {
            Err(Broken::Stale) if !fresh => {
                gateway.metrics.members.stale_connections.inc();
                attempt.note_stale(books.facts, books.attempts);
                fresh = true;
            }
            Err(broken) => return Err(SendError::Broken(broken)),
            Ok(exchange) => return Ok(exchange),
        }
    }
}

/// The request in the form that this target needs: its head and its body.
fn request(
    session: &Session<'_>,
    facts: &Facts,
    request_body: &RequestBody,
    upstream: &Upstream,
    attempt: &Attempt<'_>,
    now: Tick,
) -> Result<(RequestHead, Pieces), SendError> {
    let model_request = attempt.model_request;
    let member = &model_request.model.route.members()[attempt.state.member];
    let caller = session.req_header();
    let body = match attempt.resumes {
        Some(_) => Pieces::new(),
        None => {
            let provider = facts.runtime.backends[member.backend].config.kind.provider();
            let tier = model_request.own_tier_of(attempt.state.member);
            body(caller, request_body, model_request, provider, &member.target.id.deployment, (tier, attempt.asked_usage))
        }
    };
    let framing = Framing::Whole(body.iter().map(Bytes::len).sum());
    let rest = attempt.resumes.as_ref().map(|(path, query)| (path.as_str(), query.as_str()));
    let at = (attempt.state.span, now, Signing { body: Some(&body), wall: facts.wall_at(now) });
    let head = head_for(facts, model_request, (attempt.state.member, upstream), caller, rest, framing, at)?;
    Ok((head, body))
}

/// Whether this attempt asks for the usage of a stream, though its caller didn't.
fn asks_usage(attempt: &Attempt<'_>) -> bool {
    let model_request = attempt.model_request;
    model_request.fields.stream
        && is_asked_for(model_request.api)
        && !attempt.refused_usage
        && matches!(model_request.fields.stream_options, StreamOptions::Absent | StreamOptions::UsageNotAsked { .. })
        && attempt.state.lease.target().may_be_asked_usage(model_request.api, attempt.gateway.clock.now())
}

/// The caller's bytes, with the deployment's name in place of the model's if they differ, with the member's service tier
/// in place of the caller's, and with the option that asks for a stream's usage.
fn body(
    caller: &RequestHeader,
    request_body: &RequestBody,
    model_request: &ModelRequest,
    provider: &dyn Provider,
    deployment: &str,
    (tier, usage): (Option<ServiceTier>, bool),
) -> Pieces {
    let Some(body) = &request_body.kept else { return Pieces::new() };
    if model_request.object.is_some() {
        return body.verbatim();
    }
    let mut edits: SmallVec<[Edit; 3]> = model_edit(caller, body, model_request, provider, deployment).into_iter().collect();
    match &model_request.fields.stream_options {
        StreamOptions::Absent if usage => {
            // There is a `"stream"` field at least, so another field follows.
            let at = after_brace(body.bytes());
            edits.push(Edit { range: at..at, replacement: b"\"stream_options\":{\"include_usage\":true},".as_slice().into() });
        }
        StreamOptions::UsageNotAsked { range, insert } if usage => {
            edits.push(Edit { range: range.clone(), replacement: insert.as_bytes().into() });
        }
        _ => {}
    }
    edits.extend(tier.and_then(|tier| tier_edit(body, model_request, tier)));
    if edits.is_empty() {
        return body.verbatim();
    }
    edits.sort_by_key(|edit| edit.range.start);
    body.edited(&edits)
}

/// The edit that puts the member's service tier into the body, if that is needed.
fn tier_edit(body: &ReplayBody, model_request: &ModelRequest, tier: ServiceTier) -> Option<Edit> {
    let fields = &model_request.fields;
    let edit = |range: Range<usize>, replacement: String| Some(Edit { range, replacement: replacement.into_bytes().into() });
    match &fields.service_tier_range {
        Some(_) if fields.service_tier == Some(tier) => None,
        Some(range) => edit(range.clone(), format!("\"{}\"", tier.label())),
        // A request of these APIs has other members.
        None => {
            let at = after_brace(body.bytes());
            edit(at..at, format!("\"service_tier\":\"{}\",", tier.label()))
        }
    }
}

/// The edit that puts the deployment's name into the body, if that is needed.
fn model_edit(
    caller: &RequestHeader,
    body: &ReplayBody,
    model_request: &ModelRequest,
    provider: &dyn Provider,
    deployment: &str,
) -> Option<Edit> {
    let edit = |range: Range<usize>, replacement: String| Some(Edit { range, replacement: replacement.into_bytes().into() });
    let named = provider.model_in_body(model_request.api);
    match (&model_request.fields.model_range, &model_request.fields.model) {
        (Some(range), _) if named == ModelInBody::Forbidden => Some(without_member(body.bytes(), range)),
        (Some(_), Some(model)) if model == deployment => None,
        (Some(range), _) if model_request.api.is_multipart() => edit(range.clone(), deployment.to_owned()),
        (Some(range), _) => {
            let mut name = Vec::with_capacity(deployment.len() + 2);
            write_text(deployment, &mut name);
            Some(Edit { range: range.clone(), replacement: name.into() })
        }
        // This target's URL names the model, as the caller's did.
        (None, _) if named != ModelInBody::Required => None,
        (None, _) if model_request.api.is_multipart() => edit(0..0, headers::model_part(caller, deployment)),
        // The caller's URL named the model, but this target needs it in the body.
        (None, _) => {
            let at = after_brace(body.bytes());
            let empty = body.bytes()[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
            edit(at..at, format!("\"model\":{}{}", serde_json::Value::from(deployment), if empty { "" } else { "," }))
        }
    }
}

/// An edit that removes the object member whose value is at `range`, with one comma.
fn without_member(body: &[u8], range: &Range<usize>) -> Edit {
    let space = |byte: &u8| byte.is_ascii_whitespace();
    // A colon follows the key's closing quote; the key has no quote within.
    let colon = body[..range.start].iter().rposition(|byte| *byte == b':').unwrap_or(range.start);
    let closing = body[..colon].iter().rposition(|byte| *byte == b'"').unwrap_or(colon);
    let opening = body[..closing].iter().rposition(|byte| *byte == b'"').unwrap_or(closing);
    let after = range.end + body[range.end..].iter().take_while(|byte| space(byte)).count();
    let before = opening - body[..opening].iter().rev().take_while(|byte| space(byte)).count();
    let range = match (body.get(after), before.checked_sub(1).map(|at| body[at])) {
        (Some(b','), _) => opening..after + 1,
        (_, Some(b',')) => before - 1..range.end,
        _ => opening..range.end,
    };
    Edit { range, replacement: Vec::new().into() }
}

/// Position of the first member of an object.
fn after_brace(body: &[u8]) -> usize {
    body.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1)
}

/// Most bytes that are read of an error's body.
const ERROR_BYTES: usize = 64 * 1024;
const ERROR_TIME: Duration = Duration::from_secs(5);

/// Reads an error's body up to a limit, and whether it broke.
pub(super) async fn read_error(
    gateway: &Gateway,
    session: &mut Session<'_>,
    exchange: &mut Exchange,
    retry_state: &mut RetryState,
) -> Result<(SmallVec<[Bytes; 4]>, Option<Broken>), Broken> {
    let until = (gateway.clock.now() + ERROR_TIME).min(retry_state.deadline);
    let mut body: SmallVec<[Bytes; 4]> = SmallVec::new();
    let mut length = 0;
    while length < ERROR_BYTES {
        match exchange.next(until, &gateway.clock, &mut retry_state.timer, session).await {
            Ok(BodyEvent::Data(bytes)) => {
                length += bytes.len();
                body.push(bytes);
            }
            Ok(BodyEvent::End) => return Ok((body, None)),
            Ok(BodyEvent::Quiet) => return Ok((body, Some(Broken::TimedOut))),
            Err(Broken::CallerLeft) => return Err(Broken::CallerLeft),
            Err(broken) => return Ok((body, Some(broken))),
        }
    }
    Ok((body, None))
}

#[cfg(test)]
mod tests;
