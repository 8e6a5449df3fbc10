//! One attempt at one target: its slot, its state, and its record.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::{Credentials, RateSignal, ThrottleScope};
use spillway_plugins::service_tier::ServiceTier;
use tracing::{info, warn};

use super::attempt_state::AttemptState;
use super::books::Books;
use super::exchange::Broken;
use super::retry_state::RetryState;
use super::{metering, spillover, traced};
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::provisioned::Booking;
use crate::balance::ptu::load::Used;
use crate::balance::route::Pick;
use crate::balance::target::{Change, Lease, OutageReason, Outcome};
use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::request::{AttemptRecord, Attempts, End, Facts, ModelRequest, RequestBody};

/// How one attempt ended.
pub(super) enum AttemptEnd {
    /// The request has ended.
    Over(End),
    /// The target throttled it: try another one.
    Throttled,
    /// The attempt failed: try another target.
    Failed,
    /// It failed, but nothing was sent: try another target.
    Unreached,
    /// Try another target. This says nothing about the present one.
    Elsewhere,
}

/// Whether an upstream's status means a timeout: its own, a gateway's, or that of a network's front.
pub(super) fn is_timeout(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 504 | 522 | 524)
}

impl AttemptState {
    /// Starts an attempt. From here on its member counts as tried.
    pub(super) fn begin(
        facts: &Facts,
        attempts: &Attempts,
        model_request: &ModelRequest,
        retry_state: &mut RetryState,
        pick: Pick,
        now: Tick,
    ) -> Self {
        retry_state.tried.push(pick.index);
        note_failover(attempts, model_request);
        AttemptState {
            lease: pick.lease,
            member: pick.index,
            began: now,
            waited: std::mem::take(&mut retry_state.waited),
            span: traced::attempt(facts),
            status: None,
            signal: RateSignal::default(),
            scope: ThrottleScope::default(),
            spilled_to: None,
            sent: false,
            filtered: false,
            said: None,
            ptu_percent: pick.booking.as_ref().and_then(Booking::percent_full),
            booking: pick.booking,
        }
    }

    /// Reports the outcome to the target, and logs it if the target's state changed.
    pub(super) fn record(&mut self, model_request: &ModelRequest, outcome: Outcome, now: Tick) {
        // A request for a file or a batch says nothing about a deployment.
        if model_request.object.is_none() {
            if let Some(booking) = &mut self.booking {
                match outcome {
                    // The backend refused it there, and had another deployment serve it.
                    Outcome::Success { .. } if self.spilled_to.is_some() => booking.refused(None, now),
                    Outcome::Success { .. } => booking.accepted(now),
                    Outcome::Throttled { retry_after, .. } => {
                        let longest = model_request.pool.config.circuit.max_retry_after;
                        booking.refused(retry_after.map(|wait| wait.min(longest)), now);
                    }
                    _ => booking.answered(),
                }
            }
            record(model_request, self.member, &mut self.lease, outcome, now);
        }
    }

    /// What a delivered error says about its target. A 4xx is the caller's fault, whatever statuses the circuit counts.
    /// A 429 throttles the target even if the request may not go to another one.
    pub(super) fn refusal(&self, body: &RequestBody, model_request: &ModelRequest, status: http::StatusCode) -> Outcome {
        let retry_after = self.signal.retry_after;
        match status.as_u16() {
            429 => self.throttle(body, model_request),
            408 | 500..=599 => Outcome::Failed { failure: Failure::Status(status), retry_after },
            _ => Outcome::CallerFault,
        }
    }

    /// What a 429 says about its target. If this request alone needs more tokens than the target's limit per minute, it
    /// says nothing about other requests.
    pub(super) fn throttle(&self, body: &RequestBody, model_request: &ModelRequest) -> Outcome {
        let input = match body.input_bound {
            // Files are not text: their tokens are estimated from their size.
            _ if model_request.api.is_multipart() => body.bytes as u64 / 4,
            known => known.unwrap_or(body.bytes as u64 / 4),
        };
        // A request without a cap may use very few tokens.
        let cap = model_request.fields.completion_cap(model_request.api, 0);
        let needs = input.saturating_add(cap);
        let is_too_large = self.signal.tokens.limit.is_some_and(|limit| needs > limit);
        if is_too_large { Outcome::TooLarge } else { Outcome::Throttled { retry_after: self.signal.refused_for(), scope: self.scope } }
    }

