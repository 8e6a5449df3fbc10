//! Trees of scopes: several periods at once, guarantees, and what holds at each node whatever happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::{Mutex, all_used, limited, now, quota, tokens, used};
use crate::limits::*;
use crate::prices::Money;

/// A parent with this limit of tokens per minute, and per hour, and what it guarantees of them.
fn parent(limit: u64, guaranteed: &[(&str, u64)]) -> Arc<Scope> {
    Scope::new(Rank::Group, "parent".into(), rules(limit, guaranteed), false)
}

fn rules(limit: u64, guaranteed: &[(&str, u64)]) -> Rules {
    let guarantee = |(child, amount): &(&str, u64)| Guarantee { child: (*child).to_owned(), amounts: vec![*amount, *amount] };
    Rules {
        tokens_per_minute: Some(limit),
        windows: vec![quota(Period::Hour, limit)],
        guaranteed: guaranteed.iter().map(guarantee).collect(),
        ..Rules::default()
    }
}

/// Asks as one of the children, at the first second.
fn ask_as(parent: &Arc<Scope>, child: &str, need: u64) -> Result<Permit<Mutex>, Refused> {
    let mut path = Path::new();
    path.push(Arc::clone(parent), parent.guarantee_of(child));
    admit(&path, tokens(need), now(0), |_, _| {})
}

#[test]
fn siblings_cannot_use_up_what_is_guaranteed() {
    let parent = parent(100, &[("a", 30)]);
    let most = ask_as(&parent, "b", 70).unwrap();
    let Err(Refused::Limit { kept, too_large, .. }) = ask_as(&parent, "b", 1) else { panic!() };
    assert_eq!((kept, too_large), (Some(KeptFor::Guarantees), false));
    let own = ask_as(&parent, "a", 30).unwrap();
    assert!(ask_as(&parent, "a", 1).is_err(), "all of it is used");
    drop(most);
    let borrowed = ask_as(&parent, "a", 70).unwrap();
    let Err(Refused::Limit { kept: None, .. }) = ask_as(&parent, "b", 1) else { panic!("what was lent is taken back when it is free") };
    drop((own, borrowed));
    let Err(Refused::Limit { too_large, limit, .. }) = ask_as(&parent, "b", 71) else { panic!() };
    assert_eq!((too_large, limit), (true, 70), "it can never have more");
    assert!(ask_as(&parent, "a", 100).is_ok());
}

#[test]
fn a_guarantee_holds_though_siblings_use_more_than_they_reserved() {
    let parent = parent(100, &[("a", 30)]);
    let most = ask_as(&parent, "b", 70).unwrap();
    most.settle(used(90), now(0), |_, _| {});
    assert!(ask_as(&parent, "b", 1).is_err());
    let _own = ask_as(&parent, "a", 30).unwrap();
    assert_eq!(all_used(&parent, now(0))[1], 120, "the limit is exceeded by what was used beyond the reservation");
    assert!(ask_as(&parent, "a", 1).is_err());
}

/// One answer of several on a socket: usage is added, and the reservation is for the next one.
fn turn(permit: &mut Permit<Mutex>, tokens: u64) -> bool {
    permit.renew(now(0));
    permit.book(used(tokens), now(0), |_, _| {});
    permit.ended(now(0)).is_some()
}

#[test]
fn an_open_socket_ends_when_what_is_guaranteed_to_nobody_is_used_up() {
    let parent = parent(1000, &[("a", 900)]);
    let mut socket = ask_as(&parent, "b", 20).unwrap();
    let turns = (1..).find(|_| turn(&mut socket, 20)).unwrap();
    assert_eq!(turns, 5, "after the last one its reservation no longer fits");
    drop(socket);
    ask_as(&parent, "a", 900).unwrap().settle(used(900), now(0), |_, _| {});
    assert_eq!(all_used(&parent, now(0))[3], 1000, "neither the limit is exceeded nor the guarantee broken");
    assert!(ask_as(&parent, "a", 1).is_err());
}

