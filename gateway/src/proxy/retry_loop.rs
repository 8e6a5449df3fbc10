//! The retry loop: pick a target, try it, judge the result, and go on to the next target until the caller has an
//! answer.
//!
//! One loop for every inference request. After the commit point only a rescue is possible, if the pool allows it. A
//! tried target is not tried again unless no other is left. One deadline covers everything.

use crate::downstream::Session;
use bytes::Bytes;
use http::StatusCode;
use smallvec::SmallVec;

use super::abandoned::{self, Abandoned};
use super::attempt::{Attempt, AttemptEnd};
use super::books::{Books, OwnAnswer};
use super::ctx::RequestCtx;
use super::deliver;
use super::delivery::{self, Delivery, Withheld};
use super::exchange::Exchange;
use super::failover::fail_over;
use super::refusal::Refusal;
use super::retry_state::{RetryState, pick, pick_again};
use super::send::SendError;
use super::unfinished::AnswerReader;
use super::upstream_reply::{UpstreamReply, send_and_judge};
use super::{cached, demand, guardrails, last_refusal, last_resort, metering, rescue};
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::Failure;
use crate::balance::route::{NoneReady, Pick};
use crate::balance::target::{OutageReason, Outcome};
use crate::balance::waiting::{QueueSlot, asked_back};
use crate::clock::Tick;
use crate::config::OnDisconnect;
use crate::gateway::Gateway;
use crate::request::{End, Facts, ModelRequest, Timing};

/// Runs a request to its end. The answer, or a refusal, is written to the caller.
pub(super) async fn run(gateway: &Gateway, session: &mut Session<'_>, ctx: &mut RequestCtx) -> End {
    let Some(model_request) = ctx.model_request.take() else { return End::CallerLeft };
    let mut retry_state = RetryState::new(&model_request, ctx.facts.runtime.callers.number_of(ctx.facts.consumer()), ctx.facts.arrived);
    retry_state.demand = demand::of(&ctx.facts, &ctx.body, &model_request);
    retry_state.timer = session.take_timer();
    let now = gateway.clock.now();
    model_request.pool.budget.request(now);
    let end = attempt_all(gateway, session, ctx, &model_request, &mut retry_state, now).await;
    session.put_timer(retry_state.timer);
    ctx.model_request = Some(model_request);
    if end != End::CallerLeft {
        // An answer that is not in the cache by now will not be: release the requests that wait for it.
        cached::forget(&mut ctx.copies);
    }
    end
}

async fn attempt_all(
    gateway: &Gateway,
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    model_request: &ModelRequest,
    retry_state: &mut RetryState,
    now: Tick,
) -> End {
    // The member that is tried once more before the others.
    let mut again = None;
    let mut begins = Some(now);
    loop {
        let now = begins.take().unwrap_or_else(|| gateway.clock.now());
        if now >= retry_state.deadline {
            return give_up(gateway, session, ctx.own_answer(), model_request, retry_state, None).await;
        }
        let picked = match again.take().and_then(|member| pick_again(model_request, retry_state, member, now)) {
            Some(same) => Ok(same),
            None => pick(model_request, &ctx.facts, &mut ctx.attempts, retry_state, now),
        };
        match picked {
            Ok(pick) => {
                let throttled = match attempt(gateway, session, ctx, model_request, retry_state, pick, now).await {
                    AttemptEnd::Over(end) => return end,
                    AttemptEnd::Elsewhere => continue,
                    AttemptEnd::Throttled => true,
                    AttemptEnd::Unreached if !retry_state.unreached(model_request, gateway.clock.now()) => continue,
                    AttemptEnd::Unreached => false,
                    AttemptEnd::Failed if retry_state.may_retry(model_request, gateway.clock.now()) => false,
                    AttemptEnd::Failed => return give_up(gateway, session, ctx.own_answer(), model_request, retry_state, None).await,
                };
                if let Some((member, until)) = retry_state.same_first(model_request, throttled, gateway.clock.now()) {
                    again = Some(member);
                    if wait(gateway, session, &mut ctx.timing, retry_state, until, None).await == Waited::CallerLeft {
                        return End::CallerLeft;
                    }
                }
            }
            Err(NoneReady { room_at: Some(until), .. }) => {
                if wait_for_room(gateway, session, (&ctx.facts, &mut ctx.timing), model_request, retry_state, until).await
                    == Waited::CallerLeft
                {
                    return End::CallerLeft;
                }
            }
            Err(none) => match retry_state.wait_until(none, model_request, &ctx.facts, now) {
                Some((until, mut place)) => {
                    if until > now {
                        match wait(gateway, session, &mut ctx.timing, retry_state, until, place.as_mut()).await {
                            Waited::Over => {}
                            Waited::Displaced => {
                                return give_up(gateway, session, ctx.own_answer(), model_request, retry_state, Some(none)).await;
                            }
                            Waited::CallerLeft => return End::CallerLeft,
                        }
                    }
                    retry_state.release(until, now);
                }
                None => match retry_state.same_again(model_request, now) {
                    Some(until) => {
                        if wait(gateway, session, &mut ctx.timing, retry_state, until, None).await == Waited::CallerLeft {
                            return End::CallerLeft;
                        }
                    }
                    None => return give_up(gateway, session, ctx.own_answer(), model_request, retry_state, Some(none)).await,
                },
            },
        }
    }
}

