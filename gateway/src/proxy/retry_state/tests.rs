//! How far a request has come.

use crate::balance::circuit::ErrorKind;
use crate::balance::target::Outcome;
use crate::gateway::Gateway;
use crate::proxy::fixtures::{CHAT, Setup, consumer, facts, facts_of, model_request, retry_state};
use spillway_plugins::api::Api;
use spillway_plugins::retry::ThrottleScope;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Asking {
    gateway: Gateway,
    facts: Facts,
    asked: ModelRequest,
    state: RetryState,
}

fn asking(setup: Setup<'_>) -> Asking {
    let gateway = setup.gateway();
    let (facts, asked) = (facts(&gateway), model_request(&gateway, Api::Chat, CHAT));
    let state = retry_state(&facts, &asked);
    Asking { gateway, facts, asked, state }
}

fn pooled(pool: &str) -> Asking {
    asking(Setup { pool, ..Setup::default() })
}

fn none(soonest: Option<Tick>, all_throttled: bool, fenced_off: bool) -> NoneReady {
    NoneReady { soonest, all_throttled, fenced_off, room_at: None }
}

/// Takes a slot of a member, and tells it how that went.
fn tell(Asking { gateway, asked, state, .. }: &Asking, member: usize, outcome: Outcome) {
    let mut lease = asked.model.route.members()[member].target.acquire(state.key, gateway.clock.now()).unwrap();
    lease.record(outcome, &asked.pool.config.circuit, gateway.clock.now());
}

#[test]
fn attempts_are_bounded_by_their_number_and_by_the_pools_budget() {
    let Asking { gateway, asked, mut state, .. } = pooled("retry = { max_attempts = 3 }");
    let now = gateway.clock.now();
    assert_eq!([(); 3].map(|()| state.may_retry(&asked, now)), [true, true, false]);
    assert_eq!(state.failures, 3);
    let Asking { gateway, asked, mut state, .. } = pooled("retry = { max_attempts = 9, budget = { percent = 0, floor_per_second = 0 } }");
    assert!(!state.may_retry(&asked, gateway.clock.now()), "nothing is left of the budget");
}

#[test]
fn a_request_waits_for_a_target_no_longer_than_it_may() {
    let Asking { gateway, facts, asked, mut state, .. } =
        pooled("retry = { wait = \"10s\", queue = 1, max_attempts = 2 }\ntimeouts = { total = \"30s\" }");
    let now = gateway.clock.now();
    let until = |state: &RetryState, soonest| state.wait_until(none(soonest, true, false), &asked, &facts, now).map(|(until, _)| until);
    assert_eq!(until(&state, None), None);
    assert_eq!(until(&state, Some(now + SECOND * 10)), Some(now + SECOND * 10));
    assert_eq!(until(&state, Some(now + SECOND * 11)), None, "longer than it has patience");
    let (_, place) = state.wait_until(none(Some(now + SECOND), true, false), &asked, &facts, now).unwrap();
    assert!(place.is_some());
    assert_eq!(until(&state, Some(now + SECOND)), None, "the queue is full");
    assert!(
        matches!(state.wait_until(none(Some(now), true, false), &asked, &facts, now), Some((_, None))),
        "one that is open needs no place"
    );
    drop(place);
    (state.tried, state.throttled) = (smallvec::smallvec![0, 1], smallvec::smallvec![1]);
    state.release(now + SECOND * 4, now);
    assert_eq!((&state.tried[..], &state.throttled[..], state.releases), (&[0][..], &[][..], 1), "only the throttled are tried again");
    assert_eq!((until(&state, Some(now + SECOND * 6)), until(&state, Some(now + SECOND * 7))), (Some(now + SECOND * 6), None));
    state.release(now, now);
    assert_eq!(until(&state, Some(now)), None, "rounds are bounded like attempts");
}

#[test]
fn nobody_waits_past_the_requests_deadline() {
    let Asking { gateway, facts, asked, state, .. } = pooled("retry = { wait = \"30s\" }\ntimeouts = { total = \"30s\" }");
    gateway.clock.pass(SECOND * 25);
    let now = gateway.clock.now();
    assert_eq!(state.deadline, facts.arrived + SECOND * 30);
    let until = |soonest| state.wait_until(none(Some(soonest), true, false), &asked, &facts, now).map(|(until, _)| until);
    assert_eq!((until(now + SECOND * 4), until(now + SECOND * 5)), (Some(now + SECOND * 4), None));
}