#[test]
fn an_open_socket_within_its_guarantee_goes_on_though_siblings_have_used_up_the_rest() {
    let parent = parent(1000, &[("a", 100)]);
    let mut socket = ask_as(&parent, "a", 20).unwrap();
    ask_as(&parent, "b", 900).unwrap().settle(used(950), now(0), |_, _| {});
    let turns = (1..).find(|_| turn(&mut socket, 20)).unwrap();
    assert_eq!(turns, 5, "the limit is exceeded by what the sibling used beyond its reservation");
}

#[test]
fn only_what_an_answer_used_beyond_its_reservation_may_exceed_the_limit() {
    let parent = parent(1000, &[("a", 900)]);
    let mut socket = ask_as(&parent, "b", 60).unwrap();
    assert!(turn(&mut socket, 55), "the reservation for another answer no longer fits");
    assert!(ask_as(&parent, "a", 890).is_err(), "until the socket is closed");
    drop(socket);
    let mut socket = ask_as(&parent, "b", 20).unwrap();
    assert!(turn(&mut socket, 50));
    drop(socket);
    assert!(ask_as(&parent, "a", 901).is_err());
    ask_as(&parent, "a", 900).unwrap().settle(used(900), now(0), |_, _| {});
    assert_eq!(all_used(&parent, now(0))[3], 1005, "5 of the 30 more than reserved");
}

#[test]
fn a_guarantee_that_comes_too_late_does_not_exceed_the_limit() {
    let before = parent(100, &[]);
    let _most = ask_as(&before, "b", 90).unwrap();
    let (after, begun) = before.with_rules(rules(100, &[("a", 30)]));
    assert_eq!((begun.len(), begun[0].child.as_deref()), (1, Some("a")), "its earlier usage is asked for");
    assert!(ask_as(&after, "a", 11).is_err());
    let _own = ask_as(&after, "a", 10).unwrap();
    assert!(ask_as(&after, "a", 1).is_err());
    let (less, _) = after.with_rules(rules(50, &[("a", 30)]));
    assert!(ask_as(&less, "a", 1).is_err(), "nor does one of a limit that was lowered");
}

#[test]
fn a_reload_that_guarantees_more_does_not_exceed_the_limit_by_what_was_used_beyond_reservations_before() {
    for (more, fits) in [(vec![("a", 500)], 100), (vec![("a", 100), ("c", 500)], 100), (vec![("c", 500)], 100)] {
        let before = parent(1000, &[("a", 100)]);
        ask_as(&before, "b", 500).unwrap().settle(used(900), now(0), |_, _| {});
        let (after, _) = before.with_rules(rules(1000, &more));
        let child = more.last().unwrap().0;
        assert!(ask_as(&after, child, fits + 1).is_err(), "{more:?}");
        assert!(ask_as(&after, child, fits).is_ok(), "{more:?}");
    }
}

#[test]
fn a_reload_that_takes_nothing_from_anybody_keeps_a_guarantee_that_holds() {
    let before = parent(100, &[("a", 30)]);
    ask_as(&before, "b", 70).unwrap().settle(used(90), now(0), |_, _| {});
    let (after, _) = before.with_rules(Rules { classes: true, ..rules(110, &[("a", 40)]) });
    assert!(ask_as(&after, "a", 41).is_err());
    let _own = ask_as(&after, "a", 40).unwrap();
    assert_eq!(all_used(&after, now(0))[1], 130, "the common part is the same");
}

#[test]
fn a_request_settles_where_it_was_guaranteed_also_after_a_reload() {
    let before = parent(100, &[("a", 30)]);
    let permit = ask_as(&before, "a", 20).unwrap();
    let (without, _) = before.with_rules(rules(100, &[]));
    let (again, begun) = without.with_rules(rules(100, &[("b", 10), ("a", 30)]));
    assert_eq!(begun.iter().map(|one| one.child.as_deref()).collect::<Vec<_>>(), [Some("b")]);
    permit.settle(used(5), now(0), |_, _| {});
    let of_a = again.snapshot(now(0))[0].guaranteed.iter().find(|(name, ..)| name == "a").cloned();
    assert_eq!(of_a, Some(("a".to_owned(), 30, 5)));
}