/// Waits for room in provisioned throughput. If there is no place in the queue, or another consumer takes it, the
/// request doesn't wait any longer.
async fn wait_for_room(
    gateway: &Gateway,
    session: &mut Session<'_>,
    (facts, timing): (&Facts, &mut Timing),
    model_request: &ModelRequest,
    retry_state: &mut RetryState,
    until: Tick,
) -> Waited {
    let rules = &model_request.pool.config.retry;
    let Some(mut place) = model_request.pool.waiting.enter(rules.queue, facts.class(), facts.owner()) else {
        retry_state.hurry();
        return Waited::Displaced;
    };
    let began = gateway.clock.now();
    let waited = wait(gateway, session, timing, retry_state, until.min(retry_state.deadline), Some(&mut place)).await;
    if waited == Waited::Displaced {
        retry_state.hurry();
    }
    retry_state.waited_for_room(gateway.clock.now().since(began));
    waited
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Over,
    /// Another consumer, with fewer places in the queue, took this place.
    Displaced,
    CallerLeft,
}

async fn wait(
    gateway: &Gateway,
    session: &mut Session<'_>,
    timing: &mut Timing,
    retry_state: &mut RetryState,
    until: Tick,
    place: Option<&mut QueueSlot>,
) -> Waited {
    let began = gateway.clock.now();
    let waited = tokio::select! {
        biased;
        _ = session.left() => Waited::CallerLeft,
        () = asked_back(place) => Waited::Displaced,
        () = retry_state.timer.until(until, &gateway.clock) => Waited::Over,
    };
    let took = gateway.clock.now().since(began);
    timing.waited += took;
    retry_state.waited += took;
    waited
}

/// No target is left: sends the last resort's answer, or a refusal.
async fn give_up(
    gateway: &Gateway,
    session: &mut Session<'_>,
    mut own: OwnAnswer<'_>,
    model_request: &ModelRequest,
    retry_state: &mut RetryState,
    none: Option<NoneReady>,
) -> End {
    let fenced_off = none.is_some_and(|none| none.fenced_off);
    // Only if no real target is left: with the retries used up there may be one that was not tried.
    let left = none.or_else(|| pick(model_request, own.facts, own.attempts, retry_state, gateway.clock.now()).err());
    let none_left = left.is_some();
    if let Some(reply) = model_request
        .pool
        .last_resort
        .as_ref()
        .filter(|_| none_left && !fenced_off && model_request.object.is_none() && !model_request.is_pinned())
    {
        match last_resort::answer(gateway, session, &mut own, model_request, reply).await {
            Ok(true) => return End::LastResort,
            Ok(false) => {}
            Err(_) => return End::CallerLeft,
        }
    }
    if let Some(answer) = retry_state.last_refusal.take().filter(|_| none_left && retry_state.is_last(left)) {
        return last_refusal::say(gateway, session, own, model_request, *answer).await;
    }
    let refusal = retry_state.refusal(&model_request.model.name, if retry_state.has_failed() { left } else { none }, gateway.clock.now());
    refuse(gateway, session, own, &refusal).await
}

/// One attempt at one target, from the connection to the last byte.
async fn attempt(
    gateway: &Gateway,
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    model_request: &ModelRequest,
    retry_state: &mut RetryState,
    pick: Pick,
    now: Tick,
) -> AttemptEnd {
    let mut attempt = Attempt::begin(gateway, &ctx.facts, &ctx.attempts, model_request, retry_state, pick, now);
    match send_and_judge(session, &mut ctx.books(), &mut attempt, retry_state).await {
        Ok(UpstreamReply::Deliver(exchange, prefix)) => deliver(session, ctx, retry_state, attempt, exchange, prefix).await,
        Err(SendError::Unsendable) => {
            attempt.finish(&mut ctx.books(), AttemptOutcome::Cancelled);
            AttemptEnd::Over(refuse(gateway, session, ctx.own_answer(), &Refusal::Internal).await)
        }
        unanswered => fail_over(ctx.books(), retry_state, attempt, unanswered),
    }
}

/// The caller left: its answer is cancelled, or its rest is read to learn what it used.
fn abandon(mut books: Books<'_>, reading: Option<AnswerReader>, attempt: Attempt<'_>, exchange: Exchange) {
    let gateway = attempt.gateway;
    let place = match books.facts.runtime.config.usage.on_disconnect {
        OnDisconnect::Drain(limit) if reading.is_some() && !books.metering.booked => {
            gateway.draining.take(books.facts.owner()).map(|place| (place, limit))
        }
        OnDisconnect::Drain(_) | OnDisconnect::Cancel => None,
    };
    match (reading, place) {
        (Some(reading), Some((place, limit))) => {
            let estimate = metering::hand_over(&mut books, attempt.model_request, &attempt.state, gateway.clock.now());
            let lease = attempt.finish(&mut books, AttemptOutcome::Cancelled);
            abandoned::read_on(gateway, Abandoned { exchange, reading, estimate, lease, place }, limit);
        }
        (reading, _) => {
            if let Some(reading) = reading {
                reading.end(books.metering, attempt.model_request.api);
            }
            attempt.finish(&mut books, AttemptOutcome::Cancelled);
        }
    }
}