#[test]
fn a_refusal_says_what_was_the_matter() {
    let Asking { gateway, mut state, .. } = pooled("timeouts = { total = \"30s\" }");
    let now = gateway.clock.now();
    let model = || "m".to_owned();
    let soon = Some(now + SECOND * 3);
    let refusal = |state: &RetryState, none| state.refusal("m", none, now);
    let retry_after = Some(SECOND * 3);
    assert_eq!(refusal(&state, Some(none(soon, true, false))), Refusal::AllThrottled { model: model(), retry_after });
    assert_eq!(refusal(&state, Some(none(soon, false, false))), Refusal::NoneAvailable { model: model(), retry_after });
    assert_eq!(refusal(&state, Some(none(None, false, true))), Refusal::LocationNotAllowed { model: model() });
    assert_eq!(refusal(&state, None), Refusal::NoneAvailable { model: model(), retry_after: None });
    assert_eq!(state.refusal("m", None, state.deadline), Refusal::UpstreamTimeout { model: model(), retry_after: None });
    state.too_long = true;
    assert_eq!(refusal(&state, Some(none(soon, false, false))), Refusal::AllThrottled { model: model(), retry_after });
    assert!(!state.has_failed());
    state.failed(AttemptOutcome::Failed, false);
    state.upstream = Some((Some(500), "on fire".into()));
    let upstream = state.upstream.clone();
    let failed = Refusal::UpstreamFailed { model: model(), last: "failed", retry_after, upstream };
    assert_eq!((state.has_failed(), refusal(&state, Some(none(soon, true, false)))), (true, failed));
    state.failed(AttemptOutcome::Broken(ErrorKind::Timeout), true);
    assert_eq!(refusal(&state, Some(none(soon, true, false))), Refusal::UpstreamTimeout { model: model(), retry_after });
}

#[test]
fn a_prompt_that_is_too_long_rules_out_those_that_take_no_more() {
    let rest = "[[backends]]\nname = \"c\"\nkind = \"openai\"\nurl = \"http://c.test\"\n";
    let sized = |contexts: [&str; 3]| {
        let member = |(name, context): (&str, &str)| format!("{{ backend = \"{name}\", priority = 1{context} }}");
        ["a", "b", "c"].into_iter().zip(contexts).map(member).collect::<Vec<_>>().join(", ")
    };
    let of = |contexts| {
        let members = sized(contexts);
        let Asking { asked, mut state, .. } = asking(Setup { members: &members, rest, ..Setup::default() });
        state.tried.push(0);
        let larger = state.rule_out_smaller(&asked, 0);
        (larger, state.tried.to_vec())
    };
    assert_eq!(of([", context = 1000", ", context = 1000", ", context = 2000"]), (true, vec![0, 1]));
    assert_eq!(of([", context = 1000", "", ", context = 2000"]), (true, vec![0, 1]), "of one it is not known");
    assert_eq!(of([", context = 1000", ", context = 500", ", context = 1000"]), (false, vec![0]), "nobody takes more");
    assert_eq!(of(["", ", context = 500", ", context = 1000"]), (false, vec![0]));
}

#[test]
fn the_last_word_stands_unless_somebody_is_only_throttled() {
    let Asking { gateway, mut state, .. } = pooled("");
    let soon = none(Some(gateway.clock.now()), false, false);
    assert!(state.is_last(Some(soon)) && state.is_last(None));
    state.too_long = true;
    assert!(!state.is_last(Some(soon)) && state.is_last(Some(none(None, false, false))));
    state.throttled.push(1);
    assert!(!state.is_last(None));
}

