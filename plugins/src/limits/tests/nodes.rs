//! Several nodes with a tree of scopes: the agreement is simulated, with a memory that stalls, is flushed, and fails over
//! to a replica that lacks the last writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Mutex, now, quota, tokens, used};
use crate::limits::share::Before;
use crate::limits::*;

const NODES: usize = 3;
const GRACE: u64 = 3000;
const RATE_GONE: u64 = 63_000;
const GONE: u64 = 5000;
const TICK: u64 = 250;

/// What Redis has: since when it counts as complete, and the shares of each part, with their time.
#[derive(Debug, Clone, Default)]
struct Memory {
    born: Option<u64>,
    parts: HashMap<String, HashMap<usize, (u64, u64)>>,
}

/// The name of a part in the memory.
fn key(scope: &str, asked: &Asked, part: &Part) -> String {
    format!("{scope} {:?} {:?} {:?}", asked.id, asked.span.map(|span| span.start), part.child)
}

impl Memory {
    /// The same as the gateway's `agree.lua`.
    fn agree(&mut self, node: usize, scope: &str, proposal: &Proposal, now: u64) -> (bool, Vec<Granted>) {
        let born = *self.born.get_or_insert(now);
        let settling = now < born || now - born < GRACE;
        let mut granted = Vec::new();
        for asked in &proposal.limits {
            let gone = if asked.id.kind == LimitKind::Concurrent { GONE } else { RATE_GONE };
            let others: Vec<u64> = asked
                .parts
                .iter()
                .map(|part| {
                    let shares = self.parts.entry(key(scope, asked, part)).or_default();
                    shares.retain(|other, (_, stamp)| *other == node || asked.span.is_some() || now - *stamp <= gone);
                    shares.iter().filter(|(other, _)| **other != node).map(|(_, (share, _))| share).sum()
                })
                .collect();
            let used: u64 = asked.parts.iter().map(|part| part.used).sum();
            let mut free = asked.limit.saturating_sub(others.iter().sum::<u64>()).saturating_sub(used);
            let mut shares = Vec::new();
            for (part, others) in asked.parts.iter().zip(&others) {
                let most = match settling {
                    true => part.had.min(part.wanted),
                    false => part.limit.saturating_sub(*others).min(part.wanted).min(part.used + free),
                };
                let share = most.max(part.used);
                free = free.saturating_sub(share - part.used);
                self.parts.entry(key(scope, asked, part)).or_default().insert(node, (share, now));
                shares.push(share);
            }
            for ((part, others), most) in asked.parts.iter().zip(others).zip(shares) {
                let left = part.limit.saturating_sub(others).saturating_sub(most).min(free);
                free -= left;
                granted.push(Granted { most, left });
            }
        }
        (settling, granted)
    }
}

/// A node's scope, and its last agreement.
struct Shared {
    scope: Arc<Scope>,
    last: Option<Last>,
}

struct Last {
    at: u64,
    answer: Share,
    share: Share,
    /// Each part that was asked for, and what was granted.
    parts: Vec<(String, LimitId, u64)>,
}

struct Node {
    /// The parent, and its children `a` and `b`.
    scopes: [Shared; 3],
    reachable: bool,
    was_alone: bool,
}

struct World {
    nodes: Vec<Node>,
    memory: Memory,
    /// The memory as a replica has it.
    replica: Memory,
    now: u64,
    /// By how much a limit of the parent may be exceeded because writes were lost.
    lost: HashMap<LimitId, u64>,
}

const LIMIT: u64 = 1000;
const PART: u64 = 30;

fn limits(name: &str) -> Rules {
    let guaranteed = match name {
        "parent" => vec![Guarantee { child: "a".into(), amounts: vec![LIMIT * PART / 100, 3, LIMIT * PART / 50, LIMIT * PART / 25] }],
        _ => Vec::new(),
    };
    Rules {
        tokens_per_minute: Some(LIMIT),
        concurrent: Some(10),
        windows: vec![quota(Period::Hour, 2 * LIMIT), quota(Period::Day, 4 * LIMIT)],
        guaranteed,
        ..Rules::default()
    }
}

impl World {
    fn new() -> Self {
        let shared = |name: &str| Shared { scope: Scope::new(Rank::Group, name.into(), limits(name), true), last: None };
        let node = |_| Node { scopes: ["parent", "a", "b"].map(shared), reachable: true, was_alone: false };
        let memory = Memory { born: Some(0), ..Memory::default() };
        World { nodes: (0..NODES).map(node).collect(), replica: memory.clone(), memory, now: 100_000_000, lost: HashMap::new() }
    }

