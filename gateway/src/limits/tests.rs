//! Several nodes share the limits of a tree, on injected time: through the real scripts in a real Redis, and through a model
//! of them, which is quicker.

mod late;
mod many;
mod model;
mod real;
mod tree;
mod upgrades;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use spillway_plugins::limits::{Calendar, Demand, LimitId, LimitKind, Period, Timestamps, Used};
use spillway_plugins::prices::Money;

use self::model::Model;
use self::real::Real;
use self::tree::{Given, Tree};
use self::world::{Event, Link, NODES, World, event};
use super::agreement::{AskedLimit, AskedPart, Question};

/// Redis, as nodes see it: the model, and the real one if there is one. Both always give the same answer.
#[derive(Default)]
struct Memory {
    model: Model,
    real: Option<Real>,
}

impl Memory {
    fn agree(&mut self, question: &Question, now: i64) -> Vec<u64> {
        let answer = self.model.agree(question, now);
        if let Some(real) = &mut self.real {
            assert_eq!(real.agree(question, now), answer, "{question:?}");
        }
        answer
    }

    fn beat(&mut self, process: &str, answered: i64, now: i64) -> (u64, i64, i64) {
        let answer = self.model.beat(process, answered, now);
        if let Some(real) = &mut self.real {
            assert_eq!(real.beat(process, answered, now), answer);
        }
        answer
    }

    /// What it has is copied, to a replica or to the disk.
    fn copy(&mut self) {
        self.model.copy();
        self.real.iter_mut().for_each(Real::copy);
    }

    /// It goes on with the copy.
    fn fail_over(&mut self) {
        self.model.fail_over();
        self.real.iter_mut().for_each(Real::fail_over);
    }

    /// It loses everything, as when an empty replica takes over.
    fn flush(&mut self) {
        self.model.flush();
        self.real.iter_mut().for_each(Real::flush);
    }
}

fn now(millis: u64) -> Timestamps {
    Timestamps { monotonic: Duration::from_millis(millis), unix: i64::try_from(millis / 1000).unwrap() }
}

fn demand(tokens: u64) -> Demand {
    Demand { tokens, cost: Money(tokens), ..Demand::default() }
}

fn used(tokens: u64) -> Used {
    Used { tokens, cost: Money(tokens) }
}

fn fixed(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Cases from a seed of this run, which a failure prints; the environment variable sets it. It stops early on a slow machine.
#[expect(clippy::disallowed_methods, reason = "only the number of cases depends on it")]
fn fresh<S: Strategy>(variable: &str, cases: u32, strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let given = std::env::var(variable).ok().map(|seed| seed.parse().unwrap());
    let until = given.is_none().then(|| Instant::now() + Duration::from_secs(20));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    let mut runner = TestRunner::new(fixed(cases, seed));
    let found = runner.run(strategy, |value| if until.is_none_or(|until| Instant::now() < until) { test(value) } else { Ok(()) });
    found.unwrap_or_else(|found| panic!("{variable}={seed}: {found}"));
}

fn history() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..120)
}

proptest! {
    #![proptest_config(fixed(250, 53))]

    /// Whatever happens to requests, nodes, configs and Redis: at no node of the tree and in no period more is used than the
    /// limit and what the bound in `docs/budgets.md` names.
    #[test]
    fn three_nodes_stay_within_the_bound_at_every_node_of_the_tree(tree in tree::any(), events in history()) {
        World::new(tree, Memory::default()).run(events);
    }
}

/// The same through the real scripts.
#[test]
fn three_nodes_with_a_real_redis_stay_within_the_bound_at_every_node_of_the_tree() {
    let mut real = Some(Real::start());
    let cases = TestRunner::new(fixed(32, 54));
    each(cases, (tree::any(), history()), |(tree, events)| {
        let memory = Memory { real: real.take().map(Real::emptied), model: Model::default() };
        real = World::new(tree, memory).run(events).real;
    });
}

/// Calls `test` with as many values as the runner is configured for. Without shrinking: the server is one for all.
fn each<S: Strategy>(mut runner: TestRunner, strategy: S, mut test: impl FnMut(S::Value)) {
    for _ in 0..runner.config().cases {
        test(strategy.new_tree(&mut runner).unwrap().current());
    }
}

/// One call of a script, of any content.
#[derive(Debug, Clone)]
enum Call {
    Agree(Question),
    Beat {
        process: usize,
        /// How long ago the last answer was, if there was one.
        answered: Option<i64>,
    },
    /// A share that a node of the version before sent: of one part only.
    Before {
        place: usize,
        node: usize,
        amount: u64,
    },
    Copy,
    FailOver,
    Flush,
}