#[test]
fn the_same_member_may_be_asked_first() {
    let mut asking = pooled("retry = { same_target = 2, wait = \"0s\" }");
    let now = asking.gateway.clock.now();
    asking.state.fast = Some((0, Some(SECOND * 60)));
    let (member, until) = asking.state.same_first(&asking.asked, false, now).expect("it failed fast");
    assert_eq!(member, 0);
    assert!((100..=500).contains(&until.since(now).as_millis()), "its Retry-After is for others: {until:?}");
    asking.state.limited = Some((1, Some(SECOND)));
    asking.state.throttled.push(1);
    let (member, until) = asking.state.same_first(&asking.asked, true, now).expect("it is throttled for a second");
    assert_eq!((member, until, asking.state.throttled.len()), (1, now + SECOND, 0));
    asking.state.fast = Some((0, None));
    assert!(asking.state.same_first(&asking.asked, false, now).is_none(), "that was twice");
    let mut never = pooled("");
    never.state.fast = Some((0, None));
    assert!(never.state.same_first(&never.asked, false, now).is_none(), "it is no default");
}

#[test]
fn where_nobody_else_is_left_the_same_member_is_asked_once_more() {
    let mut asking = pooled("");
    let now = asking.gateway.clock.now();
    asking.state.tried.push(0);
    assert_eq!(asking.state.same_again(&asking.asked, now), None, "it did not fail fast");
    asking.state.fast = Some((0, Some(SECOND * 2)));
    assert_eq!((asking.state.same_again(&asking.asked, now), &asking.state.tried[..]), (None, &[0][..]), "it said to wait longer");
    asking.state.fast = Some((0, Some(SECOND)));
    assert_eq!((asking.state.same_again(&asking.asked, now), &asking.state.tried[..]), (Some(now + SECOND), &[][..]));
    asking.state.fast = Some((0, None));
    tell(&asking, 0, Outcome::Throttled { retry_after: Some(SECOND * 9), scope: ThrottleScope::Quota });
    assert_eq!(asking.state.same_again(&asking.asked, now), None, "it is closed");
}

#[test]
fn a_pick_keeps_to_what_is_excluded_tried_and_fenced() {
    let rest = consumer("south", "locations = [\"south\"]");
    let Asking { gateway, facts, mut asked, mut state } = asking(Setup { rest: &rest, ..Setup::default() });
    let now = gateway.clock.now();
    let mut made = Attempts::default();
    let index = |picked: Result<Pick, NoneReady>| picked.ok().map(|pick| pick.index);
    assert_eq!(index(pick(&asked, &facts, &mut made, &mut state, now)), Some(0));
    assert_eq!(index(pick(&asked, &facts_of(&gateway, "south"), &mut made, &mut state, now)), Some(1), "the first is in the north");
    asked.elsewhere = Some(vec![0]);
    assert_eq!(index(pick(&asked, &facts, &mut made, &mut state, now)), Some(1));
    state.unsealed = true;
    assert_eq!(index(pick(&asked, &facts, &mut made, &mut state, now)), Some(0), "anybody may be asked after all");
    state.tried.extend([0, 1]);
    let left = pick(&asked, &facts, &mut made, &mut state, now).unwrap_err();
    assert_eq!(left, none(None, false, false));
}

#[test]
fn whom_a_request_passed_over_is_noted_once_for_each_attempt() {
    let asking = pooled("");
    tell(&asking, 0, Outcome::Throttled { retry_after: Some(SECOND * 9), scope: ThrottleScope::Quota });
    let Asking { gateway, facts, asked, mut state } = asking;
    let mut made = Attempts::default();
    for _ in 0..3 {
        assert!(pick(&asked, &facts, &mut made, &mut state, gateway.clock.now()).is_ok());
    }
    let noted: Vec<_> = made.skipped.iter().map(|skipped| (&*skipped.backend, skipped.state)).collect();
    assert_eq!(noted, [("a", "throttled")]);
}

#[test]
fn a_member_that_is_asked_again_counts_as_untried_until_then() {
    let Asking { gateway, asked, mut state, .. } = asking(Setup { backend: "max_concurrent = 1", ..Setup::default() });
    let now = gateway.clock.now();
    state.tried.extend([0, 1]);
    let held = pick_again(&asked, &mut state, 0, now).expect("it is free");
    assert_eq!((held.index, &state.tried[..]), (0, &[1][..]));
    state.tried.push(0);
    assert!(pick_again(&asked, &mut state, 0, now).is_none() && state.tried.contains(&0), "its only slot is taken");
}
