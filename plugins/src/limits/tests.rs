mod changes;
mod takeover;
mod tree;
mod waits;

use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::share::cut_off;
use super::*;
use crate::prices::Money;

type Mutex = parking_lot::Mutex<State>;

fn scope(rank: Rank, rules: Rules) -> Arc<Scope> {
    Scope::new(rank, format!("{rank:?}"), rules, false)
}

fn now(millis: u64) -> Timestamps {
    Timestamps { monotonic: Duration::from_millis(millis), unix: i64::try_from(millis / 1000).unwrap() }
}

fn tokens(tokens: u64) -> Demand {
    Demand { tokens, ..Demand::default() }
}

fn used(tokens: u64) -> Used {
    Used { tokens, ..Used::default() }
}

fn path(scopes: &[Arc<Scope>]) -> Path {
    scopes.iter().cloned().collect()
}

fn ask(scopes: &[Arc<Scope>], demand: Demand, now: Timestamps) -> Result<Permit<Mutex>, Refused> {
    admit(&path(scopes), demand, now, |_, _| {})
}

/// Requests, tokens, concurrent requests, and the first quota and budget.
fn all_used<C: Cell<State>>(scope: &Scope<C>, now: Timestamps) -> [u64; 5] {
    [LimitKind::Requests, LimitKind::Tokens, LimitKind::Concurrent, LimitKind::Quota, LimitKind::Budget].map(|kind| scope.used(kind, now))
}

fn quota(period: Period, tokens: u64) -> Window {
    Window::utc(LimitKind::Quota, period, tokens)
}

fn budget(period: Period, money: u64) -> Window {
    Window::utc(LimitKind::Budget, period, money)
}

fn limited(refused: Refused) -> (LimitKind, Option<Duration>) {
    match refused {
        Refused::Limit { id, wait, .. } => (id.kind, wait),
        Refused::Share(share) => panic!("{share:?}"),
    }
}

/// A share of each limit, of which no node has anything left.
fn granted(scope: &Scope, most: &[u64]) -> Share {
    let most = most.iter().map(|most| Granted { most: *most, left: 0 });
    Share::granted(&scope.propose(now(0)), most)
}

#[test]
fn all_or_none() {
    let wide = scope(Rank::Consumer, Rules { tokens_per_minute: Some(1000), requests_per_minute: Some(100), ..Rules::default() });
    let narrow = scope(Rank::Pool, Rules { tokens_per_minute: Some(10), ..Rules::default() });
    let both = [Arc::clone(&wide), narrow];
    let (kind, wait) = limited(ask(&both, tokens(11), now(0)).unwrap_err());
    assert_eq!((kind, wait), (LimitKind::Tokens, Some(Duration::ZERO)));
    assert_eq!(all_used(&wide, now(0)), [0; 5], "what one refuses the other must not pay for");
    let permit = ask(&both, tokens(10), now(0)).unwrap();
    assert_eq!(all_used(&wide, now(0)), [1, 10, 1, 0, 0]);
    drop(permit);
    assert_eq!(all_used(&wide, now(0)), [1, 0, 0, 0, 0], "a request that used nothing was a request all the same");
}

