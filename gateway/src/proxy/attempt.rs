//! One attempt at one target: its slot, what is known of it, and how it is written down.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::{Credentials, RateSignal};
use tracing::{info, warn};

use super::attempt_state::AttemptState;
use super::books::Books;
use super::exchange::Broken;
use super::retry_state::RetryState;
use super::{metering, traced};
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::route::Pick;
use crate::balance::target::{Change, Lease, OutageReason, Outcome};
use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::request::{AttemptRecord, Attempts, End, Facts, ModelRequest, RequestBody};

/// What one attempt led to.
pub(super) enum AttemptEnd {
    /// The request is over.
    Over(End),
    /// On to another target: it was throttled there.
    Throttled,
    /// On to another target: it failed there.
    Failed,
    /// On to another target, without a word on this one.
    Elsewhere,
}

/// Whether an upstream's status says that time ran out there.
pub(super) fn is_timeout(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 504)
}

impl AttemptState {
    /// Takes a pick up: from here on its member counts as tried.
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
            sent: false,
            filtered: false,
            said: None,
        }
    }

    /// Tells its target how it went, and the operator if that changed anything.
    pub(super) fn record(&mut self, gateway: &Gateway, model_request: &ModelRequest, outcome: Outcome) {
        // What a file or batch does says nothing about a deployment.
        if model_request.object.is_none() {
            record(gateway, model_request, self.member, &mut self.lease, outcome);
        }
    }

    /// What a delivered answer that is no success says about its target. A 4xx is the caller's fault,
    /// whatever the circuit's statuses are; a 429 throttles even where it may not go elsewhere.
    pub(super) fn refusal(&self, body: &RequestBody, model_request: &ModelRequest, status: http::StatusCode) -> Outcome {
        let retry_after = self.signal.retry_after;
        match status.as_u16() {
            429 => self.throttle(body, model_request),
            408 | 500..=599 => Outcome::Failed { failure: Failure::Status(status), retry_after },
            _ => Outcome::CallerFault,
        }
    }

    /// What a 429 says about its target. One for a request that alone needs more tokens than the target says it gives in
    /// a minute says nothing about others.
    pub(super) fn throttle(&self, body: &RequestBody, model_request: &ModelRequest) -> Outcome {
        let input = match body.input_bound {
            // Files are no text, and may be as many tokens.
            _ if model_request.api.is_multipart() => body.bytes as u64 / 4,
            known => known.unwrap_or(body.bytes as u64 / 4),
        };
        // One without a cap may be as small as any.
        let cap = model_request.fields.completion_cap(model_request.api, 0);
        let needs = input.saturating_add(cap);
        let is_too_large = self.signal.tokens.limit.is_some_and(|limit| needs > limit);
        if is_too_large { Outcome::TooLarge } else { Outcome::Throttled { retry_after: self.signal.refused_for() } }
    }

    /// Writes it down, in the metrics, for the access log and, if it may have cost something, in the ledger.
    /// Its slot is given back when what this returns is dropped.
    pub(super) fn finish(self, gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, outcome: AttemptOutcome) -> Lease {
        metering::book_attempt(gateway, books, model_request, &self, outcome);
        let took = gateway.clock.now().since(self.began);
        let status = self.status.map(|status| status.as_u16());
        let target = Arc::clone(self.lease.target());
        let AttemptState { member, began, waited, span, said, lease, .. } = self;
        note(books, model_request, AttemptRecord { target, member, outcome, status, began, took, waited, span, said, stale: false });
        lease
    }
}

/// One attempt of the attempt loop.
pub(super) struct Attempt<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) model_request: &'g ModelRequest,
    /// Whose credentials its target sees.
    pub(super) credentials: Credentials,
    /// We asked for the usage of its stream, and the caller didn't.
    pub(super) asked_usage: bool,
    /// Its target has refused to be asked for it.
    pub(super) refused_usage: bool,
    /// The rest of a response is asked for, by this path and query.
    pub(super) resumes: Option<(String, String)>,
    pub(super) running: AttemptState,
}

impl<'g> Attempt<'g> {
    /// Takes a pick up: from here on its member counts as tried.
    pub(super) fn begin(
        gateway: &'g Gateway,
        facts: &Facts,
        attempts: &Attempts,
        model_request: &'g ModelRequest,
        retry_state: &mut RetryState,
        pick: Pick,
    ) -> Self {
        let running = AttemptState::begin(facts, attempts, model_request, retry_state, pick, gateway.clock.now());
        Attempt {
            gateway,
            model_request,
            credentials: Credentials::default(),
            asked_usage: false,
            refused_usage: false,
            resumes: None,
            running,
        }
    }

    /// Notes that the request was written to a connection that was closed already. No outcome: the same attempt goes on.
    pub(super) fn note_stale(&mut self, facts: &Facts, attempts: &mut Attempts) {
        self.note_part(facts, attempts, AttemptOutcome::Broken(ErrorKind::Reset), None, true);
    }

    /// Notes that its stream broke, and that the same answer is read on.
    pub(super) fn note_broken(&mut self, facts: &Facts, attempts: &mut Attempts, outcome: AttemptOutcome) {
        let status = self.running.status.map(|status| status.as_u16());
        self.note_part(facts, attempts, outcome, status, false);
    }