    fn agree(&mut self, node: usize, scope: usize) {
        let at = now(self.now);
        let Node { scopes, reachable, was_alone } = &mut self.nodes[node];
        let Shared { scope, last } = &mut scopes[scope];
        let proposal = scope.propose(at);
        if *reachable {
            let (_, granted) = self.memory.agree(node, &scope.name, &proposal, self.now);
            let parts = proposal.limits.iter().flat_map(|asked| asked.parts.iter().map(|part| (key(&scope.name, asked, part), asked.id)));
            let parts = parts.zip(&granted).map(|((key, id), granted)| (key, id, granted.most)).collect();
            let share = Share::granted(&proposal, granted);
            scope.set_share(Some(share.clone()));
            *last = Some(Last { at: self.now, answer: share.clone(), share, parts });
        } else {
            *was_alone = true;
            let before = last.as_ref().map(|last| {
                let since = Duration::from_millis(self.now - last.at);
                Before { answer: &last.answer, share: &last.share, since }
            });
            let nodes = NODES as u64;
            let lasting = |limit: u64, known: Option<(u64, u64)>| known.map_or(limit / nodes, |(had, left)| had + left / nodes);
            scope.set_share(Some(proposal.alone(before, nodes, lasting)));
        }
        if let Some(last) = last {
            last.share = if *reachable { last.share.clone() } else { proposal.kept };
        }
    }

    fn ask(&mut self, node: usize, child: usize, need: u64) -> Result<Permit<Mutex>, Refused> {
        for round in 0..3 {
            let scopes = &self.nodes[node].scopes;
            let mut path = Path::new();
            path.push(Arc::clone(&scopes[child].scope), None);
            path.push(Arc::clone(&scopes[0].scope), scopes[0].scope.guarantee_of(&scopes[child].scope.name));
            match admit(&path, tokens(need), now(self.now), |_, _| {}) {
                Err(Refused::Share(lacking)) if round < 2 => {
                    let names: Vec<String> = lacking.iter().map(|(at, _)| path.steps()[*at].scope.name.clone()).collect();
                    for name in names {
                        let at = self.nodes[node].scopes.iter().position(|shared| shared.scope.name == name).unwrap();
                        self.agree(node, at);
                    }
                }
                result => return result,
            }
        }
        unreachable!()
    }

    /// Time passes; each node agrees on what has changed as often as a gateway does.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / TICK {
            self.now += TICK;
            for node in 0..NODES {
                for scope in 0..3 {
                    let shared = &self.nodes[node].scopes[scope];
                    let fresh = shared.last.as_ref().is_some_and(|last| self.now - last.at < 1000);
                    if !self.nodes[node].reachable || shared.scope.wants_agreement(now(self.now), fresh) {
                        self.agree(node, scope);
                    }
                }
            }
        }
    }

    /// The replica becomes the memory. What it lacks of shares that nodes have may be given away a second time.
    fn fail_over(&mut self) {
        let held = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(node, of)| of.scopes.iter().filter_map(move |shared| Some((node, shared.last.as_ref()?))));
        for (node, last) in held {
            for (key, id, share) in &last.parts {
                let known = self.replica.parts.get(key).and_then(|shares| shares.get(&node)).map_or(0, |(share, _)| *share);
                *self.lost.entry(*id).or_default() += share.saturating_sub(known);
            }
        }
        self.memory = self.replica.clone();
    }

    /// What all nodes use of each limit of a scope, and the limit.
    fn all_used(&self, scope: usize) -> Vec<(LimitId, u64, u64)> {
        let mut sums: Vec<(LimitId, u64, u64)> = Vec::new();
        for node in &self.nodes {
            for one in node.scopes[scope].scope.snapshot(now(self.now)) {
                match sums.iter_mut().find(|(id, ..)| *id == one.id) {
                    Some((_, used, _)) => *used += one.used,
                    None => sums.push((one.id, one.used, one.limit)),
                }
            }
        }
        sums
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { node: usize, child: usize, tokens: u64 },
    End { which: prop::sample::Index, percent: u64 },
    Leave { which: prop::sample::Index, spent: bool },
    Pass { millis: u64 },
    Replicate,
    FailOver,
    Flush,
    Reach { node: usize, reachable: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..NODES, 1usize..3, 0u64..120).prop_map(|(node, child, tokens)| Step::Ask { node, child, tokens }),
        4 => (any::<prop::sample::Index>(), 0u64..=100).prop_map(|(which, percent)| Step::End { which, percent }),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, spent)| Step::Leave { which, spent }),
        4 => (0u64..8000).prop_map(|millis| Step::Pass { millis }),
        2 => Just(Step::Replicate),
        1 => Just(Step::FailOver),
        1 => Just(Step::Flush),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, reachable)| Step::Reach { node, reachable }),
    ]
}