#[test]
fn what_is_left_counts_all_nodes_and_says_when_it_starts_again() {
    let windows = vec![quota(Period::Day, 1000)];
    let rules = Rules { requests_per_minute: Some(10), concurrent: Some(3), windows, ..Rules::default() };
    let shared = Scope::<Mutex>::new(Rank::Consumer, String::new(), rules, true);
    shared.set_share(Some(granted(&shared, &[8, 3, 600])));
    let _permit = ask(std::slice::from_ref(&shared), tokens(100), now(5_000)).unwrap();
    let left = |at: u64| -> Vec<_> {
        let left = shared.left(None, now(at));
        left.into_iter().map(|(id, left)| (id.kind, left.remaining, id.calendar.map(|calendar| calendar.period), left.reset)).collect()
    };
    let day = Duration::from_secs(86_400);
    assert_eq!(
        left(5_000),
        [
            (LimitKind::Requests, 7, None, Duration::from_secs(61)),
            (LimitKind::Concurrent, 2, None, Duration::ZERO),
            (LimitKind::Quota, 500, Some(Period::Day), day - Duration::from_secs(5)),
        ]
    );
    // The next day: yesterday's share of the other node takes nothing from it.
    assert_eq!(left(86_400_000)[2], (LimitKind::Quota, 1000, Some(Period::Day), day));
    assert_eq!(left(86_400_000)[0].3, Duration::ZERO);
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let rules = Rules { tokens_per_minute: Some(100), ..Rules::default() };
    let scopes = [scope(Rank::Consumer, rules)];
    ask(&scopes, tokens(60), now(500)).unwrap().settle(used(60), now(900), |_, _| {});
    ask(&scopes, tokens(40), now(10_250)).unwrap().settle(used(40), now(11_000), |_, _| {});
    let (_, wait) = limited(ask(&scopes, tokens(30), now(20_250)).unwrap_err());
    let back = now(20_250).monotonic + wait.unwrap();
    assert_eq!(back, Duration::from_secs(61), "when the first second is over a minute old");
    let at = Timestamps { monotonic: back, unix: 0 };
    assert!(ask(&scopes, tokens(30), Timestamps { monotonic: back - Duration::from_millis(1), ..at }).is_err());
    assert!(ask(&scopes, tokens(30), at).is_ok());
    match ask(&scopes, tokens(101), at).unwrap_err() {
        Refused::Limit { too_large, limit, .. } => assert!(too_large && limit == 100),
        Refused::Share(_) => panic!(),
    }
}

#[test]
fn what_is_settled_is_what_counts() {
    let rules = Rules { tokens_per_minute: Some(100), windows: vec![quota(Period::Hour, 1000)], ..Rules::default() };
    let scopes = [scope(Rank::Consumer, rules)];
    let permit = ask(&scopes, tokens(80), now(0)).unwrap();
    assert_eq!(permit.remaining.tokens, Some(Counter { limit: 100, remaining: 20, reset: Duration::from_secs(61) }));
    permit.settle(used(5), now(1000), |_, _| {});
    assert_eq!(all_used(&scopes[0], now(1000)), [0, 5, 0, 5, 0]);
    ask(&scopes, tokens(10), now(2000)).unwrap().settle(used(70), now(3000), |_, _| {});
    assert_eq!(all_used(&scopes[0], now(3000)), [0, 75, 0, 75, 0], "more than was reserved counts, too");
}

#[test]
fn money_and_tokens_run_out_for_a_period() {
    let rules = Rules { windows: vec![quota(Period::Hour, 100), budget(Period::Day, 1000)], concurrent: Some(2), ..Rules::default() };
    let scopes = [scope(Rank::Consumer, rules)];
    let mut alerts = Vec::new();
    let demand = Demand { tokens: 85, cost: Money(850), ..Demand::default() };
    let permit = ask(&scopes, demand, now(0)).unwrap();
    permit.settle(Used { tokens: 80, cost: Money(790) }, now(0), |_, alert| alerts.push((alert.kind, alert.percent)));
    assert_eq!(alerts, [(LimitKind::Quota, 80)]);
    let refused = admit(&path(&scopes), demand, now(0), |_, alert| alerts.push((alert.kind, alert.percent))).unwrap_err();
    assert_eq!(limited(refused), (LimitKind::Budget, Some(Duration::from_secs(86_400))), "what takes longest");
    assert_eq!(alerts.len(), 1, "a request that doesn't fit is no sign that it is used up");
    let (kind, wait) = limited(ask(&scopes, tokens(21), now(600_000)).unwrap_err());
    assert_eq!((kind, wait), (LimitKind::Quota, Some(Duration::from_secs(3000))));
    let (_one, _two) = (ask(&scopes, tokens(1), now(0)).unwrap(), ask(&scopes, tokens(1), now(0)).unwrap());
    assert_eq!(limited(ask(&scopes, tokens(1), now(0)).unwrap_err()), (LimitKind::Concurrent, None));
    assert!(ask(&scopes, tokens(21), now(3_600_000)).is_err(), "two are still in flight");
    drop(_one);
    assert!(ask(&scopes, tokens(21), now(3_600_000)).is_ok(), "a new hour");
}

