//! One attempt: how it is written down, and what its target hears.

use http::StatusCode;
use spillway_plugins::api::Api;

use super::*;
use crate::balance::target::Unavailable;
use crate::proxy::ctx::RequestCtx;
use crate::proxy::fixtures::{self, CHAT, STREAM, context, facts, gateway, metric, retry_state};

const TARGET: &str = "backend=\"a\",deployment=\"m\"";

/// What an attempt leaves behind after it ended like this.
struct Left {
    gateway: Gateway,
    ctx: RequestCtx,
    asked: ModelRequest,
    state: RetryState,
    end: AttemptEnd,
}

fn fail_over(text: &str, end: impl FnOnce(Attempt<'_>, &mut Books<'_>, &mut RetryState) -> AttemptEnd) -> Left {
    let gateway = gateway("");
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, text);
    let asked = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &asked);
    state.waited = Duration::from_millis(5);
    state.last_refusal = Some(Box::new((pingora::http::ResponseHeader::build(404, None).unwrap(), bytes::Bytes::new())));
    let attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    gateway.clock.pass(Duration::from_millis(20));
    let end = end(attempt, &mut ctx.books(), &mut state);
    Left { gateway, ctx, asked: *asked, state, end }
}

impl Left {
    /// The outcome, the status, and how long it took, in milliseconds.
    fn record(&self) -> (&'static str, Option<u16>, u128) {
        let [made] = &self.ctx.attempts.records[..] else { panic!("one attempt was made") };
        assert_eq!((made.member, made.waited, made.stale), (0, Duration::from_millis(5), false));
        (made.outcome.label(), made.status, made.took.as_millis())
    }

    fn closed(&self) -> Option<Unavailable> {
        let target = &self.asked.model.route.members()[0].target;
        assert_eq!(target.in_flight(), 0, "its slot is free");
        target.closed_for(self.state.key, self.gateway.clock.now())
    }
}

#[test]
fn a_throttle_closes_its_target_for_as_long_as_it_says() {
    let left = fail_over(CHAT, |mut attempt, books, state| {
        attempt.state.status = Some(StatusCode::TOO_MANY_REQUESTS);
        attempt.state.signal.retry_after = Some(Duration::from_secs(7));
        attempt.throttled(books, state)
    });
    assert!(matches!(left.end, AttemptEnd::Throttled));
    assert_eq!(left.record(), ("throttled", Some(429), 20));
    assert_eq!((&left.state.tried[..], &left.state.throttled[..]), (&[0][..], &[0][..]));
    assert_eq!((left.state.limited, left.state.last_refusal.is_none()), (Some((0, Some(Duration::from_secs(7)))), true));
    assert_eq!(left.closed(), Some(Unavailable::Throttled(left.gateway.clock.now() + Duration::from_secs(7))));
    assert!(!left.state.has_failed());
    assert_eq!(metric(&left.gateway, &format!("spillway_attempts_total{{{TARGET},outcome=\"throttled\",pool=\"pool\"}}")), 1.0);
}

#[test]
fn a_request_that_is_too_large_alone_says_nothing_of_others() {
    let left = fail_over(CHAT, |mut attempt, books, state| {
        attempt.state.status = Some(StatusCode::TOO_MANY_REQUESTS);
        attempt.state.signal.tokens.limit = Some(3);
        books.body.input_bound = Some(4);
        attempt.throttled(books, state)
    });
    assert_eq!(left.closed(), None);
}

#[test]
fn what_an_operator_must_mend_takes_its_target_out() {
    for (reason, label) in [(OutageReason::OutOfQuota, "out_of_quota"), (OutageReason::Misconfigured, "misconfigured")] {
        let left = fail_over(CHAT, |attempt, books, _| attempt.out(books, reason));
        assert!(matches!((&left.end, left.closed()), (AttemptEnd::Elsewhere, Some(Unavailable::Out(..)))), "{label}");
        assert_eq!((left.record().0, left.state.failures, left.state.last_refusal.is_some()), (label, 0, true));
    }
}

#[test]
fn what_says_nothing_of_its_target_leaves_it_as_it_was() {
    let left = fail_over(CHAT, |attempt, books, state| attempt.too_long(books, state));
    assert_eq!((left.record().0, left.closed(), left.state.too_long), ("caller_fault", None, true));
    assert!(matches!(left.end, AttemptEnd::Elsewhere));
    let left = fail_over(CHAT, |attempt, books, _| attempt.no_credential(books));
    assert_eq!((left.record().0, left.closed()), ("no_credential", None));
    let left = fail_over(CHAT, |attempt, books, state| attempt.broke(books, state, Broken::CallerLeft));
    assert_eq!((left.record().0, left.closed(), left.state.has_failed()), ("cancelled", None, false));
    assert!(matches!(left.end, AttemptEnd::Over(End::CallerLeft)));
}