    /// What it took of its target's provisioned throughput: nothing if it was refused or not sent. `None` if that isn't
    /// known.
    fn used(&self, books: &Books<'_>) -> Option<Used> {
        let nothing = Used { prompt: 0, cached: 0, output: 0 };
        match books.metering.usage {
            Some(metered) => {
                let usage = metered.usage;
                Some(Used { prompt: usage.input, cached: usage.cached_input, output: usage.output })
            }
            None if !self.sent || self.status.is_some_and(|status| !status.is_success()) => Some(nothing),
            None => None,
        }
    }

    /// Records the attempt in the metrics, for the access log and, if it may have cost something, in the ledger. The
    /// slot is given back when the returned lease is dropped.
    pub(super) fn finish(
        mut self,
        gateway: &Gateway,
        books: &mut Books<'_>,
        model_request: &ModelRequest,
        outcome: AttemptOutcome,
    ) -> Lease {
        let now = gateway.clock.now();
        if let Some(booking) = self.booking.take() {
            booking.settle(self.used(books), now);
        }
        metering::book_attempt(gateway, books, model_request, &self, outcome);
        let retry_after = match outcome {
            AttemptOutcome::Throttled => self.signal.refused_for(),
            outcome if outcome.is_served() => self.signal.exhausted_for(),
            _ => self.signal.retry_after,
        };
        let said = self.said.take();
        let record = AttemptRecord { said, retry_after, scope: self.scope, ..self.so_far(outcome, now) };
        note(books, model_request, record);
        self.lease
    }

    /// Its record if it ends now, without what the backend said.
    fn so_far(&self, outcome: AttemptOutcome, now: Tick) -> AttemptRecord {
        AttemptRecord {
            target: Arc::clone(self.lease.target()),
            member: self.member,
            served_by: spillover::served_by(self),
            ptu_percent: self.ptu_percent,
            outcome,
            status: self.status.map(|status| status.as_u16()),
            began: self.began,
            took: now.since(self.began),
            waited: self.waited,
            span: self.span,
            said: None,
            stale: false,
            retry_after: None,
            scope: ThrottleScope::default(),
        }
    }
}

/// One attempt of the retry loop.
pub(super) struct Attempt<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) model_request: &'g ModelRequest,
    /// Whose credentials the target sees.
    pub(super) credentials: Credentials,
    /// The gateway asked for the usage of the stream, and the caller didn't.
    pub(super) asked_usage: bool,
    /// The target has refused to report the usage of streams.
    pub(super) refused_usage: bool,
    /// Path and query of the rest of a response, if that is what it asks for.
    pub(super) resumes: Option<(String, String)>,
    /// When the head of the answer was there, or the attempt began.
    pub(super) heard: Tick,
    pub(super) state: AttemptState,
}

impl<'g> Attempt<'g> {
    /// Starts an attempt. From here on its member counts as tried.
    pub(super) fn begin(
        gateway: &'g Gateway,
        facts: &Facts,
        attempts: &Attempts,
        model_request: &'g ModelRequest,
        retry_state: &mut RetryState,
        pick: Pick,
        now: Tick,
    ) -> Self {
        let state = AttemptState::begin(facts, attempts, model_request, retry_state, pick, now);
        Attempt {
            gateway,
            model_request,
            credentials: Credentials::default(),
            asked_usage: false,
            refused_usage: false,
            resumes: None,
            heard: now,
            state,
        }
    }

    /// Records that the request was written to a connection that was already closed. This is no outcome: the same
    /// attempt continues.
    pub(super) fn note_stale(&mut self, facts: &Facts, attempts: &mut Attempts) {
        self.note_part(facts, attempts, AttemptOutcome::Broken(ErrorKind::Reset), None, true);
    }

