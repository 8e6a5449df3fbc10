//! The state of a request between its attempts: what was tried, what failed, what is still allowed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use super::refusal::Refusal;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::provisioned::{Booking, Demand};
use crate::balance::route::{NoneReady, Pick, PickRequest};
use crate::balance::target::RequestKey;
use crate::balance::waiting::QueueSlot;
use crate::clock::Tick;
use crate::request::{Attempts, Facts, ModelRequest};
use crate::timer::Timer;

/// The state of a request between its attempts.
pub(super) struct RetryState {
    /// Members that were tried.
    pub(super) tried: SmallVec<[usize; 8]>,
    /// Those of them that were throttled: they may be tried again after a wait.
    pub(super) throttled: SmallVec<[usize; 8]>,
    /// Attempts that failed.
    pub(super) failures: u32,
    /// How the last attempt failed, if not by a throttle.
    last_failure: Option<&'static str>,
    /// Whether that was a timeout.
    last_timed_out: bool,
    /// The member that failed last, if it failed fast, and its Retry-After.
    pub(super) fast: Option<(usize, Option<Duration>)>,
    /// The member that was throttled last, and its Retry-After.
    pub(super) limited: Option<(usize, Option<Duration>)>,
    /// The last failed attempt has sent nothing, and was not counted.
    uncounted: bool,
    /// How often a member may still be tried again before the others.
    same_target: u32,
    /// The last attempt's refusal, if there was one and the caller may see it.
    pub(super) last_refusal: Option<Box<(ResponseHeader, Bytes)>>,
    /// That refusal says that the prompt is too long, and members that could be tried have a larger context window.
    pub(super) too_long: bool,
    /// A member had no capacity for the service tier `flex`.
    pub(super) no_flex: bool,
    /// The error message of the last failed attempt's upstream, with its status.
    pub(super) upstream: Option<(Option<u16>, Arc<str>)>,
    /// The request's deadline.
    pub(super) deadline: Tick,
    /// The expected backend could not decrypt the request's encrypted content: any other may be tried.
    pub(super) unsealed: bool,
    /// How often throttled members were allowed again.
    pub(super) releases: u32,
    /// How much longer the request may wait for throttled targets.
    pub(super) wait_left: Duration,
    /// How long it has waited for a target since the last attempt.
    pub(super) waited: Duration,
    /// Which consumer asks, and for which API. The rest of a streamed upload is still to come.
    pub(super) key: RequestKey,
    pub(super) timer: Timer,
    /// What it is expected to take of provisioned throughput, if a member has any.
    pub(super) demand: Option<Demand>,
}

impl RetryState {
    /// A request that was not tried anywhere yet. `by` is the number of its consumer in the targets' state.
    pub(super) fn new(model_request: &ModelRequest, by: u64, arrived: Tick) -> Self {
        RetryState {
            key: RequestKey { by, api: model_request.api, whole: true },
            tried: SmallVec::new(),
            throttled: SmallVec::new(),
            failures: 0,
            releases: 0,
            unsealed: false,
            last_failure: None,
            last_timed_out: false,
            fast: None,
            limited: None,
            uncounted: false,
            same_target: model_request.pool.config.retry.same_target,
            last_refusal: None,
            too_long: false,
            no_flex: false,
            upstream: None,
            deadline: arrived + model_request.pool.config.timeouts.total,
            wait_left: model_request.pool.config.retry.wait,
            waited: Duration::ZERO,
            timer: Timer::default(),
            demand: None,
        }
    }

    /// Notes how the last attempt failed, and whether that was a timeout.
    pub(super) fn failed(&mut self, how: AttemptOutcome, timed_out: bool) {
        self.last_failure = Some(how.label());
        self.last_timed_out = timed_out;
        self.uncounted = false;
    }

    /// The last attempt has sent nothing. As with a throttle, to ask another member costs the failed one nothing, so it is not
    /// counted: each member is there only once. Returns whether the same one is to be asked first, which is counted.
    pub(super) fn unreached(&mut self, model_request: &ModelRequest, now: Tick) -> bool {
        let again = self.same_target > 0 && self.fast.is_some() && self.may_retry(model_request, now);
        self.uncounted = !again;
        again
    }