#[test]
fn a_shadow_refuses_nothing() {
    let rules = Rules { requests_per_minute: Some(1), shadow: true, ..Rules::default() };
    let scopes = [scope(Rank::Group, rules)];
    assert!(ask(&scopes, tokens(1), now(0)).unwrap().shadowed.is_empty());
    assert_eq!(
        ask(&scopes, tokens(1), now(0)).unwrap().shadowed.as_slice(),
        [(Rank::Group, LimitId { kind: LimitKind::Requests, calendar: None })]
    );
    assert_eq!(all_used(&scopes[0], now(0))[0], 2);
}

#[test]
fn what_was_used_before_the_start_counts() {
    let rules = Rules { windows: vec![quota(Period::Month, 100), budget(Period::Day, 50)], ..Rules::default() };
    let (scope, begun) = Scope::<Mutex>::begin(Rank::Consumer, "c".into(), rules, false);
    let scopes = [scope];
    for (one, amount) in begun.iter().zip([90, 50]) {
        scopes[0].restore(one, amount, 0);
    }
    assert_eq!(limited(ask(&scopes, tokens(11), now(0)).unwrap_err()).0, LimitKind::Quota);
    let dear = Demand { tokens: 1, cost: Money(1), ..Demand::default() };
    assert_eq!(limited(ask(&scopes, dear, now(0)).unwrap_err()).0, LimitKind::Budget);
}

#[test]
fn other_rules_take_over_what_is_used() {
    let rules = Rules { tokens_per_minute: Some(100), ..Rules::default() };
    let before = [scope(Rank::Consumer, rules.clone())];
    let permit = ask(&before, tokens(80), now(0)).unwrap();
    let (wider, begun) =
        before[0].with_rules(Rules { tokens_per_minute: Some(150), windows: vec![quota(Period::Day, 1000)], ..rules.clone() });
    assert_eq!(begun.iter().map(|one| one.id.kind).collect::<Vec<_>>(), [LimitKind::Quota]);
    let after = [wider];
    assert_eq!(limited(ask(&after, tokens(71), now(1000)).unwrap_err()).0, LimitKind::Tokens);
    permit.settle(used(30), now(1000), |_, _| {});
    assert_eq!(all_used(&after[0], now(1000)), [0, 30, 0, 0, 0], "settled where it counts now; never booked on the new quota");
    let permit = ask(&after, tokens(71), now(1000)).unwrap();
    let (monthly, begun) = after[0].with_rules(Rules { windows: vec![quota(Period::Month, 1000)], ..after[0].rules.clone() });
    assert_eq!(begun.iter().map(|one| one.id.kind).collect::<Vec<_>>(), [LimitKind::Quota]);
    permit.settle(used(1), now(1000), |_, _| {});
    assert_eq!(all_used(&monthly, now(1000)), [0, 31, 0, 0, 0], "what was reserved in days is not given back in months");
    let (same, begun) = monthly.with_rules(monthly.rules.clone());
    assert!(begun.is_empty() && all_used(&same, now(1000))[LimitKind::Tokens as usize] == 31);
    // Classes begin and end with what is in flight.
    let held = ask(&[Arc::clone(&same)], tokens(5), now(1000)).unwrap();
    let (classed, _) = same.with_rules(Rules { classes: true, ..same.rules.clone() });
    held.settle(used(5), now(1000), |_, _| {});
    assert_eq!(all_used(&classed, now(1000))[LimitKind::Concurrent as usize], 0);
}