#[test]
fn several_periods_count_at_once_and_the_one_that_lasts_longest_is_named() {
    let berlin = Calendar { period: Period::Day, zone: Zone::named("Europe/Berlin").unwrap() };
    let rules = Rules {
        windows: vec![
            quota(Period::Hour, 10),
            Window { kind: LimitKind::Quota, calendar: berlin, limit: 15 },
            Window::utc(LimitKind::RequestQuota, Period::Month, 3),
        ],
        ..Rules::default()
    };
    let scopes = [Scope::new(Rank::Group, "g".into(), rules, false)];
    // Noon in UTC, one o'clock in Berlin.
    let at = |hour: u64| now((12 + hour) * 3_600_000);
    super::ask(&scopes, tokens(10), at(0)).unwrap().settle(used(10), at(0), |_, _| {});
    assert_eq!(limited(super::ask(&scopes, tokens(1), at(0)).unwrap_err()).1.unwrap().as_secs(), 3600);
    super::ask(&scopes, tokens(5), at(1)).unwrap().settle(used(5), at(1), |_, _| {});
    let Err(Refused::Limit { id, wait, .. }) = super::ask(&scopes, tokens(1), at(1)) else { panic!() };
    assert_eq!((id.calendar, wait.unwrap().as_secs()), (Some(berlin), 10 * 3600), "until midnight there, not here");
    super::ask(&scopes, tokens(1), at(11)).unwrap().settle(used(1), at(11), |_, _| {});
    let Err(Refused::Limit { id, limit, .. }) = super::ask(&scopes, tokens(1), at(12)) else { panic!() };
    assert_eq!((id.kind, limit), (LimitKind::RequestQuota, 3), "a request counts however little it used");
}

#[test]
fn alerts_come_once_per_period_of_each_limit() {
    let rules = Rules { windows: vec![quota(Period::Hour, 100), quota(Period::Day, 110)], ..Rules::default() };
    let scopes = [Scope::new(Rank::Group, "g".into(), rules, false)];
    let mut alerts = Vec::new();
    for hour in [0, 0, 1, 1] {
        if let Ok(permit) = super::ask(&scopes, tokens(25), now(hour * 3_600_000)) {
            permit.settle(used(45), now(hour * 3_600_000), |_, alert| alerts.push((alert.calendar.unwrap().period, alert.percent)));
        }
    }
    assert_eq!(alerts, [(Period::Hour, 80), (Period::Day, 80)]);
}

#[test]
fn who_takes_over_knows_each_period_and_each_guarantee_also_from_an_older_process() {
    let old = parent(100, &[("a", 30)]);
    let _held = ask_as(&old, "a", 20).unwrap();
    let new = parent(100, &[("a", 30)]);
    let tally: Tally = serde_json::from_str(&serde_json::to_string(&old.tally(now(0))).unwrap()).unwrap();
    new.add_difference(None, &tally, 0, now(0));
    assert_eq!(new.snapshot(now(0)), old.snapshot(now(0)));
    new.add_difference(Some(&tally), &tally.clone().ended(), 0, now(0));
    assert_eq!(all_used(&new, now(0))[2], 0);
    let older = r#"{"all":{"tokens":{"0":20},"in_flight":1},"quota":{"period":"hour","used":{"0":25}}}"#;
    let new = parent(100, &[]);
    new.add_difference(None, &serde_json::from_str(older).unwrap(), 0, now(0));
    assert_eq!(all_used(&new, now(0)), [0, 20, 1, 25, 0]);
}