fn run(steps: Vec<Step>, stalls: bool) -> Result<(), TestCaseError> {
    let mut world = World::new();
    let mut open: Vec<(Permit<Mutex>, u64)> = Vec::new();
    for step in steps {
        match step {
            Step::Ask { node, child, tokens } => open.extend(world.ask(node, child, tokens).ok().map(|permit| (permit, tokens))),
            Step::End { which, percent } if !open.is_empty() => {
                let (permit, need) = open.swap_remove(which.index(open.len()));
                permit.settle(used(need * percent / 100), now(world.now), |_, _| {});
            }
            Step::Leave { which, spent } if !open.is_empty() => {
                let (mut permit, _) = open.swap_remove(which.index(open.len()));
                if spent {
                    permit.spend();
                }
            }
            Step::End { .. } | Step::Leave { .. } => {}
            Step::Pass { millis } => world.pass(millis),
            Step::Replicate => world.replica = world.memory.clone(),
            Step::FailOver => world.fail_over(),
            Step::Flush => world.memory = Memory::default(),
            Step::Reach { node, reachable } if stalls => {
                if reachable && !world.nodes[node].reachable {
                    // Its heartbeat says that it was away: nothing is given away until all have sent their shares.
                    world.memory.born = Some(world.now);
                }
                world.nodes[node].reachable = reachable;
            }
            Step::Reach { .. } => {}
        }
        // Each node that is cut off may use an equal part beside the others' shares.
        let alone = world.nodes.iter().filter(|node| node.was_alone).count() as u64;
        for scope in 0..3 {
            for (id, used, limit) in world.all_used(scope) {
                let bound = limit + world.lost.get(&id).copied().unwrap_or(0) + alone * limit.div_ceil(NODES as u64);
                prop_assert!(used <= bound, "{id:?} of {scope}: {used} of {limit}, at most {bound}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Flushes and failovers: all nodes together use no more than the limit and what lost writes gave, in each period of
    /// each node of the tree.
    #[test]
    fn all_nodes_together_stay_within_each_limit(steps in prop::collection::vec(step(), 1..150)) {
        run(steps, false)?;
    }

    /// The same with nodes that can't reach the memory for a while.
    #[test]
    fn nodes_that_are_cut_off_stay_within_the_stated_bound(steps in prop::collection::vec(step(), 1..150)) {
        run(steps, true)?;
    }
}

#[test]
fn a_guarantee_holds_among_nodes() {
    let mut world = World::new();
    let mut held = Vec::new();
    // Siblings take all that they get, at each node.
    for round in 0..80 {
        held.extend(world.ask(round % NODES, 2, 20).ok().map(|permit| permit.settle(used(20), now(world.now), |_, _| {})));
        world.pass(TICK);
    }
    assert_eq!(held.len() as u64 * 20, LIMIT * (100 - PART) / 100, "all but what is guaranteed");
    let mut own = 0;
    for round in 0..20 {
        let got = world.ask(round % NODES, 1, 10);
        own += got.map(|permit| permit.settle(used(10), now(world.now), |_, _| {})).map_or(0, |()| 10);
        // What a node holds for requests that don't come is given back.
        world.pass(1000);
    }
    assert_eq!(own, 200);
    while let Ok(permit) = world.ask(0, 1, 10) {
        permit.settle(used(10), now(world.now), |_, _| {});
        world.pass(500);
        own += 10;
    }
    assert_eq!(own, LIMIT * PART / 100, "all of it, wherever it is asked for");
}

#[test]
fn nothing_is_left_for_siblings_when_only_what_is_guaranteed_to_others_is() {
    let mut world = World::new();
    for round in 0..200 {
        // One period only: the limit per minute is free again meanwhile.
        if let Ok(permit) = world.ask(round % NODES, 2, 20) {
            permit.settle(used(20), now(world.now), |_, _| {});
        }
        world.pass(1000);
    }
    let Shared { scope, last } = &world.nodes[0].scopes[0];
    let (id, answer) = (LimitId { kind: LimitKind::Quota, calendar: Some(Calendar::utc(Period::Hour)) }, &last.as_ref().unwrap().answer);
    assert!(scope.is_used_up(id, None, answer), "a sibling needn't try again");
    assert!(!scope.is_used_up(id, scope.guarantee_of("a"), answer));
    let kept = |need: u64| scope.is_kept_for_others(id, &tokens(need), now(world.now));
    assert!(kept(2 * LIMIT * PART / 100) && !kept(2 * LIMIT * PART / 100 + 20 * NODES as u64 + 1), "as much as is guaranteed");
}