    fn note_part(&mut self, facts: &Facts, attempts: &mut Attempts, outcome: AttemptOutcome, status: Option<u16>, stale: bool) {
        let AttemptState { member, began, waited, span, .. } = self.running;
        let (target, now) = (Arc::clone(self.running.lease.target()), self.gateway.clock.now());
        let took = now.since(began);
        attempts.made.push(AttemptRecord { target, member, outcome, status, began, took, waited, span, said: None, stale });
        self.running.began = now;
        self.running.waited = Duration::ZERO;
        self.running.span = traced::attempt(facts);
    }

    /// Tells the target how it went.
    pub(super) fn record(&mut self, outcome: Outcome) {
        self.running.record(self.gateway, self.model_request, outcome);
    }

    /// Writes it down; its slot is given back when what this returns is dropped.
    pub(super) fn finish(self, books: &mut Books<'_>, outcome: AttemptOutcome) -> Lease {
        self.running.finish(self.gateway, books, self.model_request, outcome)
    }

    pub(super) fn throttled(mut self, books: &mut Books<'_>, retry_state: &mut RetryState) -> AttemptEnd {
        self.record(self.running.throttle(books.body, self.model_request));
        retry_state.throttled.push(self.running.member);
        retry_state.last_word = None;
        retry_state.limited = Some((self.running.member, self.running.signal.refused_for()));
        self.finish(books, AttemptOutcome::Throttled);
        AttemptEnd::Throttled
    }

    /// The member's own fault, like a throttle: the request moves on without using up a retry.
    pub(super) fn out(mut self, books: &mut Books<'_>, reason: OutageReason) -> AttemptEnd {
        self.record(Outcome::Out(reason));
        self.finish(books, if reason == OutageReason::OutOfQuota { AttemptOutcome::OutOfQuota } else { AttemptOutcome::Misconfigured });
        AttemptEnd::Elsewhere
    }

    /// The prompt is too long for the window there, and there are larger ones.
    pub(super) fn too_long(mut self, books: &mut Books<'_>, retry_state: &mut RetryState) -> AttemptEnd {
        retry_state.too_long = true;
        self.record(Outcome::CallerFault);
        self.finish(books, AttemptOutcome::CallerFault);
        AttemptEnd::Elsewhere
    }

    /// There is nothing to prove our identity with there: says nothing about the target.
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
        self.record(Outcome::Failed { failure, retry_after: self.running.signal.retry_after });
        retry_state.failed(label, timed_out);
        retry_state.last_word = None;
        retry_state.upstream = self.running.said.clone().map(|said| (self.running.status.map(|status| status.as_u16()), said));
        // A certificate doesn't get better.
        let again = !timed_out && failure != Failure::Error(ErrorKind::Tls) && !self.model_request.is_pinned();
        retry_state.fast = again.then_some((self.running.member, self.running.signal.retry_after));
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
                // The request's own time is over, which says nothing about this target.
                retry_state.failed(AttemptOutcome::Broken(ErrorKind::Timeout), true);
                self.finish(books, AttemptOutcome::Broken(ErrorKind::Timeout));
                return AttemptEnd::Failed;
            }
            Broken::Upstream(kind) => kind,
            Broken::Stale => ErrorKind::Reset,
            Broken::TimedOut if self.model_request.fields.stream => ErrorKind::FirstToken,
            Broken::TimedOut => ErrorKind::Timeout,
        };
        self.failed(books, retry_state, Failure::Error(kind), AttemptOutcome::Broken(kind), kind.is_timeout())
    }
}

/// Counts a request that leaves the member of its last attempt for another.
fn note_failover(attempts: &Attempts, model_request: &ModelRequest) {
    if let Some(left) = attempts.made.last() {
        model_request.model.metrics[left.member].failovers.inc();
    }
}

/// Writes an attempt down, in the metrics and for the access log.
fn note(books: &mut Books<'_>, model_request: &ModelRequest, attempt: AttemptRecord) {
    let metrics = &model_request.model.metrics[attempt.member];
    metrics.count(attempt.outcome);
    if attempt.outcome.is_served() {
        metrics.served.inc();
    }
    books.attempts.made.push(attempt);
}

/// Tells a target how an attempt went, and the operator if that changed anything.
fn record(gateway: &Gateway, model_request: &ModelRequest, member: usize, lease: &mut Lease, outcome: Outcome) {
    let change = lease.record(outcome, &model_request.pool.config.circuit, gateway.clock.now());
    let target = &lease.target().id;
    let pool = &model_request.pool.config.name;
    match change {
        Change::None | Change::ThrottledForOne => {}
        Change::Throttled(wait) => model_request.model.metrics[member].throttled_seconds.inc_by(wait.as_secs_f64()),
        Change::Tripped => warn!(%target, %pool, ?outcome, "circuit opened"),
        Change::TrippedForOne => info!(%target, %pool, ?outcome, "circuit opened for the one consumer that met the failures"),
        Change::OutForOne(reason) => {
            info!(%target, %pool, ?reason, "refused one consumer: taken out for that consumer until a probe succeeds")
        }
        Change::Recovered => info!(%target, %pool, "recovered"),
        Change::Out(OutageReason::OutOfQuota) => warn!(%target, %pool, "out of quota: taken out until a probe succeeds"),
        Change::Out(OutageReason::Misconfigured) => {
            warn!(%target, %pool, "refuses our credentials or doesn't know the deployment: taken out until a probe succeeds");
        }
    }
}

#[cfg(test)]
mod tests;