    /// Records that the stream broke, and that the rest of the same answer is read.
    pub(super) fn note_broken(&mut self, facts: &Facts, attempts: &mut Attempts, outcome: AttemptOutcome) {
        let status = self.state.status.map(|status| status.as_u16());
        self.note_part(facts, attempts, outcome, status, false);
    }

    fn note_part(&mut self, facts: &Facts, attempts: &mut Attempts, outcome: AttemptOutcome, status: Option<u16>, stale: bool) {
        let now = self.gateway.clock.now();
        attempts.records.push(AttemptRecord { status, stale, ..self.state.so_far(outcome, now) });
        self.state.began = now;
        self.state.waited = Duration::ZERO;
        self.state.span = traced::attempt(facts);
    }

    /// Reports the outcome to the target.
    pub(super) fn record(&mut self, outcome: Outcome) {
        self.record_at(outcome, self.gateway.clock.now());
    }

    /// As [`Attempt::record`], at a time that the caller knows.
    pub(super) fn record_at(&mut self, outcome: Outcome, now: Tick) {
        self.state.record(self.model_request, outcome, now);
    }

    /// Records the attempt. The slot is given back when the returned lease is dropped.
    pub(super) fn finish(self, books: &mut Books<'_>, outcome: AttemptOutcome) -> Lease {
        self.state.finish(self.gateway, books, self.model_request, outcome)
    }

    pub(super) fn throttled(mut self, books: &mut Books<'_>, retry_state: &mut RetryState) -> AttemptEnd {
        self.record(self.state.throttle(books.body, self.model_request));
        retry_state.throttled.push(self.state.member);
        retry_state.last_refusal = None;
        retry_state.limited = Some((self.state.member, self.state.signal.refused_for()));
        self.finish(books, AttemptOutcome::Throttled);
        AttemptEnd::Throttled
    }

    /// Whether the request is sent in the tier `flex`.
    pub(super) fn asks_for_flex(&self) -> bool {
        self.model_request.service_tier_at(self.state.member) == Some(ServiceTier::Flex)
    }

    /// Whether its service tier is the caller's choice: then the caller may see its refusal.
    pub(super) fn is_callers_tier(&self) -> bool {
        self.model_request.own_tier_of(self.state.member).is_none()
    }

    /// There is no capacity for the tier `flex` now. This says nothing about the target in other tiers, so it is neither
    /// throttled nor at fault, and the request tries the next member at once.
    pub(super) fn no_flex(self, books: &mut Books<'_>, retry_state: &mut RetryState) -> AttemptEnd {
        retry_state.no_flex = true;
        self.finish(books, AttemptOutcome::FlexUnavailable);
        AttemptEnd::Elsewhere
    }

    /// The member itself is at fault, as with a throttle: the request tries another one without using up a retry.
    pub(super) fn out(mut self, books: &mut Books<'_>, reason: OutageReason) -> AttemptEnd {
        self.record(Outcome::Out(reason));
        self.finish(books, if reason == OutageReason::OutOfQuota { AttemptOutcome::OutOfQuota } else { AttemptOutcome::Misconfigured });
        AttemptEnd::Elsewhere
    }

    /// The prompt is too long for this member's context window, and there are members with a larger one.
    pub(super) fn too_long(mut self, books: &mut Books<'_>, retry_state: &mut RetryState) -> AttemptEnd {
        retry_state.too_long = true;
        self.record(Outcome::CallerFault);
        self.finish(books, AttemptOutcome::CallerFault);
        AttemptEnd::Elsewhere
    }

    /// The gateway has no credential for this backend. This says nothing about the target.
    pub(super) fn no_credential(self, books: &mut Books<'_>) -> AttemptEnd {
        self.finish(books, AttemptOutcome::NoCredential);
        AttemptEnd::Elsewhere
    }