    /// Counts a failed attempt. Returns whether another one may be made.
    pub(super) fn may_retry(&mut self, model_request: &ModelRequest, now: Tick) -> bool {
        let rules = &model_request.pool.config.retry;
        self.failures += 1;
        self.failures < rules.max_attempts && model_request.pool.budget.try_retry(&rules.budget, self.key.by, now)
    }

    /// Whether an attempt failed, apart from throttles.
    pub(super) fn has_failed(&self) -> bool {
        self.last_failure.is_some()
    }

    /// Whether the caller may get the last refusal: no member that could do better is just throttled.
    pub(super) fn is_last(&self, left: Option<NoneReady>) -> bool {
        self.throttled.is_empty() && !(self.too_long && left.is_some_and(|left| left.soonest.is_some()))
    }

    /// The prompt is too long for a member: members whose context window is no larger count as tried. Returns whether
    /// any has a larger one.
    pub(super) fn rule_out_smaller(&mut self, model_request: &ModelRequest, member: usize) -> bool {
        let members = &model_request.model.members;
        let context_of = |member: usize| members.get(member).and_then(|member| member.context);
        let Some(context) = context_of(member) else { return false };
        let is_larger = |other: usize| context_of(other).is_some_and(|known| known > context);
        if !(0..members.len()).any(|other| is_larger(other) && !self.tried.contains(&other)) {
            return false;
        }
        let smaller = (0..members.len()).filter(|other| !is_larger(*other) && !self.tried.contains(other));
        let smaller: SmallVec<[usize; 8]> = smaller.collect();
        self.tried.extend(smaller);
        true
    }

    /// The member of the last attempt, if it is to be tried again before the others, and when.
    pub(super) fn same_first(&mut self, model_request: &ModelRequest, throttled: bool, now: Tick) -> Option<(usize, Tick)> {
        self.same_target = self.same_target.checked_sub(1)?;
        let (member, wait) = if throttled { self.limited.take() } else { self.fast.take() }?;
        let until = self.when_again(model_request, member, wait.filter(|_| throttled), now)?;
        self.throttled.retain(|throttled| *throttled != member);
        Some((member, until))
    }

    /// When a member may be tried again: after `wait`, or after a short random time. `None` if that is too late, or it
    /// may not be used.
    fn when_again(&self, model_request: &ModelRequest, member: usize, wait: Option<Duration>, now: Tick) -> Option<Tick> {
        let jitter = Duration::from_millis(crate::random::with_rng(|rng| rng.u64(AGAIN.0..=AGAIN.1)));
        let until = now + wait.map_or(jitter, |wait| wait.max(jitter));
        let target = &model_request.model.route.members()[member].target;
        let may = target.closed_for(self.key, until).is_none();
        (may && until < self.deadline && until <= now + self.wait_left.max(LONGEST_AGAIN)).then_some(until)
    }

    /// No other member is left: when the member that failed last may be tried once more, if it failed fast and is still
    /// usable.
    pub(super) fn same_again(&mut self, model_request: &ModelRequest, now: Tick) -> Option<Tick> {
        let (member, retry_after) = self.fast.take()?;
        let until = self.when_again(model_request, member, retry_after, now)?;
        if std::mem::take(&mut self.uncounted) && !self.may_retry(model_request, now) {
            return None;
        }
        self.tried.retain(|tried| *tried != member);
        Some(until)
    }

    /// Until when to wait for a target, if that is allowed. A throttled member that may be used again by now needs no
    /// wait, but the number of such rounds is limited like the number of attempts. The queue is limited, too, and its
    /// last places are for the more urgent classes.
    pub(super) fn wait_until(
        &self,
        none: NoneReady,
        model_request: &ModelRequest,
        facts: &Facts,
        now: Tick,
    ) -> Option<(Tick, Option<QueueSlot>)> {
        let rules = &model_request.pool.config.retry;
        let soonest = none.soonest.filter(|_| self.releases < rules.max_attempts)?;
        if soonest > now + self.wait_left || soonest >= self.deadline {
            return None;
        }
        // If a target may already be used again, no place in the queue is needed.
        let place = if soonest > now { Some(model_request.pool.waiting.enter(rules.queue, facts.class(), facts.owner())?) } else { None };
        Some((soonest, place))
    }