#[test]
fn an_open_socket_counts_in_periods_that_a_reload_adds_from_its_next_answer_on() {
    let before = [scope(Rank::Consumer, Rules { windows: vec![quota(Period::Hour, 1000)], ..Rules::default() })];
    let mut socket = ask(&before, tokens(10), now(0)).unwrap();
    let windows = vec![quota(Period::Day, 1000), quota(Period::Hour, 1000)];
    let guaranteed = vec![Guarantee { child: "a".into(), amounts: vec![1, 1] }];
    let (after, _) = before[0].with_rules(Rules { windows, guaranteed, ..Rules::default() });
    let of_day = || after.snapshot(now(0))[0].used;
    for answer in 1..3 {
        socket.renew(now(0));
        socket.book(used(25), now(0), |_, _| {});
        assert_eq!(of_day(), answer * 25 + 10);
    }
    socket.settle(used(5), now(0), |_, _| {});
    assert_eq!((of_day(), after.snapshot(now(0))[1].used), (55, 55), "what was reserved is given back in both");
}

proptest! {
    /// One process ends, another takes over: whatever is still settled in the old one, the new one counts the same.
    #[test]
    fn who_takes_over_knows_what_is_used(
        steps in proptest::collection::vec((0u64..4000, 1u64..50, 0u64..60, 0usize..4), 1..120),
        ahead in -50i64..50,
        classes in proptest::bool::ANY,
    ) {
        let rules = Rules {
            requests_per_minute: Some(1 << 40),
            tokens_per_minute: Some(1 << 40),
            concurrent: Some(1 << 40),
            windows: vec![quota(Period::Hour, 1 << 40), budget(Period::Day, 1 << 40)],
            classes,
            ..Rules::default()
        };
        let (new, begun) = Scope::<Mutex>::begin(Rank::Pool, "Pool".into(), rules.clone(), false);
        let old = [scope(Rank::Pool, rules)];
        // The ledger's usage at the start is contained in what the old process reports.
        new.restore(&begun[0], 7777, 100_000);
        let mut time = 100_000_000;
        let mut permits = Vec::new();
        let mut told: Option<Tally> = None;
        let there = |time: u64| Timestamps { monotonic: now(time.saturating_add_signed(ahead * 1000)).monotonic, unix: now(time).unix };
        for (pause, need, really, what) in steps {
            time += pause;
            match what {
                0 | 1 => permits.push(ask(&old, Demand { tokens: need, cost: Money(need * 3), class: Class::ALL[what] }, now(time)).unwrap()),
                2 if !permits.is_empty() => permits.remove(0).settle(Used { tokens: really, cost: Money(really) }, now(time), |_, _| {}),
                _ => {
                    let tally = old[0].tally(now(time));
                    let sent: Tally = serde_json::from_str(&serde_json::to_string(&tally).unwrap()).unwrap();
                    prop_assert_eq!(&sent, &tally);
                    new.add_difference(told.as_ref(), &sent, ahead, there(time));
                    told = Some(sent);
                    prop_assert_eq!(all_used(&new, there(time)), all_used(&old[0], now(time)));
                }
            }
        }
        permits.clear();
        let last = old[0].tally(now(time));
        new.add_difference(told.as_ref(), &last, ahead, there(time));
        prop_assert_eq!(all_used(&new, there(time)), all_used(&old[0], now(time)));
        new.add_difference(Some(&last), &last.clone().ended(), ahead, there(time));
        prop_assert_eq!(all_used(&new, there(time))[LimitKind::Concurrent as usize], 0);
    }
}

fn classed(limit: u64) -> [Arc<Scope>; 1] {
    [scope(Rank::Pool, Rules { tokens_per_minute: Some(limit), classes: true, ..Rules::default() })]
}

fn of(class: Class, tokens: u64) -> Demand {
    Demand { tokens, class, ..Demand::default() }
}

