//! The attempt loop: pick, try, judge, and on to the next target until the caller has an answer.
//!
//! One state machine for every inference request. Nothing is retried after the commit point, tried
//! targets are not tried again, and one deadline covers everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::proxy::Session;
use smallvec::SmallVec;
use spillway_plugins::guard::Finding;
use spillway_plugins::objects::refuses_sealed;
use spillway_plugins::request::StreamOptions;
use spillway_plugins::retry::{Fault, Verdict, classify_error, is_too_long, judge, read_signal, refuses_parameter};
use tracing::info;

use super::ask::{Unasked, ask, read_error};
use super::attempt::{Attempt, Step, is_timeout};
use super::ctx::{End, Inquiry, RequestCtx};
use super::deliver::{self, Delivery};
use super::drain::{self, Abandoned};
use super::exchange::{Broken, Exchange};
use super::progress::{Progress, pick, pick_again};
use super::refusal::Refusal;
use super::{Gateway, cached, guarded, last_resort, last_word, metering, rescue, words};
use crate::backend::Upstream;
use crate::backend::auth::TokenSource;
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::route::{NoneReady, Pick};
use crate::balance::target::{OutageReason, Outcome};
use crate::balance::waiting::{Place, asked_back};
use crate::clock::Tick;
use crate::config::OnDisconnect;

/// Runs a request to its end. The answer, or a refusal, is written to the caller.
pub(super) async fn run(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx) -> End {
    let Some(inquiry) = ctx.inquiry.take() else { return End::CallerLeft };
    let mut progress = Progress::new(&inquiry, ctx.arrived);
    inquiry.pool.budget.request(gateway.clock.now());
    let end = attempt_all(gateway, session, ctx, &inquiry, &mut progress).await;
    ctx.inquiry = Some(inquiry);
    if end != End::CallerLeft {
        // Whatever was not kept by now won't be: nobody need wait for it.
        cached::forget(ctx);
    }
    end
}