#[test]
fn who_takes_over_keeps_the_new_periods_use_while_old_ones_are_settled() {
    let hour = |hour: u64| now(hour * 3_600_000);
    let (old, new) = (parent(1000, &[("a", 300)]), parent(1000, &[("a", 300)]));
    let ask = |parent: &Arc<Scope>, need: u64, at: Timestamps| {
        let mut path = Path::new();
        path.push(Arc::clone(parent), parent.guarantee_of("a"));
        admit(&path, tokens(need), at, |_, _| {})
    };
    for at in 0..3 {
        ask(&old, 10, hour(at)).unwrap().settle(used(10), hour(at), |_, _| {});
    }
    let late = ask(&old, 100, hour(3)).unwrap();
    let told = old.tally(hour(3));
    new.add_difference(None, &told, 0, hour(3));
    // The next hour begins: the new process has requests of its own, the old one settles one of before.
    ask(&new, 500, hour(4)).unwrap().settle(used(500), hour(4), |_, _| {});
    late.settle(used(140), hour(4), |_, _| {});
    new.add_difference(Some(&told), &old.tally(hour(4)), 0, hour(4));
    let of_hour = |at: u64| (all_used(&new, hour(at))[3], new.snapshot(hour(at))[1].guaranteed[0].2);
    assert_eq!((of_hour(4), of_hour(3)), ((500, 300), (140, 140)));
}

/// A tree, the nodes' limits, and what they guarantee: all may be anything.
#[derive(Debug, Clone)]
struct Tree {
    /// The parent of each node, the limits of tokens per minute and hour and of concurrent requests, and the part in
    /// percent that its parent guarantees.
    nodes: Vec<(usize, [u64; 3], u64)>,
}

fn tree() -> impl Strategy<Value = Tree> {
    let node = (any::<prop::sample::Index>(), [20u64..400, 50u64..1500, 1u64..8], 0u64..45);
    prop::collection::vec(node, 1..12).prop_map(|all| {
        let nodes = all.iter().enumerate().map(|(at, (parent, limits, part))| (parent.index(at.max(1)).min(at), *limits, *part));
        Tree { nodes: nodes.collect() }
    })
}

/// The scopes of a tree, with the path of each node.
struct Grown {
    scopes: Vec<Arc<Scope>>,
    paths: Vec<Path>,
    /// What each node's guarantee is for, by parent.
    parents: Vec<Option<usize>>,
}

const DEEPEST: usize = 6;

fn grow(tree: &Tree) -> Grown {
    let name = |at: usize| format!("node {at}");
    let mut parents: Vec<Option<usize>> = tree.nodes.iter().enumerate().map(|(at, node)| (at > 0).then_some(node.0)).collect();
    for at in 0..parents.len() {
        if std::iter::successors(Some(at), |at| parents[*at]).count() > DEEPEST {
            parents[at] = Some(0);
        }
    }
    let scopes: Vec<Arc<Scope>> = tree
        .nodes
        .iter()
        .enumerate()
        .map(|(at, (_, limits, _))| {
            let [minute, hour, concurrent] = *limits;
            let mut left = 100u64;
            let mut guaranteed = Vec::new();
            for child in (0..parents.len()).filter(|child| parents[*child] == Some(at)) {
                let part = tree.nodes[child].2.min(left);
                left -= part;
                if part > 0 {
                    let amounts = [minute, concurrent, hour].map(|limit| limit * part / 100).into();
                    guaranteed.push(Guarantee { child: name(child), amounts });
                }
            }
            let windows = vec![quota(Period::Hour, hour)];
            let rules = Rules { tokens_per_minute: Some(minute), concurrent: Some(concurrent), windows, guaranteed, ..Rules::default() };
            Scope::new(Rank::Group, name(at), rules, false)
        })
        .collect();
    let path = |at: usize| {
        let mut path = Path::new();
        let (mut below, mut next) = (None, Some(at));
        while let Some(at) = next {
            let via = below.and_then(|below| scopes[at].guarantee_of(&name(below)));
            path.push(Arc::clone(&scopes[at]), via);
            (below, next) = (Some(at), parents[at]);
        }
        path
    };
    let paths = (0..scopes.len()).map(path).collect();
    Grown { scopes, paths, parents }
}