#[test]
fn the_lower_class_is_refused_first() {
    let pool = classed(1000);
    let mut admitted = [0; 3];
    for class in [Class::Batch, Class::Standard, Class::Interactive] {
        while let Ok(permit) = ask(&pool, of(class, 10), now(0)) {
            permit.settle(used(10), now(0), |_, _| {});
            admitted[class as usize] += 10;
        }
    }
    // Batch fills 80 %, standard 95 % less what is now kept for batch, interactive the rest.
    assert_eq!(admitted, [50, 150, 800]);
    let short = classed(100);
    let _taken = ask(&short, of(Class::Batch, 80), now(0)).unwrap();
    let Err(Refused::Limit { kept, .. }) = ask(&short, of(Class::Batch, 10), now(0)) else { panic!() };
    assert_eq!(kept, Some(KeptFor::Classes));
    assert!(ask(&classed(100), of(Class::Batch, 85), now(0)).is_ok(), "a class of which nothing is there takes what fits");
}

#[test]
fn no_class_starves_of_requests_or_with_large_ones() {
    let rules = Rules { requests_per_minute: Some(100), tokens_per_minute: Some(20_000), classes: true, ..Rules::default() };
    let pool = [scope(Rank::Pool, rules)];
    let mut admitted = [0u64; 3];
    for second in 0..900 {
        for class in Class::ALL {
            // Batch asks for more than its floor of the tokens in one go.
            let tokens = if class == Class::Batch { 1500 } else { 150 };
            for _ in 0..20 {
                if let Ok(permit) = ask(&pool, of(class, tokens), now(second * 1000)) {
                    permit.settle(used(tokens), now(second * 1000), |_, _| {});
                    admitted[class as usize] += 1;
                }
            }
        }
    }
    assert!(admitted.iter().all(|requests| *requests >= 10), "{admitted:?}");
}

#[test]
fn a_large_request_of_a_class_passes_as_soon_as_it_fits() {
    let pool = classed(1000);
    let most = || ask(&pool, of(Class::Batch, 800), now(0));
    let held: Vec<_> = (0..3).map(|_| ask(&pool, of(Class::Interactive, 100), now(0)).unwrap()).collect();
    assert!(most().is_err());
    let more: Vec<_> = std::iter::from_fn(|| ask(&pool, of(Class::Interactive, 10), now(0)).ok()).collect();
    assert_eq!(more.len(), 65, "all but the floor of the one that was refused");
    drop((held, more));
    assert!(most().is_ok());
}

proptest! {
    /// Whatever was refused before, and however large: a class is refused only above its own share of a limit, or where
    /// no more is left than the floors of the others.
    #[test]
    fn what_is_kept_for_others_is_their_floor(
        steps in proptest::collection::vec((0usize..3, 1u64..1200, 0u64..20_000, any::<bool>()), 1..200),
        limit in 20u64..1000,
    ) {
        let rules = Rules { requests_per_minute: Some(20), tokens_per_minute: Some(limit), classes: true, ..Rules::default() };
        let pool = [scope(Rank::Pool, rules.clone())];
        let mut time = 0;
        let mut held = Vec::new();
        for (class, need, pause, hold) in steps {
            time += pause;
            let class = Class::ALL[class];
            let used = all_used(&pool[0], now(time));
            let fits = |kind: LimitKind, need: u64| {
                let limit = rules.rate(kind).unwrap();
                let part = |percent: u64| (limit * percent).div_ceil(100);
                let floors: u64 = Class::ALL.into_iter().filter(|other| *other != class).map(|other| part([20, 10, 5][other as usize])).sum();
                used[kind as usize] + need <= part([100, 95, 80][class as usize]).min(limit.saturating_sub(floors))
            };
            let permit = ask(&pool, of(class, need), now(time));
            prop_assert!(permit.is_ok() || !fits(LimitKind::Tokens, need) || !fits(LimitKind::Requests, 1), "{:?} of {:?}", need, used);
            if let Ok(permit) = permit {
                if hold { held.push(permit) } else { permit.settle(Used { tokens: need / 2, ..Used::default() }, now(time), |_, _| {}) }
            }
        }
    }
}