    pub(super) fn failed(
        mut self,
        books: &mut Books<'_>,
        retry_state: &mut RetryState,
        failure: Failure,
        label: AttemptOutcome,
        timed_out: bool,
    ) -> AttemptEnd {
        self.record(Outcome::Failed { failure, retry_after: self.state.signal.retry_after });
        retry_state.failed(label, timed_out);
        retry_state.last_refusal = None;
        retry_state.upstream = self.state.said.clone().map(|said| (self.state.status.map(|status| status.as_u16()), said));
        // A bad certificate is still bad a moment later.
        let again = !timed_out && failure != Failure::Error(ErrorKind::Tls) && !self.model_request.is_pinned();
        retry_state.fast = again.then_some((self.state.member, self.state.signal.retry_after));
        self.finish(books, label);
        AttemptEnd::Failed
    }

    pub(super) fn broke(self, books: &mut Books<'_>, retry_state: &mut RetryState, broken: Broken) -> AttemptEnd {
        let kind = match broken {
            Broken::CallerLeft => {
                self.finish(books, AttemptOutcome::Cancelled);
                return AttemptEnd::Over(End::CallerLeft);
            }
            Broken::TimedOut if self.gateway.clock.now() >= retry_state.deadline => {
                // The request's own deadline is over, which says nothing about this target.
                retry_state.failed(AttemptOutcome::Broken(ErrorKind::Timeout), true);
                self.finish(books, AttemptOutcome::Broken(ErrorKind::Timeout));
                return AttemptEnd::Failed;
            }
            Broken::Upstream(kind) | Broken::Unreached(kind) => kind,
            Broken::Stale => ErrorKind::Reset,
            Broken::TimedOut if self.model_request.fields.stream => ErrorKind::FirstToken,
            Broken::TimedOut => ErrorKind::Timeout,
        };
        let end = self.failed(books, retry_state, Failure::Error(kind), AttemptOutcome::Broken(kind), kind.is_timeout());
        if matches!(broken, Broken::Unreached(_)) { AttemptEnd::Unreached } else { end }
    }
}

/// Counts a failover: the request goes from the member of its last attempt to another one.
fn note_failover(attempts: &Attempts, model_request: &ModelRequest) {
    if let Some(left) = attempts.records.last() {
        model_request.model.members[left.member].metrics.failovers.inc();
    }
}

/// Records an attempt in the metrics and for the access log.
fn note(books: &mut Books<'_>, model_request: &ModelRequest, attempt: AttemptRecord) {
    let metrics = &model_request.model.members[attempt.member].metrics;
    metrics.count(attempt.outcome);
    if attempt.outcome.is_served() {
        metrics.served.inc();
        model_request.model.durations.add(attempt.took);
    }
    books.attempts.records.push(attempt);
}

/// Reports an attempt's outcome to its target, and logs it if the target's state changed.
fn record(model_request: &ModelRequest, member: usize, lease: &mut Lease, outcome: Outcome, now: Tick) {
    let change = lease.record(outcome, &model_request.pool.config.circuit, now);
    let target = &lease.target().id;
    let pool = &model_request.pool.config.name;
    match change {
        Change::None | Change::ThrottledForOne => {}
        Change::Throttled(wait) => model_request.model.members[member].metrics.throttled_seconds.inc_by(wait.as_secs_f64()),
        Change::Tripped => warn!(%target, %pool, ?outcome, "circuit opened"),
        Change::TrippedForOne => info!(%target, %pool, ?outcome, "circuit opened for the one consumer whose requests failed"),
        Change::OutForOne(reason) => {
            info!(%target, %pool, ?reason, "refused one consumer: not used for that consumer until a probe succeeds")
        }
        Change::Recovered => info!(%target, %pool, "recovered"),
        Change::Out(OutageReason::OutOfQuota) => warn!(%target, %pool, "out of quota: not used until a probe succeeds"),
        Change::Out(OutageReason::Misconfigured) => {
            warn!(%target, %pool, "refuses our credentials or doesn't know the deployment: not used until a probe succeeds");
        }
    }
}

#[cfg(test)]
mod tests;