async fn attempt_all(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx, inquiry: &Inquiry, progress: &mut Progress) -> End {
    // The member that is asked once more before the others are.
    let mut again = None;
    loop {
        let now = gateway.clock.now();
        if now >= progress.deadline {
            return give_up(gateway, session, ctx, inquiry, progress, None).await;
        }
        let picked = match again.take().and_then(|member| pick_again(inquiry, ctx, progress, member, now)) {
            Some(same) => Ok(same),
            None => pick(inquiry, ctx, progress, now),
        };
        match picked {
            Ok(pick) => {
                let throttled = match attempt(gateway, session, ctx, inquiry, progress, pick).await {
                    Step::Over(end) => return end,
                    Step::Elsewhere => continue,
                    Step::Throttled => true,
                    Step::Failed if progress.may_retry(inquiry, gateway.clock.now()) => false,
                    Step::Failed => return give_up(gateway, session, ctx, inquiry, progress, None).await,
                };
                if let Some((member, until)) = progress.same_first(inquiry, ctx, throttled, gateway.clock.now()) {
                    again = Some(member);
                    if wait(gateway, session, ctx, progress, until, None).await == Waited::CallerLeft {
                        return End::CallerLeft;
                    }
                }
            }
            Err(none) => match progress.wait_until(none, inquiry, ctx, now) {
                Some((until, mut place)) => {
                    if until > now {
                        match wait(gateway, session, ctx, progress, until, place.as_mut()).await {
                            Waited::Over => {}
                            Waited::Displaced => return give_up(gateway, session, ctx, inquiry, progress, Some(none)).await,
                            Waited::CallerLeft => return End::CallerLeft,
                        }
                    }
                    progress.release(until, now);
                }
                None => match progress.same_again(inquiry, ctx, now) {
                    Some(until) => {
                        if wait(gateway, session, ctx, progress, until, None).await == Waited::CallerLeft {
                            return End::CallerLeft;
                        }
                    }
                    None => return give_up(gateway, session, ctx, inquiry, progress, Some(none)).await,
                },
            },
        }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Over,
    /// Another consumer, with fewer places in the queue, has this one's.
    Displaced,
    CallerLeft,
}

async fn wait(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    progress: &mut Progress,
    until: Tick,
    place: Option<&mut Place>,
) -> Waited {
    let began = gateway.clock.now();
    let waited = tokio::select! {
        biased;
        _ = session.downstream_session.read_body_or_idle(true) => Waited::CallerLeft,
        () = asked_back(place) => Waited::Displaced,
        () = progress.timer.until(until, &gateway.clock) => Waited::Over,
    };
    let took = gateway.clock.now().since(began);
    ctx.waited += took;
    progress.waited += took;
    waited
}

/// Nobody is left: the last resort, or a clear refusal.
async fn give_up(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    progress: &mut Progress,
    none: Option<NoneReady>,
) -> End {
    let fenced_off = none.is_some_and(|none| none.fenced_off);
    // Never before a real target: with retries used up there may be one left that wasn't asked.
    let left = none.or_else(|| pick(inquiry, ctx, progress, gateway.clock.now()).err());
    let nobody = left.is_some();
    if let Some(reply) =
        inquiry.pool.last_resort.as_ref().filter(|_| nobody && !fenced_off && inquiry.object.is_none() && !inquiry.is_pinned())
    {
        match last_resort::answer(gateway, session, ctx, inquiry, reply).await {
            Ok(true) => return End::LastResort,
            Ok(false) => {}
            Err(_) => return End::CallerLeft,
        }
    }
    if let Some(answer) = progress.last_word.take().filter(|_| nobody && progress.is_last(left)) {
        return last_word::say(gateway, session, ctx, inquiry, *answer).await;
    }
    let refusal = progress.refusal(&inquiry.model.name, if progress.has_failed() { left } else { none }, gateway.clock.now());
    match gateway.refuse(session, ctx, &refusal).await {
        Ok(()) => ctx.end,
        Err(_) => End::CallerLeft,
    }
}

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

/// One attempt at one target, from the connection to the last byte.
async fn attempt(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    progress: &mut Progress,
    pick: Pick,
) -> Step {
    let mut attempt = Attempt::begin(gateway, ctx, inquiry, progress, pick);
    match asked(session, ctx, &mut attempt, progress).await {
        Ok(Asked::Answer(exchange, prefix)) => deliver(session, ctx, progress, attempt, exchange, prefix).await,
        Err(Unasked::Unsendable) => {
            attempt.finish(ctx, "cancelled");
            match gateway.refuse(session, ctx, &Refusal::Internal).await {
                Ok(()) => Step::Over(ctx.end),
                Err(_) => Step::Over(End::CallerLeft),
            }
        }
        unanswered => ended(ctx, progress, attempt, unanswered),
    }
}

/// Ends an attempt without an answer: whoever has a use for one has taken it.
pub(super) fn ended(ctx: &mut RequestCtx, progress: &mut Progress, attempt: Attempt<'_>, asked: Result<Asked, Unasked>) -> Step {
    match asked {
        Ok(Asked::Elsewhere(verdict, status)) => match verdict {
            Verdict::RateLimited => attempt.throttled(ctx, progress),
            Verdict::OutOfQuota => attempt.out(ctx, OutageReason::OutOfQuota),
            Verdict::Misconfigured => attempt.out(ctx, OutageReason::Misconfigured),
            Verdict::Failed | Verdict::Deliver => attempt.failed(ctx, progress, Failure::Status(status), "failed", is_timeout(status)),
        },
        Ok(Asked::Unfit) => {
            // Says nothing about the target.
            attempt.finish(ctx, "caller_fault");
            Step::Elsewhere
        }
        Ok(Asked::TooLong) => attempt.too_long(ctx, progress),
        Err(Unasked::NoCredential) => attempt.no_credential(ctx),
        Err(Unasked::Broken(broken)) => attempt.broke(ctx, progress, broken),
        Ok(Asked::Answer(..)) | Err(Unasked::Unsendable) => {
            attempt.finish(ctx, "cancelled");
            Step::Elsewhere
        }
    }
}

/// Asks a target; once more with another token, or without what the gateway itself asks for, if that is what it refuses.
pub(super) async fn asked(
    session: &mut Session,
    ctx: &mut RequestCtx,
    attempt: &mut Attempt<'_>,
    progress: &mut Progress,
) -> Result<Asked, Unasked> {
    let (gateway, inquiry) = (attempt.gateway, attempt.inquiry);
    let runtime = Arc::clone(&ctx.runtime);
    let Some(upstream) = runtime.backends[inquiry.model.route.members()[attempt.running.member].backend].upstream.as_ref() else {
        return Err(Unasked::Broken(Broken::Upstream(ErrorKind::Connect)));
    };
    attempt.credentials = upstream.auth.credentials();
    let shown = upstream.auth.token().map_or(0, |token| token.number());
    if let Some(permit) = &mut ctx.permit {
        permit.spend();
    }
    let mut asked = ask_once(session, ctx, upstream, attempt, progress).await;
    if let (Ok(Asked::Elsewhere(Verdict::Misconfigured, StatusCode::UNAUTHORIZED)), Some(token)) = (&asked, upstream.auth.token()) {
        match renewed(gateway, session, ctx, progress, token, shown).await {
            Ok(true) => asked = ask_once(session, ctx, upstream, attempt, progress).await,
            Ok(false) => {}
            Err(broken) => asked = Err(Unasked::Broken(broken)),
        }
    }
    if attempt.asked_usage && refuses_stream_options(&asked, attempt) {
        attempt.refused_usage = true;
        let target = attempt.running.lease.target();
        // Options of the caller's own may be what is refused: that says nothing about others.
        if inquiry.fields.stream_options == StreamOptions::Absent && target.refused_usage(inquiry.api, gateway.clock.now()) {
            info!(target = %target.id, api = %inquiry.api, "refuses stream_options: for a while its streams will not tell their usage");
        }
        if let Ok(Asked::Answer(exchange, _)) = asked {
            exchange.release(&gateway.connector).await;
        }
        asked = ask_once(session, ctx, upstream, attempt, progress).await;
    }
    asked
}

/// Whether a target is too old for what we, not the caller, put into the request.
fn refuses_stream_options(asked: &Result<Asked, Unasked>, attempt: &Attempt<'_>) -> bool {
    let Ok(Asked::Answer(_, body)) = asked else { return false };
    attempt.running.status == Some(StatusCode::BAD_REQUEST) && refuses_parameter(&body.concat(), "stream_options")
}

/// Asks a target, and judges what it says.
async fn ask_once(
    session: &mut Session,
    ctx: &mut RequestCtx,
    upstream: &Upstream,
    attempt: &mut Attempt<'_>,
    progress: &mut Progress,
) -> Result<Asked, Unasked> {
    let gateway = attempt.gateway;
    let mut exchange = ask(session, ctx, upstream, attempt, progress).await?;
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
    let body = read_error(gateway, session, &mut exchange, progress).await;
    ctx.waited += gateway.clock.now().since(began);
    let (body, broken) = body.map_err(Unasked::Broken)?;
    let text = deliver::joined(&body);
    attempt.running.filtered = status == StatusCode::BAD_REQUEST && classify_error(&text) == Some(Fault::ContentFilter);
    if status.is_server_error() {
        attempt.running.said = words::of(&text);
    }
    // Not every resource that has an API has all parts of it: that says nothing about the target.
    let has_no_such_part = attempt.inquiry.part.is_some() && matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    let verdict = judge(status, &text, &attempt.inquiry.pool.config.retry.statuses, upstream.auth.credentials());
    let verdict = match verdict {
        // Nobody else has it: the caller gets what its keeper says.
        Verdict::RateLimited | Verdict::OutOfQuota | Verdict::Failed if attempt.inquiry.object.is_some() && attempt.inquiry.is_pinned() => {
            Verdict::Deliver
        }
        _ if has_no_such_part => Verdict::Deliver,
        other => other,
    };
    let refuses_what_is_sealed =
        attempt.inquiry.sealed && verdict == Verdict::Deliver && status == StatusCode::BAD_REQUEST && refuses_sealed(&text);
    if refuses_what_is_sealed || has_no_such_part {
        progress.unsealed |= refuses_what_is_sealed;
        // Where nobody else is left, now or soon, the caller gets what the last one says.
        if pick(attempt.inquiry, ctx, progress, gateway.clock.now()).map_or_else(|none| none.soonest.is_some(), |_| true) {
            exchange.release(&gateway.connector).await;
            return Ok(Asked::Unfit);
        }
    }
    if verdict == Verdict::Deliver
        && broken.is_none()
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
        && is_too_long(&text)
        && progress.rule_out_smaller(attempt.inquiry, attempt.running.member)
    {
        progress.last_word = exchange.head().map(|head| Box::new((head.clone(), text)));
        exchange.release(&gateway.connector).await;
        return Ok(Asked::TooLong);
    }
    match (verdict, broken) {
        // A part must not be delivered as the whole.
        (Verdict::Deliver, Some(broken)) => Err(Unasked::Broken(broken)),
        (Verdict::Deliver, None) => Ok(Asked::Answer(exchange, body)),
        _ => {
            if verdict == Verdict::Misconfigured
                && broken.is_none()
                && let Some(head) = exchange.head().filter(|head| last_word::may_be_said(head))
            {
                progress.last_word = Some(Box::new((head.clone(), text)));
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
    ctx: &mut RequestCtx,
    progress: &Progress,
    token: &TokenSource,
    shown: u64,
) -> Result<bool, Broken> {
    let began = gateway.clock.now();
    let limit = RENEWAL.min(progress.deadline.since(began));
    let renewed = tokio::select! {
        biased;
        renewed = token.renew(shown, began, limit) => Ok(renewed),
        _ = session.downstream_session.read_body_or_idle(true) => Err(Broken::CallerLeft),
    };
    ctx.waited += gateway.clock.now().since(began);
    renewed
}

/// The caller left: its answer is cancelled, or read on to learn what it used.
fn abandon(ctx: &mut RequestCtx, attempt: Attempt<'_>, exchange: Exchange) {
    let gateway = attempt.gateway;
    let reading = ctx.reading.take();
    let place = match ctx.runtime.config.usage.on_disconnect {
        OnDisconnect::Drain(limit) if reading.is_some() && !ctx.booked => gateway.draining.take(ctx.owner()).map(|place| (place, limit)),
        OnDisconnect::Drain(_) | OnDisconnect::Cancel => None,
    };
    match (reading, place) {
        (Some(reading), Some((place, limit))) => {
            let estimate = metering::hand_over(ctx, attempt.inquiry, &attempt.running, gateway.clock.now());
            let lease = attempt.finish(ctx, "cancelled");
            drain::read_on(gateway, Abandoned { exchange, reading, estimate, lease, place }, limit);
        }
        (reading, _) => {
            if let Some(reading) = reading {
                reading.end(ctx, attempt.inquiry.api);
            }
            attempt.finish(ctx, "cancelled");
        }
    }
}

/// The answer may not pass: a caller that has nothing of it gets a refusal.
async fn blocked(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx, finding: Option<&Finding>) -> End {
    let refusal = finding.map_or(Refusal::ContentUnchecked, guarded::refusal);
    if ctx.status.is_some() {
        return End::Refused(refusal.shape().code);
    }
    match gateway.refuse(session, ctx, &refusal).await {
        Ok(()) => ctx.end,
        Err(_) => End::CallerLeft,
    }
}

/// Hands an answer to the caller and turns what came of it into the next step.
async fn deliver(
    session: &mut Session,
    ctx: &mut RequestCtx,
    progress: &mut Progress,
    mut attempt: Attempt<'_>,
    mut exchange: Exchange,
    prefix: SmallVec<[Bytes; 4]>,
) -> Step {
    let delivery = deliver::deliver(session, ctx, progress, &mut attempt, &mut exchange, prefix).await;
    let gateway = attempt.gateway;
    match delivery {
        Delivery::Complete => {
            attempt.finish(ctx, "ok");
            exchange.release_soon(&gateway.connector).await;
            Step::Over(End::Complete)
        }
        Delivery::Refusal(status) => {
            let outcome = attempt.running.refusal(ctx, attempt.inquiry, status);
            attempt.record(outcome);
            attempt.finish(ctx, if outcome.is_callers() { "caller_fault" } else { "failed" });
            exchange.release_soon(&gateway.connector).await;
            Step::Over(End::Complete)
        }
        Delivery::Replace(fault) => match fault {
            deliver::Fault::RateLimited => attempt.throttled(ctx, progress),
            deliver::Fault::OutOfQuota => attempt.out(ctx, OutageReason::OutOfQuota),
            deliver::Fault::NoDeployment => attempt.out(ctx, OutageReason::Misconfigured),
            deliver::Fault::TooLong => attempt.too_long(ctx, progress),
            deliver::Fault::NoAnswer => attempt.failed(ctx, progress, Failure::Status(StatusCode::BAD_GATEWAY), "no_answer", false),
            deliver::Fault::Failed => attempt.failed(ctx, progress, Failure::Status(StatusCode::INTERNAL_SERVER_ERROR), "failed", false),
            deliver::Fault::Broken(broken) => attempt.broke(ctx, progress, broken),
        },
        Delivery::Cut(kind) => {
            attempt.record(Outcome::Failed { failure: Failure::Error(kind), retry_after: None });
            attempt.finish(ctx, kind.name());
            Step::Over(End::Cut)
        }
        Delivery::Broken(kind) => {
            attempt.record(Outcome::Failed { failure: Failure::Error(kind), retry_after: None });
            let (inquiry, broken) = (attempt.inquiry, (attempt.running.member, kind));
            attempt.finish(ctx, kind.name());
            drop(exchange);
            // On the heap: hardly any request needs room for it.
            Box::pin(rescue::run(gateway, session, ctx, inquiry, progress, broken)).await
        }
        Delivery::Blocked(finding) => {
            // The target did as it should; what is still to come of its answer is not wanted.
            attempt.finish(ctx, "ok");
            exchange.release(&gateway.connector).await;
            Step::Over(blocked(gateway, session, ctx, finding.as_ref()).await)
        }
        Delivery::CallerLeft => {
            abandon(ctx, attempt, exchange);
            Step::Over(End::CallerLeft)
        }
    }
}
