use proptest::prelude::*;

use super::*;
use crate::balance::circuit::CircuitRules;
use crate::balance::target::{Outcome, RequestKey, Target, TargetId, Unavailable};
use spillway_plugins::retry::{Quota, RateSignal, ThrottleScope};

const SECOND: Duration = Duration::from_secs(1);
const ALL: RequestKey = RequestKey { by: 0, api: spillway_plugins::api::Api::Chat, whole: true };
const X: RequestKey = RequestKey { by: 7, ..ALL };
const Y: RequestKey = RequestKey { by: 8, ..ALL };

fn at(seconds: u64) -> Tick {
    Tick(0) + SECOND * u32::try_from(3600 + seconds).unwrap()
}

/// Targets of which those with the same label share a quota.
fn targets(labels: &[Option<&str>]) -> Vec<Arc<Target>> {
    let mut pools: Vec<Arc<QuotaPool>> = Vec::new();
    let make = |(number, label): (usize, &Option<&str>)| {
        let target = Arc::new(Target::new(TargetId { backend: format!("b{number}").into(), deployment: "m".into() }, None));
        target.set_quota(label.map(|label| {
            let known = pools.iter().find(|pool| &*pool.name == label).cloned();
            known.unwrap_or_else(|| {
                pools.push(Arc::new(QuotaPool::new(label.into())));
                Arc::clone(&pools[pools.len() - 1])
            })
        }));
        target
    };
    labels.iter().enumerate().map(make).collect()
}

fn refuse(target: &Arc<Target>, key: RequestKey, seconds: u64, now: Tick) {
    let outcome = Outcome::Throttled { retry_after: Some(Duration::from_secs(seconds)), scope: ThrottleScope::Quota };
    target.acquire(key, now).unwrap().record(outcome, &CircuitRules::default(), now);
}

/// A success whose headers say that this percentage of its tokens is left.
fn serve(target: &Arc<Target>, key: RequestKey, left: Option<u64>, now: Tick) {
    let tokens = Quota { remaining: left, limit: left.map(|_| 100), reset: Some(SECOND * 60) };
    let outcome = Outcome::Success { first: SECOND, signal: RateSignal { tokens, ..RateSignal::default() } };
    target.acquire(key, now).unwrap().record(outcome, &CircuitRules::default(), now);
}

fn usable(targets: &[Arc<Target>], key: RequestKey, now: Tick) -> Vec<bool> {
    targets.iter().map(|target| target.is_usable(key, now)).collect()
}

#[test]
fn a_429_about_the_quota_closes_its_members_and_nothing_else() {
    let all = targets(&[Some("q"), Some("q"), Some("other"), None]);
    refuse(&all[0], ALL, 20, at(0));
    assert_eq!(usable(&all, ALL, at(1)), [false, false, true, true]);
    assert_eq!(all[0].closed(at(1)), Some(Unavailable::Throttled(at(20))));
    assert_eq!(all[1].closed(at(1)), Some(Unavailable::QuotaPool(at(20))));
    assert!(all[1].acquire(ALL, at(19)).is_none());
    assert_eq!(usable(&all, ALL, at(20)), [true; 4]);
    assert_eq!(all[1].closed(at(20)), None);
}

#[test]
fn a_429_about_the_deployment_closes_only_that() {
    let all = targets(&[Some("q"), Some("q")]);
    let outcome = Outcome::Throttled { retry_after: Some(SECOND * 20), scope: ThrottleScope::Deployment };
    all[0].acquire(ALL, at(0)).unwrap().record(outcome, &CircuitRules::default(), at(0));
    assert_eq!(usable(&all, ALL, at(1)), [false, true]);
    all[1].acquire(ALL, at(1)).unwrap().record(Outcome::TooLarge, &CircuitRules::default(), at(1));
    assert!(all[1].is_usable(ALL, at(1)));
}

#[test]
fn the_longest_closing_counts() {
    let all = targets(&[Some("q"), Some("q")]);
    let leases = [0, 1].map(|number: usize| all[number].acquire(ALL, at(0)).unwrap());
    for (mut lease, seconds) in leases.into_iter().zip([30, 10]) {
        let outcome = Outcome::Throttled { retry_after: Some(SECOND * seconds), scope: ThrottleScope::Quota };
        lease.record(outcome, &CircuitRules::default(), at(0));
    }
    assert_eq!(all[1].closed(at(5)), Some(Unavailable::QuotaPool(at(30))), "it is closed for longer than it is throttled");
    assert_eq!(usable(&all, ALL, at(29)), [false, false]);
}

#[test]
fn one_consumer_closes_it_for_itself_a_second_one_for_all() {
    let all = targets(&[Some("q"), Some("q"), Some("q")]);
    refuse(&all[0], X, 20, at(0));
    assert_eq!(usable(&all, X, at(1)), [false; 3]);
    assert_eq!(usable(&all, Y, at(1)), [true; 3]);
    assert_eq!((all[2].closed_for(X, at(1)), all[2].closed_for(Y, at(1))), (Some(Unavailable::QuotaPool(at(20))), None));
    let third = RequestKey { by: 9, ..ALL };
    refuse(&all[1], Y, 30, at(2));
    assert_eq!(usable(&all, third, at(3)), [false; 3]);
    assert_eq!(usable(&all, third, at(32)), [true; 3]);
}