    /// A wait from `from` to `until` is over: throttled members may be tried again.
    pub(super) fn release(&mut self, until: Tick, from: Tick) {
        self.wait_left = self.wait_left.saturating_sub(until.since(from));
        self.releases += 1;
        let throttled = std::mem::take(&mut self.throttled);
        self.tried.retain(|index| !throttled.contains(index));
    }

    /// The request doesn't wait for room in provisioned throughput any longer.
    pub(super) fn hurry(&mut self) {
        if let Some(demand) = &mut self.demand {
            demand.may_wait = false;
        }
    }

    /// It has waited for room for this long.
    pub(super) fn waited_for_room(&mut self, waited: Duration) {
        if let Some(demand) = &mut self.demand {
            demand.waited += waited;
        }
    }

    /// The refusal for the caller when no target is left.
    pub(super) fn refusal(&self, model: &str, none: Option<NoneReady>, now: Tick) -> Refusal {
        let model = model.to_owned();
        let retry_after = none.and_then(|none| none.soonest).map(|soonest| soonest.since(now));
        match (self.last_failure, none) {
            (Some(_), _) if self.last_timed_out => Refusal::UpstreamTimeout { model, retry_after },
            (Some(last), _) => Refusal::UpstreamFailed { model, last, retry_after, upstream: self.upstream.clone() },
            (None, Some(none)) if none.fenced_off => Refusal::LocationNotAllowed { model },
            (None, Some(none)) if none.all_throttled || self.no_flex || (self.too_long && none.soonest.is_some()) => {
                Refusal::AllThrottled { model, retry_after }
            }
            (None, None) if now >= self.deadline => Refusal::UpstreamTimeout { model, retry_after },
            _ => Refusal::NoneAvailable { model, retry_after },
        }
    }
}

/// Milliseconds until a member that failed fast is tried once more.
const AGAIN: (u64, u64) = (100, 500);
/// Longest Retry-After that is waited for in that case, unless the pool allows a longer wait.
const LONGEST_AGAIN: Duration = Duration::from_secs(1);

/// A slot of this member, for a request that already tried it.
pub(super) fn pick_again(model_request: &ModelRequest, retry_state: &mut RetryState, member: usize, now: Tick) -> Option<Pick> {
    let lease = model_request.model.route.members()[member].target.acquire(retry_state.key, now)?;
    retry_state.tried.retain(|tried| *tried != member);
    let booking = retry_state.demand.as_ref().and_then(|demand| Booking::of(&lease.target().provisioned, demand, now));
    Some(Pick { index: member, lease, booking })
}

/// Most skipped members that are recorded for a request.
const SKIPPED: usize = 64;

/// Asks the selector for a target, and records which members it skipped.
pub(super) fn pick(
    model_request: &ModelRequest,
    facts: &Facts,
    attempts: &mut Attempts,
    retry_state: &mut RetryState,
    now: Tick,
) -> Result<Pick, NoneReady> {
    let fence = facts.consumer().and_then(|consumer| consumer.rights.locations.as_deref());
    let request = PickRequest {
        excluded: if retry_state.unsealed { model_request.model.excluded(model_request.api) } else { model_request.excluded() },
        tried: &retry_state.tried,
        throttled: &retry_state.throttled,
        fence,
        affinity_key: model_request.affinity_key,
        key: retry_state.key,
        demand: retry_state.demand.as_ref(),
        class: facts.class(),
        is_late: facts.needed_by.is_some_and(|needed_by| needed_by.since(now) < model_request.model.durations.most()),
    };
    let route = &model_request.model.route;
    let picked = crate::random::with_rng(|rng| route.pick(&request, now, rng));
    // A waiting request asks the selector again and again: the skipped members are recorded once, and once more after
    // each attempt.
    let number = attempts.records.len() + 1;
    if attempts.recorded_for < number && attempts.skipped.len() < SKIPPED {
        let skipped = route.skipped(&request, picked.as_ref().ok().map(|pick| pick.index), now);
        attempts.skipped.extend(skipped);
        attempts.recorded_for = number;
    }
    if let Some(demand) = &mut retry_state.demand {
        demand.is_new = false;
    }
    picked
}

#[cfg(test)]
mod tests;