/// The guard stopped the answer: if nothing was sent to the caller, it gets a refusal.
async fn blocked(gateway: &Gateway, session: &mut Session<'_>, own: OwnAnswer<'_>, why: &Withheld) -> End {
    let refusal = match why {
        Withheld::Found(finding) => guardrails::refusal(finding),
        Withheld::Unchecked => Refusal::ContentUnchecked,
        Withheld::Unreadable => Refusal::AnswerUnreadable,
    };
    if own.reply.status.is_some() {
        return End::Refused(refusal.shape().code);
    }
    refuse(gateway, session, own, &refusal).await
}

/// Writes a refusal.
async fn refuse(gateway: &Gateway, session: &mut Session<'_>, own: OwnAnswer<'_>, refusal: &Refusal) -> End {
    match super::refuse::refuse(gateway, session, own, refusal).await {
        Ok(()) => End::Refused(refusal.shape().code),
        Err(_) => End::CallerLeft,
    }
}

/// Delivers an answer to the caller, and turns the result into the attempt's end.
async fn deliver(
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    retry_state: &mut RetryState,
    mut attempt: Attempt<'_>,
    mut exchange: Exchange,
    prefix: SmallVec<[Bytes; 4]>,
) -> AttemptEnd {
    let delivery = deliver::deliver(session, ctx, retry_state, &mut attempt, &mut exchange, prefix).await;
    let gateway = attempt.gateway;
    match delivery {
        Delivery::Complete => {
            attempt.finish(&mut ctx.books(), AttemptOutcome::Ok);
            exchange.release_soon(&gateway.idle);
            AttemptEnd::Over(End::Complete)
        }
        Delivery::Refusal(status) => {
            let outcome = attempt.state.refusal(&ctx.body, attempt.model_request, status);
            attempt.record(outcome);
            attempt.finish(&mut ctx.books(), if outcome.is_callers() { AttemptOutcome::CallerFault } else { AttemptOutcome::Failed });
            exchange.release_soon(&gateway.idle);
            AttemptEnd::Over(End::Complete)
        }
        Delivery::Replace(fault) => match fault {
            delivery::ReplaceReason::RateLimited => attempt.throttled(&mut ctx.books(), retry_state),
            delivery::ReplaceReason::FlexUnavailable => attempt.no_flex(&mut ctx.books(), retry_state),
            delivery::ReplaceReason::OutOfQuota => attempt.out(&mut ctx.books(), OutageReason::OutOfQuota),
            delivery::ReplaceReason::NoDeployment => attempt.out(&mut ctx.books(), OutageReason::Misconfigured),
            delivery::ReplaceReason::TooLong => attempt.too_long(&mut ctx.books(), retry_state),
            delivery::ReplaceReason::NoAnswer => {
                attempt.failed(&mut ctx.books(), retry_state, Failure::Status(StatusCode::BAD_GATEWAY), AttemptOutcome::NoAnswer, false)
            }
            delivery::ReplaceReason::Failed => attempt.failed(
                &mut ctx.books(),
                retry_state,
                Failure::Status(StatusCode::INTERNAL_SERVER_ERROR),
                AttemptOutcome::Failed,
                false,
            ),
            delivery::ReplaceReason::Broken(broken) => attempt.broke(&mut ctx.books(), retry_state, broken),
        },
        Delivery::Cut(kind) => {
            attempt.record(Outcome::Failed { failure: Failure::Error(kind), retry_after: None });
            attempt.finish(&mut ctx.books(), AttemptOutcome::Broken(kind));
            AttemptEnd::Over(End::Cut)
        }
        Delivery::Broken(kind) => {
            attempt.record(Outcome::Failed { failure: Failure::Error(kind), retry_after: None });
            drop(exchange);
            // On the heap, because few requests need it.
            Box::pin(rescue::run(session, ctx, retry_state, attempt, kind)).await
        }
        Delivery::Blocked(why) => {
            // The target did nothing wrong; the rest of its answer is not needed.
            attempt.finish(&mut ctx.books(), AttemptOutcome::Ok);
            exchange.release(&gateway.idle);
            AttemptEnd::Over(blocked(gateway, session, ctx.own_answer(), &why).await)
        }
        Delivery::CallerLeft => {
            let reading = ctx.unfinished.reading.take();
            abandon(ctx.books(), reading, attempt, exchange);
            AttemptEnd::Over(End::CallerLeft)
        }
    }
}

#[cfg(test)]
mod tests;