#[test]
fn what_other_nodes_use_counts_for_classes_too() {
    let rules = Rules { tokens_per_minute: Some(1000), classes: true, ..Rules::default() };
    let pool = [Scope::new(Rank::Pool, "p".into(), rules, true)];
    pool[0].set_share(Some(granted(&pool[0], &[400])));
    let admitted: Vec<_> = std::iter::from_fn(|| ask(&pool, of(Class::Batch, 10), now(0)).ok()).take(100).collect();
    assert_eq!(admitted.len(), 20, "80 % of all");
}

#[test]
fn no_class_starves() {
    let pool = classed(1000);
    let mut admitted = [0u64; 3];
    // Each of the three wants more than all of it, all the time, the higher ones first.
    for second in 0..600 {
        for class in Class::ALL {
            for _ in 0..100 {
                if let Ok(permit) = ask(&pool, of(class, 10), now(second * 1000)) {
                    permit.settle(used(10), now(second * 1000), |_, _| {});
                    admitted[class as usize] += 10;
                }
            }
        }
    }
    let share = |class: Class| admitted[class as usize] as f64 / admitted.iter().sum::<u64>() as f64;
    assert!(share(Class::Interactive) > 0.5, "{admitted:?}");
    assert!(share(Class::Standard) >= 0.08, "{admitted:?}");
    assert!(share(Class::Batch) >= 0.04, "{admitted:?}");
}

#[test]
fn a_class_alone_has_nearly_all_of_it() {
    for (class, most) in [(Class::Interactive, 1000), (Class::Standard, 950), (Class::Batch, 800)] {
        let pool = classed(1000);
        let admitted =
            (0..200).filter(|_| ask(&pool, of(class, 10), now(0)).map(|p| p.settle(used(10), now(0), |_, _| {})).is_ok()).count();
        assert_eq!(admitted * 10, most, "{class:?}");
    }
}

#[test]
fn a_share_is_a_limit_of_its_own() {
    let rules = Rules { tokens_per_minute: Some(100), windows: vec![quota(Period::Hour, 500)], ..Rules::default() };
    let scopes = [Scope::new(Rank::Consumer, "c".into(), rules, true)];
    let Err(Refused::Share(share)) = ask(&scopes, tokens(10), now(0)) else { panic!() };
    assert_eq!((share.len(), share[0].0), (1, 0));
    let of = |proposal: &Proposal, what: fn(&Part) -> u64| -> Vec<u64> {
        proposal.limits.iter().flat_map(|asked| &asked.parts).map(what).collect()
    };
    let proposal = scopes[0].propose(now(0));
    assert_eq!((of(&proposal, |part| part.used), of(&proposal, |part| part.had)), (vec![0, 0], vec![0, 0]));
    assert_eq!(of(&proposal, |part| part.wanted), [10, 10]);
    scopes[0].set_share(Some(granted(&scopes[0], &[30, 50])));
    let permits: Vec<_> = (0..3).map(|_| ask(&scopes, tokens(10), now(0)).unwrap()).collect();
    assert!(matches!(ask(&scopes, tokens(10), now(0)), Err(Refused::Share(_))));
    let proposal = scopes[0].propose(now(0));
    assert_eq!((of(&proposal, |part| part.used), of(&proposal, |part| part.had)), (vec![30, 30], vec![30, 50]));
    drop(permits);
    scopes[0].propose(now(0));
    let given_back = scopes[0].propose(now(0));
    assert_eq!(
        (of(&given_back, |part| part.had), of(&given_back, |part| part.wanted)),
        (vec![0, 0], vec![0, 0]),
        "what isn't used is given back"
    );
    assert!(matches!(ask(&scopes, tokens(1), now(0)), Err(Refused::Share(_))), "and not used from that moment on");
    assert!(matches!(ask(&scopes, tokens(10), now(3_600_000)), Err(Refused::Share(_))), "of the next hour there is no share yet");
    assert!(matches!(ask(&scopes, tokens(101), now(0)), Err(Refused::Limit { too_large: true, .. })));
}

