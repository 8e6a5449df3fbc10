//! How far a request has come: what was tried, what went wrong, what is still allowed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use super::refusal::Refusal;
use super::timer::Timer;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::route::{NoneReady, Pick, PickRequest};
use crate::balance::target::Asked;
use crate::balance::waiting::Place;
use crate::clock::Tick;
use crate::request::{Attempts, Facts, ModelRequest};

/// How far a request has come.
pub(super) struct RetryState {
    /// Members that were tried.
    pub(super) tried: SmallVec<[usize; 8]>,
    /// Those of them that were throttled: they may be tried again after a wait.
    pub(super) throttled: SmallVec<[usize; 8]>,
    /// Attempts that failed.
    pub(super) failures: u32,
    /// How the last attempt failed, if not by a throttle.
    last_failure: Option<&'static str>,
    /// Whether that was by running out of time.
    last_timed_out: bool,
    /// The member that failed last, if it failed fast, and the Retry-After that came with it.
    pub(super) fast: Option<(usize, Option<Duration>)>,
    /// The member that was throttled last, and the Retry-After that came with it.
    pub(super) limited: Option<(usize, Option<Duration>)>,
    /// How often a member may still be asked again before the others are.
    same_target: u32,
    /// What the last attempt was refused with, if it was and the caller may have it.
    pub(super) last_word: Option<Box<(ResponseHeader, Bytes)>>,
    /// The last word is that the prompt is too long for members that could be asked.
    pub(super) too_long: bool,
    /// What the upstream of the last failed attempt said, with its status.
    pub(super) upstream: Option<(Option<u16>, Arc<str>)>,
    /// When everything must be over.
    pub(super) deadline: Tick,
    /// What the request brings sealed can't be read where it was thought to be: anybody may be asked.
    pub(super) unsealed: bool,
    /// How often throttled members were released to be tried again.
    pub(super) releases: u32,
    /// How much waiting for a target to reopen is left.
    pub(super) patience: Duration,
    /// How long it has waited for a target since the last attempt.
    pub(super) waited: Duration,
    /// Who asks, and for what. Of a streamed upload the rest is still to come.
    pub(super) asked: Asked,
    pub(super) timer: Timer,
}

impl RetryState {
    /// A request that hasn't been tried anywhere, of the consumer that targets know by the number `by`.
    pub(super) fn new(model_request: &ModelRequest, by: u64, arrived: Tick) -> Self {
        RetryState {
            asked: Asked { by, api: model_request.api, whole: true },
            tried: SmallVec::new(),
            throttled: SmallVec::new(),
            failures: 0,
            releases: 0,
            unsealed: false,
            last_failure: None,
            last_timed_out: false,
            fast: None,
            limited: None,
            same_target: model_request.pool.config.retry.same_target,
            last_word: None,
            too_long: false,
            upstream: None,
            deadline: arrived + model_request.pool.config.timeouts.total,
            patience: model_request.pool.config.retry.wait,
            waited: Duration::ZERO,
            timer: Timer::default(),
        }
    }

    /// Notes how the last attempt failed, and whether that was by running out of time.
    pub(super) fn failed(&mut self, how: AttemptOutcome, timed_out: bool) {
        self.last_failure = Some(how.label());
        self.last_timed_out = timed_out;
    }

    /// Counts a failed attempt; whether another may be made.
    pub(super) fn may_retry(&mut self, model_request: &ModelRequest, now: Tick) -> bool {
        let rules = &model_request.pool.config.retry;
        self.failures += 1;
        self.failures < rules.max_attempts && model_request.pool.budget.try_retry(&rules.budget, self.asked.by, now)
    }

    /// Whether an attempt failed, other than by a throttle.
    pub(super) fn has_failed(&self) -> bool {
        self.last_failure.is_some()
    }

    /// Whether the request's last word may be the caller's answer: nobody who could do better is only throttled.
    pub(super) fn is_last(&self, left: Option<NoneReady>) -> bool {
        self.throttled.is_empty() && !(self.too_long && left.is_some_and(|left| left.soonest.is_some()))
    }

    /// The prompt is too long for a member: those that take no more count as tried. Whether any takes more.
    pub(super) fn rule_out_smaller(&mut self, model_request: &ModelRequest, member: usize) -> bool {
        let contexts = &model_request.model.contexts;
        let Some(context) = contexts.get(member).copied().flatten() else { return false };
        let is_larger = |other: usize| contexts.get(other).copied().flatten().is_some_and(|known| known > context);
        if !(0..contexts.len()).any(|other| is_larger(other) && !self.tried.contains(&other)) {
            return false;
        }
        let smaller = (0..contexts.len()).filter(|other| !is_larger(*other) && !self.tried.contains(other));
        let smaller: SmallVec<[usize; 8]> = smaller.collect();
        self.tried.extend(smaller);
        true
    }

    /// The member that was asked last, if it is to be asked again before the others, and when.
    pub(super) fn same_first(&mut self, model_request: &ModelRequest, throttled: bool, now: Tick) -> Option<(usize, Tick)> {
        self.same_target = self.same_target.checked_sub(1)?;
        let (member, wait) = if throttled { self.limited.take() } else { self.fast.take() }?;
        let until = self.when_again(model_request, member, wait.filter(|_| throttled), now)?;
        self.throttled.retain(|throttled| *throttled != member);
        Some((member, until))
    }