impl Grown {
    /// What a child still has of its guarantee at its parent, of each limit.
    fn left_of_guarantee(&self, child: usize, at: Timestamps) -> HashMap<LimitId, u64> {
        let Some(parent) = self.parents[child] else { return HashMap::new() };
        let name = format!("node {child}");
        let of_limit = |one: &LimitUse| {
            let (_, kept, used) = one.guaranteed.iter().find(|(of, ..)| *of == name)?;
            Some((one.id, kept - used))
        };
        self.scopes[parent].snapshot(at).iter().filter_map(of_limit).collect()
    }

    /// Whether a refusal is for something that was guaranteed to the one who asked.
    fn breaks_a_promise(&self, asker: usize, need: u64, refused: &Refused, at: Timestamps) -> bool {
        let Refused::Limit { scope, id, .. } = refused else { return true };
        let child = std::iter::successors(Some(asker), |at| self.parents[*at])
            .find(|child| self.parents[*child].is_some_and(|parent| self.scopes[parent].name == *scope));
        let need = if id.kind == LimitKind::Concurrent { 1 } else { need };
        child.is_some_and(|child| self.left_of_guarantee(child, at).get(id).is_some_and(|left| need <= *left))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { node: prop::sample::Index, tokens: u64 },
    Settle { which: prop::sample::Index, percent: u64 },
    Drop { which: prop::sample::Index, spent: bool },
    Pass { millis: u64 },
    SetClock { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<prop::sample::Index>(), 0u64..60).prop_map(|(node, tokens)| Step::Ask { node, tokens }),
        4 => (any::<prop::sample::Index>(), 0u64..160).prop_map(|(which, percent)| Step::Settle { which, percent }),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, spent)| Step::Drop { which, spent }),
        2 => (0u64..30_000).prop_map(|millis| Step::Pass { millis }),
        1 => (-4000i64..4000).prop_map(|seconds| Step::SetClock { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens in whichever order: no node's use exceeds a limit by more than what requests used beyond their
    /// reservations, and nobody is refused within its guarantee.
    #[test]
    fn limits_and_guarantees_hold_at_every_node(tree in tree(), steps in prop::collection::vec(step(), 1..250), exact in any::<bool>()) {
        let grown = grow(&tree);
        let (mut millis, mut offset, mut beyond) = (100_000_000u64, 0i64, 0u64);
        let mut open: Vec<(Permit<Mutex>, u64)> = Vec::new();
        for step in steps {
            let mut at = now(millis);
            at.unix += offset;
            match step {
                Step::Ask { node, tokens: need } => {
                    let node = node.index(grown.paths.len());
                    match admit(&grown.paths[node], tokens(need), at, |_, _| {}) {
                        Ok(permit) => open.push((permit, need)),
                        Err(refused) => {
                            prop_assert!(!grown.breaks_a_promise(node, need, &refused, at), "{refused:?} for {need} of {node}");
                        }
                    }
                }
                Step::Settle { which, percent } if !open.is_empty() => {
                    let (permit, need) = open.swap_remove(which.index(open.len()));
                    let really = need * if exact { percent.min(100) } else { percent } / 100;
                    beyond += really.saturating_sub(need);
                    permit.settle(used(really), at, |_, _| {});
                }
                Step::Drop { which, spent } if !open.is_empty() => {
                    let (mut permit, _) = open.swap_remove(which.index(open.len()));
                    if spent { permit.spend() }
                }
                Step::Settle { .. } | Step::Drop { .. } => {}
                Step::Pass { millis: passed } => millis += passed,
                Step::SetClock { seconds } => offset = seconds,
            }
            for scope in &grown.scopes {
                for one in scope.snapshot(at) {
                    prop_assert!(one.used <= one.limit + beyond, "{} {:?} beyond {}", scope.name, one, beyond);
                    let within: u64 = one.guaranteed.iter().map(|(_, kept, used)| used.min(kept)).sum();
                    prop_assert!(within <= one.used);
                }
            }
        }
        open.clear();
        for scope in &grown.scopes {
            let left = all_used(scope, now(millis + 61_000));
            prop_assert_eq!([left[1], left[2]], [0, 0]);
        }
    }
}

/// Ten thousand requests of four threads, with callers that leave: none waits for another for ever, no node's use is ever
/// above its limit, and nothing stays reserved.
#[test]
fn ten_thousand_at_once_stay_within_the_limits_of_every_node() {
    let nodes = (0..31).map(|at: usize| {
        let part = if at.is_multiple_of(3) { 20 } else { 0 };
        (at.saturating_sub(1) / 2, [60_000 / (at as u64 + 1) + 50, 200_000 / (at as u64 + 1) + 500, 200 / (at as u64 + 1) + 2], part)
    });
    let grown = Arc::new(grow(&Tree { nodes: nodes.collect() }));
    let admitted = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let (grown, admitted) = (Arc::clone(&grown), Arc::clone(&admitted));
            std::thread::spawn(move || {
                let mut random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(thread + 1);
                let mut next = || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random
                };
                let mut open = Vec::new();
                for round in 0..2500u64 {
                    let at = now(round * 20);
                    let path = &grown.paths[next() as usize % grown.paths.len()];
                    let need = next() % 50;
                    if let Ok(permit) = admit(path, tokens(need), at, |_, _| {}) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                        open.push((permit, need));
                    }
                    for scope in path.steps().iter().map(|step| &step.scope) {
                        for one in scope.snapshot(at) {
                            assert!(one.used <= one.limit, "{} {one:?}", scope.name);
                        }
                    }
                    while open.len() > 20 {
                        let (mut permit, need) = open.swap_remove(next() as usize % open.len());
                        match next() % 3 {
                            0 => permit.settle(used(need / 2), at, |_, _| {}),
                            1 => permit.spend(),
                            _ => drop(permit),
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(admitted.load(Ordering::Relaxed) > 1000);
    for scope in &grown.scopes {
        assert_eq!(all_used(scope, now(50_000))[2], 0);
    }
}

proptest! {
    /// Wherever a reload moves groups: two requests never lock the same two scopes in different orders.
    #[test]
    fn all_paths_lock_in_one_order(orders in prop::collection::vec(Just((0..7).collect::<Vec<usize>>()).prop_shuffle(), 2..6)) {
        let scopes: Vec<_> = (0..7).map(|at| Scope::<Mutex>::new(Rank::Group, format!("{at}"), Rules { concurrent: Some(at), ..Rules::default() }, false)).collect();
        let names = |path: &Path| path.steps().iter().map(|step| step.scope.name.clone()).collect::<Vec<_>>();
        let paths: Vec<Path> = orders.iter().map(|order| {
            // Those after a reload have other rules, but the same state.
            order.iter().map(|at| scopes[*at].with_rules(Rules { concurrent: Some(9), ..Rules::default() }).0).collect()
        }).collect();
        for path in &paths {
            prop_assert_eq!(names(path), names(&paths[0]));
        }
        let twice: Path = [&scopes[0], &scopes[0]].into_iter().cloned().collect();
        prop_assert_eq!(twice.steps().len(), 1, "a scope that is locked can't be locked again");
    }
}

/// Groups change places while requests of both configs run: the model checker finds no deadlock.
#[test]
fn a_tree_that_is_turned_round_does_not_deadlock() {
    let check = || {
        let new = |name: &str| {
            let rules = Rules { tokens_per_minute: Some(40), concurrent: Some(2), ..Rules::default() };
            Scope::<super::Checked<State>>::new(Rank::Group, name.into(), rules, false)
        };
        let (one, other, leaf) = (new("one"), new("other"), new("leaf"));
        let threads: Vec<_> = (0..3)
            .map(|index| {
                let order = if index == 0 { [&leaf, &one, &other] } else { [&other, &one, &leaf] };
                let path: Path<super::Checked<State>> = order.into_iter().cloned().collect();
                shuttle::thread::spawn(move || {
                    if let Ok(permit) = admit(&path, tokens(15), now(1000), |_, _| {}) {
                        permit.settle(Used { tokens: 5, cost: Money(0) }, now(1000), |_, _| {});
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(all_used(&one, now(1000))[2], 0);
    };
    shuttle::check_pct(check, 1_000, 3);
    shuttle::check_random(check, 1_000);
}