fn question() -> impl Strategy<Value = Question> {
    let part = (0usize..3, [0u64..120, 0u64..150, 0u64..150, 0u64..200]).prop_map(|(place, [limit, used, had, wanted])| AskedPart {
        place: format!("part {place}"),
        limit,
        used,
        had,
        wanted,
    });
    let limit = (0usize..3, 0usize..3, 0u64..300, 0u64..40, prop::collection::vec(part, 1..4)).prop_map(
        |(place, prefix, limit, beyond, mut parts)| {
            let prefix = ["", "2:", "3:"][prefix];
            // A part is of one limit, and named once.
            parts.sort_by(|one, other| one.place.cmp(&other.place));
            parts.dedup_by(|one, other| one.place == other.place);
            let of = if prefix.is_empty() { "period" } else { "rates" };
            parts.iter_mut().for_each(|part| part.place = format!("{of} {place} {}", part.place));
            AskedLimit { place: format!("{of} {place}"), prefix: prefix.to_owned(), keep: 1_000_000, limit, beyond, parts }
        },
    );
    (0usize..3, prop::collection::vec(limit, 0..4)).prop_map(|(node, limits)| {
        let mut once = BTreeMap::new();
        limits.into_iter().for_each(|limit| drop(once.insert((limit.place.clone(), limit.prefix.clone()), limit)));
        Question { process: format!("node{node}.p"), node: format!("node{node}"), limits: once.into_values().collect() }
    })
}

fn call() -> impl Strategy<Value = (Call, i64)> {
    let call = prop_oneof![
        12 => question().prop_map(Call::Agree),
        3 => (0usize..3, prop::option::of(0i64..7000)).prop_map(|(process, answered)| Call::Beat { process, answered }),
        2 => (0usize..3, 0usize..3, 0u64..100).prop_map(|(place, node, amount)| Call::Before { place, node, amount }),
        1 => Just(Call::Copy),
        1 => Just(Call::FailOver),
        1 => Just(Call::Flush),
    ];
    // The clock is also set back.
    (call, prop_oneof![20 => 0i64..900, 3 => 1500i64..7000, 2 => 50_000i64..140_000, 1 => -5000i64..0])
}

/// The tests with the model mean something, because it answers what the scripts answer: to questions that no node asks, too.
#[test]
fn the_model_and_the_scripts_give_the_same_answers() {
    let mut real = Some(Real::start());
    let cases = TestRunner::new(fixed(150, 55));
    let mut answers = 0;
    each(cases, prop::collection::vec(call(), 1..60), |calls| {
        let mut memory = Memory { real: real.take().map(Real::emptied), model: Model::default() };
        let mut time = 1_000_000_000;
        for (call, passed) in calls {
            time += passed;
            match call {
                Call::Agree(question) => answers += memory.agree(&question, time).len(),
                Call::Beat { process, answered } => {
                    memory.beat(&format!("node{process}.p"), answered.map_or(0, |ago| time - ago), time);
                }
                Call::Before { place, node, amount } => {
                    let (place, field) = (format!("period {place} part {place}"), format!("node{node}"));
                    memory.model.put(&place, &field, amount, time);
                    memory.real.as_mut().unwrap().put(&place, &field, amount, time);
                }
                Call::Copy => memory.copy(),
                Call::FailOver => memory.fail_over(),
                Call::Flush => memory.flush(),
            }
        }
        real = memory.real;
    });
    assert!(answers > 10_000, "{answers}");
}

/// A parent with two children, of which a part of everything is guaranteed to the first one.
fn family(percent: [u64; 2]) -> Tree {
    let child = |parts| Given { parent: Some(0), minute: 100_000, at_once: 1000, hour: 100_000, day: 100_000, parts, borrow: true };
    let parent = Given { parent: None, minute: 100_000, at_once: 100, hour: 2000, day: 4000, parts: [0; 2], borrow: true };
    Tree(vec![parent, child(percent), child([0; 2])])
}

/// When an hour and a day begin.
const HOUR: u64 = 172_800_000;
const OWN: usize = 1;
const SIBLING: usize = 2;

/// Asks at all nodes in turn until `rounds` in a row were refused; how much was used.
fn take(world: &mut World, child: usize, need: u64, really: u64, rounds: usize) -> u64 {
    let (mut taken, mut refused) = (0, 0);
    while refused < rounds {
        match world.ask(refused % NODES, child, need) {
            Ok(permit) => {
                taken += really;
                refused = 0;
                world.settle(permit, really);
            }
            Err(_) => {
                refused += 1;
                world.pass(1000);
            }
        }
    }
    taken
}

fn both(mut test: impl FnMut(Memory)) {
    test(Memory::default());
    test(Memory { model: Model::default(), real: Some(Real::start()) });
}