#[test]
fn the_only_consumers_closing_is_shown() {
    let all = targets(&[Some("q"), Some("q")]);
    refuse(&all[0], X, 20, at(0));
    assert_eq!(all[1].closed(at(1)), Some(Unavailable::QuotaPool(at(20))));
    serve(&all[1], Y, None, at(1));
    assert_eq!(all[1].closed(at(1)), None, "it serves another one");
}

#[test]
fn one_consumer_alone_never_closes_it_for_others() {
    let all = targets(&[Some("q"), Some("q"), Some("q")]);
    for second in 0..600 {
        let open = all.iter().find(|target| target.is_usable(X, at(second)));
        open.into_iter().for_each(|target| refuse(target, X, 5, at(second)));
        assert_eq!(usable(&all, Y, at(second)), [true; 3], "{second}");
    }
}

#[test]
fn headers_that_contradict_it_begin_a_trial_that_confirms_the_quota() {
    let all = targets(&[Some("q"), Some("q"), Some("q")]);
    serve(&all[1], ALL, Some(60), at(0));
    refuse(&all[0], ALL, 20, at(1));
    assert_eq!(usable(&all, ALL, at(1)), [false, true, true], "a member reported room a moment ago");
    refuse(&all[1], ALL, 19, at(2));
    assert_eq!(usable(&all, ALL, at(3)), [false; 3], "the second refusal shows that they share it");
    assert_eq!(all[0].quota().unwrap().learned(at(3)), Some(Sharing::Shared));
    serve(&all[1], ALL, Some(60), at(22));
    refuse(&all[0], ALL, 20, at(23));
    assert_eq!(usable(&all, ALL, at(24)), [false; 3], "for a while headers are not asked again");
}

#[test]
fn a_trial_finds_members_with_limits_of_their_own() {
    let all = targets(&[Some("q"), Some("q"), Some("q")]);
    serve(&all[1], ALL, Some(60), at(0));
    refuse(&all[0], ALL, 20, at(1));
    (0..20).for_each(|number| serve(&all[1 + number % 2], ALL, Some(50), at(2)));
    refuse(&all[1], ALL, 18, at(3));
    assert_eq!(usable(&all, ALL, at(3)), [false, false, true]);
    assert_eq!(all[0].quota().unwrap().learned(at(3)), Some(Sharing::Separate));
    refuse(&all[0], ALL, 20, at(100));
    assert_eq!(usable(&all, ALL, at(100)), [false, true, true]);
    assert_eq!(all[0].quota().unwrap().learned(at(700)), None, "for ten minutes");
    refuse(&all[0], ALL, 20, at(700));
    assert_eq!(usable(&all, ALL, at(700)), [false; 3], "then the config is believed again");
}

#[test]
fn a_trial_without_traffic_shows_nothing() {
    let all = targets(&[Some("q"), Some("q")]);
    serve(&all[1], ALL, Some(60), at(0));
    refuse(&all[0], ALL, 20, at(1));
    serve(&all[1], ALL, None, at(2));
    refuse(&all[1], ALL, 20, at(30));
    assert_eq!(all[0].quota().unwrap().learned(at(30)), None);
    assert_eq!(usable(&all, ALL, at(30)), [false; 2]);
}

#[test]
fn attempts_that_began_before_a_trial_dont_count_in_it() {
    let all = targets(&[Some("q"), Some("q")]);
    let early: Vec<_> = (0..30).map(|_| all[1].acquire(ALL, at(0)).unwrap()).collect();
    serve(&all[1], ALL, Some(60), at(0));
    refuse(&all[0], ALL, 20, at(1));
    let outcome = Outcome::Success { first: SECOND, signal: RateSignal::default() };
    for mut lease in early {
        lease.record(outcome, &CircuitRules::default(), at(2));
    }
    refuse(&all[1], ALL, 20, at(3));
    assert_eq!(all[0].quota().unwrap().learned(at(3)), Some(Sharing::Shared));
}

#[test]
fn reports_that_are_old_or_say_little_contradict_nothing() {
    for (left, late) in [(60, 6), (5, 0)] {
        let all = targets(&[Some("q"), Some("q")]);
        serve(&all[1], ALL, Some(left), at(0));
        refuse(&all[0], ALL, 20, at(late));
        assert_eq!(usable(&all, ALL, at(late)), [false; 2], "{left} % left, {late} s ago");
    }
    let all = targets(&[Some("q"), Some("q")]);
    serve(&all[0], ALL, Some(60), at(0));
    refuse(&all[0], ALL, 20, at(0));
    assert_eq!(usable(&all, ALL, at(0)), [false; 2], "its own report is none of another member");
}

#[test]
fn an_operator_opens_it() {
    let all = targets(&[Some("q"), Some("q")]);
    refuse(&all[0], ALL, 20, at(0));
    all[1].reset();
    assert_eq!(usable(&all, ALL, at(1)), [false, true], "the throttle of the first member stays");
}