#[test]
fn a_failure_is_remembered_with_what_its_upstream_said() {
    let left = fail_over(CHAT, |mut attempt, books, state| {
        attempt.state.status = Some(StatusCode::INTERNAL_SERVER_ERROR);
        attempt.state.said = Some("on fire".into());
        attempt.state.signal.retry_after = Some(Duration::from_secs(1));
        attempt.failed(books, state, Failure::Status(StatusCode::INTERNAL_SERVER_ERROR), AttemptOutcome::Failed, false)
    });
    assert!(matches!(left.end, AttemptEnd::Failed));
    assert_eq!((left.record(), left.state.upstream.clone()), (("failed", Some(500), 20), Some((Some(500), "on fire".into()))));
    assert_eq!(
        (left.state.fast, left.state.last_refusal.is_none(), left.state.has_failed()),
        (Some((0, Some(Duration::from_secs(1)))), true, true)
    );
}

#[test]
fn a_member_that_ran_out_of_time_or_has_a_bad_certificate_is_not_asked_again_at_once() {
    for (text, broken, label, fast) in [
        (CHAT, Broken::Upstream(ErrorKind::Reset), "reset", true),
        (CHAT, Broken::Upstream(ErrorKind::Connect), "connect", true),
        (CHAT, Broken::Unreached(ErrorKind::Connect), "connect", true),
        (CHAT, Broken::Unreached(ErrorKind::Tls), "tls", false),
        (CHAT, Broken::Stale, "reset", true),
        (CHAT, Broken::TimedOut, "timeout", false),
        (STREAM, Broken::TimedOut, "first_token", false),
    ] {
        let left = fail_over(text, |attempt, books, state| attempt.broke(books, state, broken));
        match broken {
            Broken::Unreached(_) => assert!(matches!(left.end, AttemptEnd::Unreached)),
            _ => assert!(matches!(left.end, AttemptEnd::Failed)),
        }
        assert_eq!((left.record().0, left.state.fast.is_some()), (label, fast), "{broken:?}");
    }
}

#[test]
fn a_request_whose_own_time_is_over_says_nothing_of_its_target() {
    let left = fail_over(CHAT, |attempt, books, state| {
        attempt.gateway.clock.pass(Duration::from_secs(3600));
        attempt.broke(books, state, Broken::TimedOut)
    });
    assert_eq!((left.record().0, left.closed(), left.state.fast), ("timeout", None, None));
    assert!(matches!(left.state.refusal("m", None, left.gateway.clock.now()), crate::proxy::refusal::Refusal::UpstreamTimeout { .. }));
}

#[test]
fn a_refusal_that_is_delivered_is_its_callers_fault_or_its_targets() {
    let gateway = gateway("");
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &asked);
    let attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    let refusal = |status: u16| attempt.state.refusal(&ctx.body, &asked, StatusCode::from_u16(status).unwrap());
    assert_eq!([400, 404, 422].map(refusal), [Outcome::CallerFault; 3]);
    assert_eq!(refusal(429), Outcome::Throttled { retry_after: None, scope: ThrottleScope::Quota });
    for status in [408, 500, 503] {
        let failure = Failure::Status(StatusCode::from_u16(status).unwrap());
        assert_eq!(refusal(status), Outcome::Failed { failure, retry_after: None });
    }
    assert!([408, 504].map(|status| is_timeout(StatusCode::from_u16(status).unwrap())).iter().all(|is| *is));
    assert!(!is_timeout(StatusCode::BAD_GATEWAY));
}

#[test]
fn a_part_of_an_attempt_is_noted_and_the_rest_is_measured_from_there() {
    let gateway = gateway("");
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &asked);
    let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    gateway.clock.pass(Duration::from_millis(3));
    attempt.note_stale(&ctx.facts, &mut ctx.attempts);
    gateway.clock.pass(Duration::from_millis(4));
    attempt.state.status = Some(StatusCode::OK);
    attempt.note_broken(&ctx.facts, &mut ctx.attempts, AttemptOutcome::Broken(ErrorKind::Reset));
    let made: Vec<_> = ctx.attempts.records.iter().map(|made| (made.stale, made.status, made.took.as_millis())).collect();
    assert_eq!((made, attempt.state.began), (vec![(true, None, 3), (false, Some(200), 4)], gateway.clock.now()));
}

#[test]
fn a_request_that_leaves_a_member_for_another_is_counted_there() {
    let Left { gateway, mut ctx, asked, mut state, .. } = fail_over(CHAT, |attempt, books, state| attempt.throttled(books, state));
    let failovers = format!("spillway_failovers_total{{{TARGET},pool=\"pool\"}}");
    assert_eq!(metric(&gateway, &failovers), 0.0);
    let next = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    assert_eq!((next.state.member, metric(&gateway, &failovers)), (1, 1.0));
}