#[test]
fn a_guarantee_holds_among_nodes_wherever_it_is_asked_for() {
    both(|memory| {
        let mut world = World::at(HOUR, family([30; 2]), memory);
        world.pass(4000);
        let siblings = take(&mut world, SIBLING, 20, 20, 200);
        assert_eq!(siblings, 2000 * 70 / 100, "all but what is guaranteed, of the hour");
        assert_eq!(take(&mut world, OWN, 10, 10, 200), 2000 * 30 / 100);
    });
}

#[test]
fn a_guarantee_holds_among_nodes_though_siblings_at_another_one_used_more_than_they_reserved() {
    both(|memory| {
        let mut world = World::at(HOUR, family([30; 2]), memory);
        world.pass(4000);
        // The last one uses much more than it reserved.
        let siblings = take(&mut world, SIBLING, 50, 50, 12);
        let open = world.settled_beyond(0, SIBLING, 300);
        assert!(siblings + open > 2000 * 70 / 100, "{siblings} {open}");
        world.pass(2000);
        let own: u64 = take(&mut world, OWN, 10, 10, 200);
        assert_eq!(own, 2000 * 30 / 100, "all of it, at any node; the limit is exceeded by what the sibling used beyond");
        assert_eq!(take(&mut world, SIBLING, 1, 1, 3), 0);
    });
}

#[test]
fn a_guarantee_that_is_removed_node_by_node_does_not_exceed_the_limit() {
    both(|memory| {
        let mut world = World::at(HOUR, family([50, 0]), memory);
        world.pass(4000);
        // The child uses its guarantee at nodes that still have it; siblings all they get at one that doesn't.
        let own = take(&mut world, OWN, 10, 10, 6).min(2000);
        world.reload(0);
        world.pass(1000);
        let siblings = take(&mut world, SIBLING, 10, 10, 200);
        assert!(own + siblings <= 2000, "{own} and {siblings}");
        assert!(own + siblings >= 1900, "{own} and {siblings}");
        world.reload(1);
        world.reload(2);
        world.pass(3000);
        let rest = take(&mut world, OWN, 1, 1, 50);
        assert!(own + siblings + rest <= 2000);
    });
}

#[test]
fn a_node_that_is_cut_off_uses_at_most_an_equal_part_beside_the_others() {
    both(|memory| {
        let only = Given { parent: None, minute: 900, at_once: 100, hour: 1_000_000, day: 1_000_000, parts: [0; 2], borrow: true };
        let mut world = World::at(HOUR, Tree(vec![only]), memory);
        world.pass(4000);
        let all = world.ask(0, 0, 900).unwrap();
        world.settle(all, 900);
        // Shortly before what it used no longer counts. It has requests in flight, so that it may have some afterwards.
        world.pass(50_000);
        let held: Vec<_> = (0..9).map(|_| world.ask(0, 0, 0).unwrap()).collect();
        world.pass(1000);
        world.link(0, Link::Down);
        drop(held);
        let mut twice = false;
        for _ in 0..40 {
            // As soon as something is free anywhere, it is used.
            world.pass(5000);
            for (node, need) in [(0, 900), (0, 300), (1, 900), (2, 600), (1, 300)] {
                if let Ok(open) = world.ask(node, 0, need) {
                    twice |= (node, need) == (0, 900);
                    world.settle(open, need);
                }
                world.check((node, need));
            }
        }
        assert!(twice, "at first it has its share");
    });
}

#[test]
fn a_copy_from_before_gives_nothing_away_until_all_nodes_have_said_what_they_have() {
    both(|memory| {
        let only = Given { parent: None, minute: 900, at_once: 1, hour: 900, day: 900, parts: [0; 2], borrow: true };
        let mut world = World::at(HOUR, Tree(vec![only]), memory);
        world.pass(4000);
        let held = world.ask(0, 0, 100).unwrap();
        world.pass(1000);
        world.happen(&Event::Copy);
        world.pass(6000);
        world.happen(&Event::FailOver);
        // By the copy, the other process was heard of long ago.
        assert!(world.ask(1, 0, 1).is_err());
        world.pass(1000);
        assert!(world.ask(1, 0, 1).is_err());
        world.settle(held, 100);
        world.pass(4000);
        assert!(world.ask(1, 0, 1).is_ok());
    });
}

#[test]
fn nothing_is_left_for_siblings_when_only_what_is_guaranteed_to_others_is() {
    both(|memory| {
        let mut world = World::at(HOUR, family([30; 2]), memory);
        world.pass(4000);
        take(&mut world, SIBLING, 20, 20, 12);
        let of_hour = LimitId { kind: LimitKind::Quota, calendar: Some(Calendar::utc(Period::Hour)) };
        let (scope, last) = world.agreed(0, 0);
        assert!(last.is_used_up(scope, of_hour, None), "a sibling needn't try again");
        assert!(!last.is_used_up(scope, of_hour, scope.guarantee_of(&tree::name(OWN))));
        let is_kept = |need: u64| scope.is_kept_for_others(of_hour, &demand(need), world.time());
        assert!(is_kept(600) && !is_kept(601 + 3 * 20), "as much as is guaranteed");
    });
}