#[test]
fn nodes_that_are_all_cut_off_stay_below_the_limit() {
    let shares = |since: u64| [70u64, 30, 0].map(|had| cut_off(LimitKind::Tokens, 100, had, 3, Duration::from_secs(since)));
    assert_eq!(shares(0), [70, 30, 0]);
    assert_eq!(shares(29), [70, 30, 0]);
    assert_eq!(shares(30), [33, 30, 0]);
    assert_eq!(shares(89), [33, 30, 0]);
    assert_eq!(shares(90), [33, 33, 33]);
    assert_eq!(cut_off(LimitKind::Tokens, 100, 100, 0, Duration::from_secs(500)), 100);
    assert_eq!(cut_off(LimitKind::Concurrent, 20, 20, 2, Duration::from_secs(4)), 10, "the others have forgotten it by then");
}

/// What happens to a limiter, in a simulation with virtual time.
#[derive(Debug, Clone)]
enum Step {
    Ask { tokens: u64, model: bool, real: u64 },
    End { which: usize },
    Drop { which: usize },
    Pass { millis: u64 },
    SetClock { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..60, any::<bool>(), 0u64..60).prop_map(|(tokens, model, real)| Step::Ask { tokens, model, real }),
        4 => any::<usize>().prop_map(|which| Step::End { which }),
        1 => any::<usize>().prop_map(|which| Step::Drop { which }),
        3 => (0u64..20_000).prop_map(|millis| Step::Pass { millis }),
        1 => (-4000i64..4000).prop_map(|seconds| Step::SetClock { seconds }),
    ]
}

proptest! {
    /// Nothing is admitted beyond a limit but what requests use beyond their reservations, whatever happens in
    /// which order; and nothing stays reserved.
    #[test]
    fn limits_hold(steps in proptest::collection::vec(step(), 1..300)) {
        let consumer = scope(Rank::Consumer, Rules {
            requests_per_minute: Some(20), tokens_per_minute: Some(300), concurrent: Some(5),
            windows: vec![quota(Period::Hour, 1500), budget(Period::Day, 9000)], ..Rules::default()
        });
        let model = scope(Rank::ConsumerModel, Rules { tokens_per_minute: Some(100), ..Rules::default() });
        let (mut millis, mut offset) = (100_000u64, 0i64);
        let mut open: Vec<(Permit<Mutex>, u64, u64)> = Vec::new();
        // (when, reserved or used, beyond the reservation)
        let mut log: Vec<(u64, u64)> = Vec::new();
        let mut beyond = 0;
        for step in steps {
            let at = Timestamps { monotonic: Duration::from_millis(millis), unix: i64::try_from(millis / 1000).unwrap() + 3_000_000 + offset };
            match step {
                Step::Ask { tokens, model: narrow, real } => {
                    let scopes = if narrow { vec![Arc::clone(&consumer), Arc::clone(&model)] } else { vec![Arc::clone(&consumer)] };
                    let demand = Demand { tokens, cost: Money(tokens * 3), ..Demand::default() };
                    if let Ok(permit) = ask(&scopes, demand, at) {
                        open.push((permit, millis, real));
                        log.push((millis, tokens));
                        let minute: u64 = log.iter().filter(|(then, _)| millis - then < 60_000).map(|(_, tokens)| tokens).sum();
                        prop_assert!(minute <= 300 + beyond);
                        prop_assert!(log.iter().filter(|(then, _)| millis - then < 60_000).count() <= 20);
                    }
                    prop_assert!(open.len() <= 5);
                }
                Step::End { which } if !open.is_empty() => {
                    let at_index = which % open.len();
                    let (permit, began, real) = open.swap_remove(at_index);
                    let reserved = permit.demand().tokens;
                    beyond += real.saturating_sub(reserved);
                    if let Some(entry) = log.iter_mut().find(|(then, tokens)| *then == began && *tokens == reserved) {
                        entry.1 = real.min(reserved);
                    }
                    permit.settle(Used { tokens: real, cost: Money(real * 3) }, at, |_, _| {});
                }
                Step::Drop { which } if !open.is_empty() => {
                    let (permit, began, _) = open.swap_remove(which % open.len());
                    let reserved = permit.demand().tokens;
                    if let Some(entry) = log.iter_mut().find(|(then, tokens)| *then == began && *tokens == reserved) {
                        entry.1 = 0;
                    }
                }
                Step::End { .. } | Step::Drop { .. } => {}
                Step::Pass { millis: passed } => millis += passed,
                Step::SetClock { seconds } => offset = seconds,
            }
            let [_, _, in_flight, tokens, money] = all_used(&consumer, at);
            prop_assert_eq!(in_flight, open.len() as u64);
            prop_assert!(tokens <= 1500 + beyond && money <= 9000 + beyond * 3);
        }
        open.clear();
        let later = Timestamps { monotonic: Duration::from_millis(millis + 61_000), unix: 0 };
        let left = all_used(&consumer, later);
        prop_assert_eq!([left[0], left[1], left[2]], [0, 0, 0]);
    }
}

