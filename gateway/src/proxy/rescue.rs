//! A stream broke after its first output: the same request is sent to the next member, and the part of its answer after
//! what was already sent goes to the caller. This is tried once per request, within its deadline. If the new answer
//! doesn't repeat what was sent, the stream ends like any broken one. A background response is not requested again: the
//! rest of it is fetched from where it runs.

use crate::downstream::Session;
use http::StatusCode;
use spillway_plugins::rescue::Continuation;

use super::attempt::{Attempt, AttemptEnd};
use super::books::Books;
use super::ctx::RequestCtx;
use super::deliver;
use super::delivery::{Delivery, broke};
use super::exchange::Broken;
use super::failover::fail_over;
use super::respond;
use super::retry_state::{RetryState, pick, pick_again};
use super::send::SendError;
use super::unfinished::Rescue;
use super::upstream_reply::{UpstreamReply, send_and_judge};
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::route::Pick;
use crate::gateway::Gateway;
use crate::request::{Attempts, End, Facts, ModelRequest};

/// Continues the broken stream of an attempt, or sends its caller an error event.
pub(super) async fn run(
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    retry_state: &mut RetryState,
    mut broken: Attempt<'_>,
    kind: ErrorKind,
) -> AttemptEnd {
    let (gateway, model_request) = (broken.gateway, broken.model_request);
    let Some(Rescue::Due(mut due)) = ctx.unfinished.rescue.replace(Rescue::Begins) else {
        broken.finish(&mut ctx.books(), AttemptOutcome::Broken(kind));
        return AttemptEnd::Over(End::Cut);
    };
    let delivery = match &due.continuation {
        Continuation::Same(resumed) => {
            ctx.unfinished.rescue = Some(Rescue::Tried);
            // One response is one attempt: it is booked once.
            broken.note_broken(&ctx.facts, &mut ctx.attempts, AttemptOutcome::Broken(kind));
            broken.resumes = Some(resumed.asks());
            attempt(session, ctx, retry_state, broken, &mut due.continuation).await
        }
        Continuation::Again(_) => {
            let member = broken.state.member;
            broken.finish(&mut ctx.books(), AttemptOutcome::Broken(kind));
            ctx.unfinished.rescue = Some(Rescue::Tried);
            match next(gateway, &ctx.facts, &mut ctx.attempts, model_request, retry_state, member) {
                Some(pick) => {
                    let next = Attempt::begin(gateway, &ctx.facts, &ctx.attempts, model_request, retry_state, pick, gateway.clock.now());
                    attempt(session, ctx, retry_state, next, &mut due.continuation).await
                }
                None => Delivery::Cut(ErrorKind::Reset),
            }
        }
    };
    let (result, end) = match delivery {
        Delivery::Complete => ("ok", End::Complete),
        Delivery::CallerLeft => ("failed", End::CallerLeft),
        // The new answer doesn't repeat what was sent.
        Delivery::Blocked(_) => ("differs", End::Cut),
        _ => ("failed", End::Cut),
    };
    ctx.reply.rescued = Some(result);
    gateway.metrics.requests.rescued(&model_request.pool.config.name, result);
    if end == End::Cut {
        let event = respond::error_event(model_request.api, broke(kind), "upstream_error", due.continuation.sequence());
        deliver::cut_off(session, &ctx.facts, &mut ctx.reply, event, &gateway.clock).await;
    }
    AttemptEnd::Over(end)
}

/// The next member, or the same one if no other is left.
fn next(
    gateway: &Gateway,
    facts: &Facts,
    attempts: &mut Attempts,
    model_request: &ModelRequest,
    retry_state: &mut RetryState,
    broken: usize,
) -> Option<Pick> {
    let now = gateway.clock.now();
    if now >= retry_state.deadline || !retry_state.may_retry(model_request, now) {
        return None;
    }
    match pick(model_request, facts, attempts, retry_state, now) {
        Ok(pick) => Some(pick),
        Err(_) => pick_again(model_request, retry_state, broken, now),
    }
}

/// The rest of a response can't be read. This says nothing about its cost, and little about its target.
fn unread(mut books: Books<'_>, mut attempt: Attempt<'_>) -> Delivery {
    attempt.state.status = Some(StatusCode::OK);
    attempt.finish(&mut books, AttemptOutcome::Broken(ErrorKind::Reset));
    Delivery::Cut(ErrorKind::Reset)
}

async fn attempt(
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    retry_state: &mut RetryState,
    mut attempt: Attempt<'_>,
    continuation: &mut Continuation,
) -> Delivery {
    let gateway = attempt.gateway;
    let mut exchange = match send_and_judge(session, &mut ctx.books(), &mut attempt, retry_state).await {
        Ok(UpstreamReply::Deliver(exchange, _)) => match exchange.fields() {
            Some(head) if head.status.is_success() && deliver::is_stream(head) => exchange,
            _ if attempt.resumes.is_some() => return unread(ctx.books(), attempt),
            // The backend answered, but not with a stream.
            Some(head) if head.status.is_success() => {
                attempt.failed(&mut ctx.books(), retry_state, Failure::Status(StatusCode::BAD_GATEWAY), AttemptOutcome::Failed, false);
                return Delivery::Cut(ErrorKind::Reset);
            }
            _ => {
                attempt.finish(&mut ctx.books(), AttemptOutcome::CallerFault);
                return Delivery::Cut(ErrorKind::Reset);
            }
        },
        Err(SendError::Broken(Broken::CallerLeft)) if attempt.resumes.is_some() => {
            unread(ctx.books(), attempt);
            return Delivery::CallerLeft;
        }
        _ if attempt.resumes.is_some() => return unread(ctx.books(), attempt),
        unanswered => {
            return match fail_over(ctx.books(), retry_state, attempt, unanswered) {
                AttemptEnd::Over(End::CallerLeft) => Delivery::CallerLeft,
                _ => Delivery::Cut(ErrorKind::Reset),
            };
        }
    };
    let delivery = deliver::join(session, ctx, retry_state, &mut attempt, &mut exchange, continuation).await;
    match &delivery {
        Delivery::Complete => {
            attempt.finish(&mut ctx.books(), AttemptOutcome::Ok);
            exchange.release_soon(&gateway.idle);
        }
        Delivery::CallerLeft => {
            attempt.finish(&mut ctx.books(), AttemptOutcome::Cancelled);
        }
        Delivery::Blocked(_) => {
            attempt.finish(&mut ctx.books(), AttemptOutcome::Ok);
        }
        _ => {
            attempt.failed(
                &mut ctx.books(),
                retry_state,
                Failure::Error(ErrorKind::Reset),
                AttemptOutcome::Broken(ErrorKind::Reset),
                false,
            );
        }
    }
    delivery
}