#[test]
fn without_a_label_it_has_no_effect_any_more() {
    let all = targets(&[Some("q"), Some("q")]);
    refuse(&all[0], ALL, 20, at(0));
    all[1].set_quota(None);
    assert_eq!((all[1].is_usable(ALL, at(1)), all[1].closed(at(1))), (true, None));
}

#[test]
fn the_next_process_knows_it() {
    let all = targets(&[Some("q"), Some("q")]);
    let pool = all[0].quota().unwrap();
    refuse(&all[0], X, 20, at(0));
    let shared = QuotaPool::new("q".into());
    shared.restore(&pool.snapshot(at(5)), at(105));
    assert!(shared.is_closed(7, at(119)) && !shared.is_closed(8, at(106)) && !shared.is_closed(7, at(120)));
    refuse(&all[1], Y, 20, at(1));
    pool.state.lock().learn(Sharing::Shared, at(50));
    let text = serde_json::to_string(&pool.snapshot(at(5))).unwrap();
    let next = QuotaPool::new("q".into());
    next.restore(&serde_json::from_str(&text).unwrap(), at(105));
    assert_eq!((next.closed_for_all(at(106)), next.learned(at(106))), (Some(at(121)), Some(Sharing::Shared)));
    assert_eq!(next.snapshot(at(105)), pool.snapshot(at(5)));
}

#[test]
fn another_nodes_closing_extends_it() {
    let all = targets(&[Some("q"), Some("q")]);
    let pool = all[0].quota().unwrap();
    pool.close_until(at(20), at(0));
    pool.close_until(at(10), at(0));
    assert_eq!(pool.closed_for_all(at(1)), Some(at(20)));
    assert_eq!(usable(&all, X, at(1)), [false; 2]);
    let separate = QuotaPool::new("q".into());
    separate.state.lock().learn(Sharing::Separate, at(50));
    separate.close_until(at(20), at(0));
    assert_eq!(separate.closed_for_all(at(1)), None, "here it is known that its members share nothing");
}

#[derive(Debug, Clone, Copy)]
struct Event {
    member: usize,
    by: u64,
    /// Seconds of its Retry-After; `None` for a success.
    refused: Option<u64>,
    after: u64,
}

fn event() -> impl Strategy<Value = Event> {
    (0usize..6, 0u64..4, proptest::option::of(1u64..60), 0u64..10).prop_map(|(member, by, refused, after)| Event {
        member,
        by,
        refused,
        after,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens: a member of a pool is open exactly if neither its own throttle nor its pool keeps a consumer
    /// out, what is said about it agrees, it reopens in time, and other pools notice nothing.
    #[test]
    fn closed_and_said_to_be_closed_agree(events in proptest::collection::vec(event(), 1..50)) {
        let all = targets(&[Some("q"), Some("q"), Some("q"), Some("r"), Some("r"), None]);
        let alone = targets(&[None; 6]);
        let mut now = at(0);
        for Event { member, by, refused, after } in events {
            now = now + SECOND * u32::try_from(after).unwrap();
            let key = RequestKey { by, ..ALL };
            let Some(mut lease) = all[member].acquire(key, now) else {
                prop_assert!(all[member].closed_for(key, now).is_some());
                continue;
            };
            prop_assert_eq!(all[member].closed_for(key, now), None);
            let Some(mut same) = alone[member].acquire(key, now) else { unreachable!() };
            let outcome = match refused {
                Some(seconds) => Outcome::Throttled { retry_after: Some(Duration::from_secs(seconds)), scope: ThrottleScope::Quota },
                None => Outcome::Success { first: SECOND, signal: RateSignal::default() },
            };
            let before: Vec<_> = all.iter().map(|target| [0, 1, 2, 3].map(|by| target.closed_for(RequestKey { by, ..ALL }, now))).collect();
            prop_assert_eq!(lease.record(outcome, &CircuitRules::default(), now), same.record(outcome, &CircuitRules::default(), now));
            for (other, target) in all.iter().enumerate() {
                let pool_of = |member: usize| all[member].quota().map(|quota| quota.name.to_string());
                let touched = other == member || (refused.is_some() && pool_of(member).is_some() && pool_of(member) == pool_of(other));
                for by in 0..4 {
                    let key = RequestKey { by, ..ALL };
                    let closed = target.closed_for(key, now);
                    prop_assert!(touched || closed == before[other][usize::try_from(by).unwrap()], "{} changed", target.id);
                    prop_assert_eq!(target.is_usable(key, now), closed.is_none());
                    prop_assert!(target.is_usable(key, now + SECOND * 60), "no closing is longer than its Retry-After");
                    if alone[other].closed_for(key, now).is_some() {
                        prop_assert!(closed.is_some(), "a pool never opens a throttled member");
                    }
                    if all[other].quota().is_none() {
                        prop_assert_eq!(closed, alone[other].closed_for(key, now), "no effect without a label");
                    }
                }
            }
        }
    }
}