/// The model checker's lock.
struct Checked<T>(shuttle::sync::Mutex<T>);

impl<T> Cell<T> for Checked<T> {
    type Guard<'c>
        = Guarded<'c, T>
    where
        T: 'c;

    fn new(value: T) -> Self {
        Checked(shuttle::sync::Mutex::new(value))
    }

    fn lock(&self) -> Self::Guard<'_> {
        Guarded(self.0.lock().unwrap())
    }
}

struct Guarded<'c, T>(shuttle::sync::MutexGuard<'c, T>);

impl<T> std::ops::Deref for Guarded<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guarded<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Every interleaving that the checker finds: no deadlock, no overshoot, nothing left behind.
#[test]
fn the_core_holds_under_a_model_checker() {
    let check = || {
        let rules = |tokens: u64| Rules {
            tokens_per_minute: Some(tokens),
            concurrent: Some(3),
            windows: vec![quota(Period::Day, 1000)],
            ..Rules::default()
        };
        let new = |rank: Rank, tokens: u64| Scope::<Checked<State>>::new(rank, String::new(), rules(tokens), false);
        let (one, other, pool) = (new(Rank::Consumer, 40), new(Rank::Consumer, 40), new(Rank::Pool, 50));
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let consumer = Arc::clone(if index % 2 == 0 { &one } else { &other });
                let scopes = [consumer, Arc::clone(&pool)];
                // Which comes first doesn't matter.
                let path: Path<Checked<State>> =
                    if index < 2 { scopes.iter().cloned().collect() } else { scopes.iter().rev().cloned().collect() };
                shuttle::thread::spawn(move || {
                    for round in 0..2 {
                        let Ok(permit) = admit(&path, tokens(15), now(1000), |_, _| {}) else { continue };
                        let seen = all_used(&scopes[1], now(1000));
                        assert!(seen[1] <= 50 && seen[2] <= 3, "{seen:?}");
                        shuttle::thread::yield_now();
                        if round == 0 { permit.settle(used(5), now(1000), |_, _| {}) } else { drop(permit) }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for scope in [&one, &other, &pool] {
            let left = all_used(scope, now(1000));
            assert_eq!(left[2], 0);
            assert_eq!(left[1] % 5, 0);
            assert_eq!(left[1], left[3]);
        }
        assert_eq!(all_used(&one, now(1000))[1] + all_used(&other, now(1000))[1], all_used(&pool, now(1000))[1]);
    };
    shuttle::check_pct(check, 2_000, 3);
    shuttle::check_random(check, 2_000);
}