#[test]
fn a_quota_is_used_up_exactly_through_a_chain_of_upgrades_at_each_node() {
    both(|memory| {
        let mut world = World::at(HOUR, family([30; 2]), memory);
        world.pass(4000);
        let (mut taken, mut open) = (0, Vec::new());
        for round in 0..24 {
            let node = round % NODES;
            for child in [OWN, SIBLING, SIBLING] {
                open.push(world.ask(node, child, 20).unwrap());
                taken += 20;
            }
            // Some are settled where they began, after one or two other processes have taken over.
            if open.len() > 8 {
                world.settle(open.remove(3), 20);
            }
            world.upgrade(node);
            if round % 5 == 0 {
                world.upgrade(node);
                world.pass(250);
            }
        }
        open.into_iter().for_each(|open| world.settle(open, 20));
        world.pass(2000);
        taken += take(&mut world, SIBLING, 10, 10, 30) + take(&mut world, OWN, 10, 10, 30);
        assert_eq!(taken, 2000);
    });
}

#[test]
fn an_upgrade_is_no_loss_of_what_redis_answered() {
    both(|mut memory| {
        let mut time = 1_000_000;
        let mut heard = 0;
        for _ in 0..20 {
            time += 250;
            heard = memory.beat("a.1", heard, time).2;
        }
        // The new process prepares, between two beats of the old one.
        time += 100;
        let prepared = memory.beat("preparing:b.2", 0, time).2;
        time += 50;
        let (processes, twin, _) = memory.beat("a.1", heard, time);
        assert_eq!((processes, twin), (1, 0), "one that only prepares to take over is no node");
        assert!(prepared > heard && !Beating::is_settling(&mut memory, 0, time));
    });
}

#[test]
fn a_process_that_was_heard_only_before_another_one_has_the_same_name_for_no_reason_to_warn() {
    both(|mut memory| {
        memory.beat("a.1", 0, 1_000_000);
        // It is killed, and started again.
        let (_, twin, since) = memory.beat("a.2", 0, 1_000_300);
        assert!(twin > 0 && twin < since);
        assert_eq!(memory.beat("a.2", since, 1_000_550).1, twin, "nothing new is heard of it");
        // Another one with this name.
        memory.beat("a.3", 0, 1_000_600);
        assert!(memory.beat("a.2", since, 1_000_800).1 > since);
    });
}

/// Two processes report four times a second; when they were heard last.
struct Beating([i64; 2]);

impl Beating {
    const NAMES: [&'static str; 2] = ["a.1", "b.1"];

    fn beat(&mut self, memory: &mut Memory, process: usize, time: i64) {
        self.0[process] = memory.beat(Self::NAMES[process], self.0[process], time).2;
    }

    /// Whether a process gets nothing.
    fn is_settling(memory: &mut Memory, process: usize, time: i64) -> bool {
        let name = Self::NAMES[process].to_owned();
        memory.agree(&Question { process: name.clone(), node: name, limits: Vec::new() }, time) == [1]
    }
}

#[test]
fn redis_gives_nothing_away_if_it_has_lost_what_it_just_answered() {
    both(|mut memory| {
        let mut beating = Beating([0; 2]);
        let mut time = 1_000_000;
        for _ in 0..20 {
            time += 250;
            (0..2).for_each(|process| beating.beat(&mut memory, process, time));
        }
        assert!(!Beating::is_settling(&mut memory, 0, time));
        memory.copy();
        time += 250;
        beating.beat(&mut memory, 0, time);
        memory.fail_over();
        time += 100;
        beating.beat(&mut memory, 1, time);
        assert!(!Beating::is_settling(&mut memory, 1, time), "of the other one it knows all that it answered");
        beating.beat(&mut memory, 0, time + 100);
        assert!((0..2).all(|process| Beating::is_settling(&mut memory, process, time + 100)));
    });
}

#[test]
fn a_node_that_was_away_stops_nobody_when_it_comes_back() {
    both(|mut memory| {
        let mut beating = Beating([0; 2]);
        let mut time = 1_000_000;
        beating.beat(&mut memory, 0, time);
        for away in [1000, 4900, 6000, 100_000] {
            for _ in 0..(away / 250).max(20) {
                time += 250;
                beating.beat(&mut memory, 1, time);
            }
            beating.beat(&mut memory, 0, time);
            assert!((0..2).all(|process| !Beating::is_settling(&mut memory, process, time)), "after {away} ms");
        }
    });
}