    /// When a member may be asked again after `wait`, or after a moment; `None` if that is too late, or it may not be asked.
    fn when_again(&self, model_request: &ModelRequest, member: usize, wait: Option<Duration>, now: Tick) -> Option<Tick> {
        let jitter = Duration::from_millis(crate::random::with_rng(|rng| rng.u64(AGAIN.0..=AGAIN.1)));
        let until = now + wait.map_or(jitter, |wait| wait.max(jitter));
        let target = &model_request.model.route.members()[member].target;
        let may = target.closed_for(self.asked, until).is_none();
        (may && until < self.deadline && until <= now + self.patience.max(LONGEST_AGAIN)).then_some(until)
    }

    /// Nobody else is left: when the member that failed last may be asked once more, if it failed fast and is still
    /// usable.
    pub(super) fn same_again(&mut self, model_request: &ModelRequest, now: Tick) -> Option<Tick> {
        let (member, retry_after) = self.fast.take()?;
        let until = self.when_again(model_request, member, retry_after, now)?;
        self.tried.retain(|tried| *tried != member);
        Some(until)
    }

    /// Until when to wait for a target, if that is allowed. A throttled member that has opened again
    /// meanwhile needs no waiting, but not for ever: the rounds are bounded like attempts.
    /// The queue is bounded, too, and its last places are for the more urgent classes.
    pub(super) fn wait_until(
        &self,
        none: NoneReady,
        model_request: &ModelRequest,
        facts: &Facts,
        now: Tick,
    ) -> Option<(Tick, Option<Place>)> {
        let rules = &model_request.pool.config.retry;
        let soonest = none.soonest.filter(|_| self.releases < rules.max_attempts)?;
        if soonest > now + self.patience || soonest >= self.deadline {
            return None;
        }
        // One that is open again already needs no place.
        let place = if soonest > now { Some(model_request.pool.waiting.enter(rules.queue, facts.class(), facts.owner())?) } else { None };
        Some((soonest, place))
    }

    /// A wait that began at `from` and was to last until `until` is over: throttled members may be
    /// tried again.
    pub(super) fn release(&mut self, until: Tick, from: Tick) {
        self.patience = self.patience.saturating_sub(until.since(from));
        self.releases += 1;
        let throttled = std::mem::take(&mut self.throttled);
        self.tried.retain(|index| !throttled.contains(index));
    }

    /// What to tell the caller when nobody is left.
    pub(super) fn refusal(&self, model: &str, none: Option<NoneReady>, now: Tick) -> Refusal {
        let model = model.to_owned();
        let retry_after = none.and_then(|none| none.soonest).map(|soonest| soonest.since(now));
        match (self.last_failure, none) {
            (Some(_), _) if self.last_timed_out => Refusal::UpstreamTimeout { model, retry_after },
            (Some(last), _) => Refusal::UpstreamFailed { model, last, retry_after, upstream: self.upstream.clone() },
            (None, Some(none)) if none.fenced_off => Refusal::LocationNotAllowed { model },
            (None, Some(none)) if none.all_throttled || (self.too_long && none.soonest.is_some()) => {
                Refusal::AllThrottled { model, retry_after }
            }
            (None, None) if now >= self.deadline => Refusal::UpstreamTimeout { model, retry_after },
            _ => Refusal::NoneAvailable { model, retry_after },
        }
    }
}

/// Milliseconds after which a member that failed fast is asked once more.
const AGAIN: (u64, u64) = (100, 500);
/// Longest Retry-After that is waited out for that, where the pool doesn't allow a longer wait.
const LONGEST_AGAIN: Duration = Duration::from_secs(1);

/// A slot of this very member, for the request that it was asked before.
pub(super) fn pick_again(model_request: &ModelRequest, retry_state: &mut RetryState, member: usize, now: Tick) -> Option<Pick> {
    let lease = model_request.model.route.members()[member].target.acquire(retry_state.asked, now)?;
    retry_state.tried.retain(|tried| *tried != member);
    Some(Pick { index: member, lease })
}

/// Most that is remembered of whom a request passed over.
const PASSED_OVER: usize = 64;

/// Asks the selector, and notes whom it passed over.
pub(super) fn pick(
    model_request: &ModelRequest,
    facts: &Facts,
    made: &mut Attempts,
    retry_state: &RetryState,
    now: Tick,
) -> Result<Pick, NoneReady> {
    let fence = facts.consumer().and_then(|consumer| consumer.rights.locations.as_deref());
    let request = PickRequest {
        excluded: if retry_state.unsealed { model_request.model.excluded(model_request.api) } else { model_request.excluded() },
        tried: &retry_state.tried,
        throttled: &retry_state.throttled,
        fence,
        affinity_key: model_request.affinity_key,
        asked: retry_state.asked,
    };
    let route = &model_request.model.route;
    let picked = crate::random::with_rng(|rng| route.pick(&request, now, rng));
    // A request that waits asks again and again: what it passes over is noted once, and anew after each attempt.
    let attempts = made.made.len() + 1;
    if made.noted < attempts && made.passed_over.len() < PASSED_OVER {
        let passed_over = route.passed_over(&request, picked.as_ref().ok().map(|pick| pick.index), now);
        made.passed_over.extend(passed_over);
        made.noted = attempts;
    }
    picked
}

#[cfg(test)]
mod tests;
