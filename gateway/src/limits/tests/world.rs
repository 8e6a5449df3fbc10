//! Three nodes with a tree of scopes each, on one clock. They agree as the gateway does (`shared.rs`), through a link that
//! may fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use spillway_plugins::limits::{Begun, LimitId, LimitKind, Permit, Proposal, Rank, Refused, Scope, Share, Tally, Timestamps, admit};

use super::super::agreement::{LastAgreement, Question, granted};
use super::model::field;
use super::tree::{Tree, name};
use super::{Memory, demand, now, used};
use crate::config::WhenLost;

pub(super) const NODES: usize = 3;
/// How often nodes agree.
const TICK: u64 = 250;
/// How often a share is sent again.
const REMIND: u64 = 1000;

/// The way from a node to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Down,
    /// What is sent arrives when it is up again.
    Stalled,
    /// What is sent arrives, the answers don't.
    Deaf,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Ask {
        node: usize,
        leaf: prop::sample::Index,
        tokens: u64,
    },
    Settle {
        which: prop::sample::Index,
        percent: u64,
    },
    Leave {
        which: prop::sample::Index,
        spent: bool,
    },
    Pass {
        millis: u64,
    },
    Link {
        node: usize,
        link: Link,
    },
    /// A node loads the other config.
    Reload {
        node: usize,
    },
    Restart {
        node: usize,
    },
    /// Another process takes over, while this one finishes its requests.
    Upgrade {
        node: usize,
    },
    Copy,
    FailOver,
    Flush,
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let which = any::<prop::sample::Index>;
    let link = prop_oneof![3 => Just(Link::Up), 1 => Just(Link::Down), 1 => Just(Link::Stalled), 1 => Just(Link::Deaf)];
    prop_oneof![
        30 => (0..NODES, which(), 0u64..150).prop_map(|(node, leaf, tokens)| Event::Ask { node, leaf, tokens }),
        10 => (which(), 0u64..160).prop_map(|(which, percent)| Event::Settle { which, percent }),
        3 => (which(), any::<bool>()).prop_map(|(which, spent)| Event::Leave { which, spent }),
        8 => (0u64..6000).prop_map(|millis| Event::Pass { millis }),
        3 => (15_000u64..100_000).prop_map(|millis| Event::Pass { millis }),
        3 => (0..NODES, link).prop_map(|(node, link)| Event::Link { node, link }),
        2 => (0..NODES).prop_map(|node| Event::Reload { node }),
        1 => (0..NODES).prop_map(|node| Event::Restart { node }),
        2 => (0..NODES).prop_map(|node| Event::Upgrade { node }),
        2 => Just(Event::Copy),
        1 => Just(Event::FailOver),
        1 => Just(Event::Flush),
    ]
}

struct Held {
    scope: Arc<Scope>,
    last: LastAgreement,
    /// What it asked for last, and what it has of that.
    mine: Option<(Proposal, Share)>,
    /// It goes on alone until it agrees again.
    is_alone: bool,
}

struct Node {
    process: String,
    scopes: Vec<Held>,
    config: usize,
    link: Link,
    lost_since: Option<Duration>,
    /// When Redis heard it last, by its own answer.
    heard: i64,
    /// What was sent while its link stalled.
    waiting: Vec<Question>,
    /// The processes before this one that have handed over: each tells the next one.
    before: Vec<Finishing>,
}

/// A process that only finishes its requests.
struct Finishing {
    scopes: Vec<Arc<Scope>>,
    /// What it has told the next one, by scope.
    told: Vec<Tally>,
}

/// A request.
pub(super) struct Open {
    permit: Permit,
    tokens: u64,
    node: usize,
    leaf: usize,
}

/// A limit of a scope, in a period.
type Key = (usize, LimitId, Option<i64>);

/// By how much it may be exceeded.
#[derive(Debug, Clone, Default)]
struct Excess {
    /// By each node that was cut off.
    cut: [u64; NODES],
    /// Because writes were lost.
    lost: u64,
}

pub(super) struct World {
    tree: Tree,
    nodes: Vec<Node>,
    memory: Memory,
    millis: u64,
    open: Vec<Open>,
    excess: HashMap<Key, Excess>,
    /// What requests used beyond their reservations, by scope: when and how much.
    beyond: Vec<Vec<(u64, u64)>>,
    /// When everything was lost.
    flushed: Option<Duration>,
    restarts: usize,
}

impl World {
    /// An hour and a day end a minute later.
    pub(super) fn new(tree: Tree, memory: Memory) -> Self {
        Self::at(172_740_000, tree, memory)
    }

    /// At a time in milliseconds.
    pub(super) fn at(millis: u64, tree: Tree, memory: Memory) -> Self {
        let scopes = |_| (0..tree.0.len()).map(|at| Held::new(Scope::new(Rank::Group, name(at), tree.rules(at, 0), true)));
        let node = |at| Node {
            process: format!("node{at}.0"),
            scopes: scopes(at).collect(),
            config: 0,
            link: Link::Up,
            lost_since: None,
            heard: 0,
            waiting: Vec::new(),
            before: Vec::new(),
        };
        let nodes = (0..NODES).map(node).collect();
        let beyond = vec![Vec::new(); tree.0.len()];
        let excess = HashMap::new();
        World { tree, nodes, memory, millis, open: Vec::new(), excess, beyond, flushed: None, restarts: 0 }
    }

    fn redis_time(&self) -> i64 {
        i64::try_from(self.millis).unwrap()
    }

    /// Lets everything happen; what is used never exceeds what it may.
    pub(super) fn run(mut self, events: Vec<Event>) -> Memory {
        for event in events {
            self.happen(&event);
            self.forget();
            self.check(&event);
        }
        self.memory
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Ask { node, leaf, tokens } => {
                let opened = self.ask(*node, leaf.index(self.tree.0.len()), *tokens);
                self.open.extend(opened.ok());
            }
            Event::Settle { which, percent } if !self.open.is_empty() => {
                let open = self.open.swap_remove(which.index(self.open.len()));
                let really = open.tokens * percent / 100;
                self.settle(open, really);
            }
            Event::Leave { which, spent } if !self.open.is_empty() => {
                let mut open = self.open.swap_remove(which.index(self.open.len()));
                if *spent {
                    open.permit.spend();
                }
            }
            Event::Settle { .. } | Event::Leave { .. } => {}
            Event::Pass { millis } => self.pass(*millis),
            Event::Link { node, link } => self.link(*node, *link),
            Event::Reload { node } => self.reload(*node),
            Event::Restart { node } => self.restart(*node),
            Event::Upgrade { node } => self.upgrade(*node),
            Event::Copy => self.memory.copy(),
            Event::FailOver => {
                self.memory.fail_over();
                (0..NODES).for_each(|node| self.lose_shares(node, None));
            }
            Event::Flush => {
                self.memory.flush();
                // Those that are up send what they have before anything is given away.
                self.flushed = Some(now(self.millis).monotonic);
                (0..NODES)
                    .filter(|node| self.nodes[*node].link != Link::Up)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|node| self.lose_shares(node, None));
            }
        }
    }

    /// A request, as in `Limits::admit`.
    pub(super) fn ask(&mut self, node: usize, leaf: usize, tokens: u64) -> Result<Open, Refused> {
        let mut asked = 0;
        loop {
            let scopes: Vec<Arc<Scope>> = self.nodes[node].scopes.iter().map(|held| Arc::clone(&held.scope)).collect();
            let path = self.tree.path(leaf, &scopes);
            match admit(&path, demand(tokens), now(self.millis), |_, _| {}) {
                Ok(permit) => return Ok(Open { permit, tokens, node, leaf }),
                Err(Refused::Share(lacking)) if asked < 2 => {
                    asked += 1;
                    let names: Vec<String> = lacking.iter().map(|(at, _)| path.steps()[*at].scope.name.clone()).collect();
                    let at = |wanted: &String| (0..self.tree.0.len()).find(|at| name(*at) == *wanted).unwrap();
                    names.iter().map(at).collect::<Vec<_>>().into_iter().for_each(|scope| self.agree(node, scope));
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    pub(super) fn settle(&mut self, open: Open, really: u64) {
        let beyond = really.saturating_sub(open.tokens);
        for scope in self.tree.lineage(open.leaf).collect::<Vec<_>>() {
            self.beyond[scope].push((self.millis, beyond));
        }
        open.permit.settle(used(really), now(self.millis), |_, _| {});
    }

    /// A request that reserves nothing, and uses this much.
    pub(super) fn settled_beyond(&mut self, node: usize, leaf: usize, really: u64) -> u64 {
        let open = self.ask(node, leaf, 0).unwrap();
        self.settle(open, really);
        really
    }

    /// As `SharedLimits::agree`.
    fn agree(&mut self, node: usize, scope: usize) {
        let Node { scopes, lost_since, .. } = &self.nodes[node];
        let is_lost = lost_since.is_some_and(|since| scopes[scope].last.at().is_none_or(|at| at <= since));
        if is_lost {
            return self.alone(node, scope);
        }
        if !self.try_agree(node, scope) {
            self.alone(node, scope);
        }
    }

    /// As `SharedLimits::try_agree`.
    fn try_agree(&mut self, node: usize, scope: usize) -> bool {
        let (at, time) = (now(self.millis), self.redis_time());
        let Node { process, scopes, link, waiting, .. } = &mut self.nodes[node];
        let Held { scope, last, mine, is_alone } = &mut scopes[scope];
        let proposal = last.propose(scope, at);
        let question = Question::new(process, &format!("node{node}"), &scope.name, &proposal, at.unix);
        let kept = proposal.kept.clone();
        let (share, answered) = match link {
            Link::Up => {
                let answer = self.memory.agree(&question, time);
                last.answered(scope, &proposal, answer.iter().copied(), at);
                (granted(&proposal, answer).1, true)
            }
            Link::Down => (kept, false),
            Link::Stalled => {
                waiting.push(question);
                (kept, false)
            }
            Link::Deaf => {
                self.memory.agree(&question, time);
                (kept, false)
            }
        };
        *mine = Some((proposal, share));
        *is_alone &= !answered;
        answered
    }

    fn lose(&mut self, node: usize) {
        self.nodes[node].lost_since.get_or_insert(now(self.millis).monotonic);
    }

    /// As `SharedLimits::go_on_alone`.
    fn alone(&mut self, node: usize, scope: usize) {
        let at = now(self.millis);
        let Held { scope: held, last, is_alone, .. } = &mut self.nodes[node].scopes[scope];
        *is_alone = true;
        last.go_on_alone(held, at, NODES as u64, WhenLost::Share);
        let since = last.at().map(|then| (at.monotonic - then).as_secs());
        for one in held.snapshot(at) {
            // At first a node has what it had: others don't have it yet.
            let has_share = match one.id.kind {
                LimitKind::Concurrent => since.is_some_and(|since| since < 3),
                kind => kind.is_rate() && since.is_some_and(|since| since < 30),
            };
            if has_share {
                continue;
            }
            let part = one.limit / NODES as u64;
            // Requests that are under way don't end because their node is cut off.
            let most = if one.id.kind == LimitKind::Concurrent { part.max(one.used) } else { part };
            let excess = self.excess.entry((scope, one.id, one.span.map(|span| span.start))).or_default();
            excess.cut[node] = excess.cut[node].max(most);
        }
    }

    /// Time passes, and nodes agree as often as `SharedLimits::keep_agreed` does; in a long time less often.
    pub(super) fn pass(&mut self, millis: u64) {
        let tick = if millis < 10_000 { TICK } else { 4 * TICK };
        for _ in 0..millis / tick {
            self.millis += tick;
            (0..NODES).for_each(|node| self.keep_agreed(node));
        }
    }

    fn keep_agreed(&mut self, node: usize) {
        self.tell(node);
        let (at, time) = (now(self.millis), self.redis_time());
        let Node { process, link, lost_since, .. } = &self.nodes[node];
        let (link, lost) = (*link, lost_since.is_some());
        if matches!(link, Link::Up | Link::Deaf) {
            let (.., heard) = self.memory.beat(process, self.nodes[node].heard, time);
            if link == Link::Up {
                self.nodes[node].heard = heard;
            }
        }
        let mut agreed = link == Link::Up;
        for scope in 0..self.tree.0.len() {
            if !agreed {
                break;
            }
            let held = &self.nodes[node].scopes[scope];
            let fresh = held.last.at().is_some_and(|last| at.monotonic - last < Duration::from_millis(REMIND));
            if lost || held.scope.wants_agreement(at, fresh) {
                agreed &= self.try_agree(node, scope);
            }
        }
        if !agreed {
            self.lose(node);
            (0..self.tree.0.len()).for_each(|scope| self.alone(node, scope));
        } else if lost {
            self.nodes[node].lost_since = None;
        }
    }

    pub(super) fn link(&mut self, node: usize, link: Link) {
        let time = self.redis_time();
        if link == Link::Up {
            for question in std::mem::take(&mut self.nodes[node].waiting) {
                self.memory.agree(&question, time);
            }
        } else {
            // What it has not yet sent again is lost, too.
            self.lose_shares(node, self.flushed);
        }
        self.nodes[node].link = link;
    }

    /// Shares of a node that the memory doesn't know, of scopes that it has not agreed on since `since`: others may get them.
    fn lose_shares(&mut self, node: usize, since: Option<Duration>) {
        for (key, share, known) in self.shares(node, since) {
            self.excess.entry(key).or_default().lost += share.saturating_sub(known);
        }
    }

    /// What a node has of each part of each limit, and what the memory knows of it.
    fn shares(&self, node: usize, until: Option<Duration>) -> Vec<(Key, u64, u64)> {
        let mut all = Vec::new();
        for (at, Held { scope, last, mine, .. }) in self.nodes[node].scopes.iter().enumerate() {
            let Some((proposal, share)) = mine else { continue };
            if until.is_some_and(|until| last.at().is_some_and(|last| last > until)) {
                continue;
            }
            let question = Question::new(&self.nodes[node].process, &format!("node{node}"), &scope.name, proposal, 0);
            for (asked, limit) in proposal.limits.iter().zip(&question.limits) {
                let field = field(&question, limit);
                for (part, place) in asked.parts.iter().zip(&limit.parts) {
                    let key = (at, asked.id, asked.span.map(|span| span.start));
                    all.push((key, share.of(asked, part).most, self.memory.model.recorded(&place.place, &field)));
                }
            }
        }
        all
    }

    /// The node loads the other config.
    pub(super) fn reload(&mut self, node: usize) {
        self.nodes[node].config ^= 1;
        let config = self.nodes[node].config;
        for at in 0..self.tree.0.len() {
            let (scope, begun) = self.nodes[node].scopes[at].scope.with_rules(self.tree.rules(at, config));
            self.restore(node, &scope, at, &begun);
            self.nodes[node].scopes[at].scope = scope;
        }
    }

    /// As from the ledger.
    fn restore(&self, node: usize, new: &Scope, at: usize, begun: &[Begun]) {
        let time = now(self.millis);
        for one in begun {
            let of = one.child.as_ref().map_or(at, |child| (0..self.tree.0.len()).find(|at| name(*at) == *child).unwrap());
            let all = self.nodes[node].scopes[of].scope.snapshot(time);
            let used = all.iter().find(|known| known.id == one.id).map_or(0, |known| known.used);
            new.restore(one, used, time.unix);
        }
    }

    /// The process ends, and its requests with it; another one takes its place.
    fn restart(&mut self, node: usize) {
        self.open.retain(|open| open.node != node);
        self.restarts += 1;
        let rules = |at| self.tree.rules(at, self.nodes[node].config);
        let begin = |at| {
            let (scope, begun) = Scope::begin(Rank::Group, name(at), rules(at), true);
            self.restore(node, &scope, at, &begun);
            Held::new(scope)
        };
        let scopes = (0..self.tree.0.len()).map(begin).collect();
        let lost_since = (self.nodes[node].link != Link::Up).then(|| now(self.millis).monotonic);
        let process = format!("node{node}.{}", self.restarts);
        let of = &mut self.nodes[node];
        (of.process, of.scopes, of.lost_since, of.heard) = (process, scopes, lost_since, 0);
        of.waiting.clear();
        of.before.clear();
    }

    /// Another process takes over, with all that this one has admitted, its name, and when Redis heard it. From then on only the new
    /// one admits and agrees.
    pub(super) fn upgrade(&mut self, node: usize) {
        self.tell(node);
        let at = now(self.millis);
        let old: Vec<Arc<Scope>> = self.nodes[node].scopes.iter().map(|held| Arc::clone(&held.scope)).collect();
        let told: Vec<Tally> = old.iter().map(|scope| scope.tally(at)).collect();
        let config = self.nodes[node].config;
        let begin = |(place, (tally, before)): (usize, (&Tally, Held))| {
            let scope = Scope::new(Rank::Group, name(place), self.tree.rules(place, config), true);
            scope.add_difference(None, tally, 0, at);
            let mut held = Held { scope, last: LastAgreement::default(), ..before };
            if let Some(share) = before.last.hand_over(&before.scope, at) {
                held.last.take_over(&held.scope, &share, at);
            }
            held
        };
        let before = std::mem::take(&mut self.nodes[node].scopes);
        let scopes = told.iter().zip(before).enumerate().map(begin).collect();
        let of = &mut self.nodes[node];
        of.lost_since = (of.link != Link::Up).then_some(at.monotonic);
        of.scopes = scopes;
        of.before.push(Finishing { scopes: old, told });
    }

    /// What the requests of processes that have handed over have used since the last time.
    fn tell(&mut self, node: usize) {
        let at = now(self.millis);
        let Node { before, scopes, .. } = &mut self.nodes[node];
        for index in 0..before.len() {
            for (place, last) in scopes.iter().enumerate() {
                let tally = before[index].scopes[place].tally(at);
                let next = before.get(index + 1).map_or(&last.scope, |next| &next.scopes[place]);
                next.add_difference(Some(&before[index].told[place]), &tally, 0, at);
                before[index].told[place] = tally;
            }
        }
    }

    /// Once all nodes agree, each says what it has, and that is within a limit together, nothing of what happened before can
    /// exceed it.
    fn forget(&mut self) {
        let well = self
            .nodes
            .iter()
            .all(|node| node.link == Link::Up && node.lost_since.is_none() && node.scopes.iter().all(|held| !held.is_alone));
        if !well || self.memory.model.is_settling(self.redis_time()) || self.excess.is_empty() {
            return;
        }
        let mut sums: HashMap<Key, (u64, bool)> = HashMap::new();
        for node in 0..NODES {
            for (key, share, known) in self.shares(node, None) {
                let (sum, is_known) = sums.entry(key).or_insert((0, true));
                *sum += known;
                *is_known &= share <= known;
            }
        }
        let limits: Vec<_> = self.nodes[0].scopes.iter().map(|held| held.scope.rules.clone()).collect();
        self.excess.retain(|key, _| {
            let limit = limits[key.0].limits().find(|(id, _)| *id == key.1).map_or(0, |(_, limit)| limit);
            !sums.get(key).is_some_and(|(sum, is_known)| *is_known && *sum <= limit)
        });
    }

    pub(super) fn time(&self) -> Timestamps {
        now(self.millis)
    }

    /// A scope of a node, and its last agreement.
    pub(super) fn agreed(&self, node: usize, scope: usize) -> (&Scope, &LastAgreement) {
        let Held { scope, last, .. } = &self.nodes[node].scopes[scope];
        (scope, last)
    }

    pub(super) fn check(&self, event: impl std::fmt::Debug) {
        let at = now(self.millis);
        for scope in 0..self.tree.0.len() {
            let of_nodes: Vec<_> = self.nodes.iter().map(|node| node.scopes[scope].scope.snapshot(at)).collect();
            for (index, one) in of_nodes[0].iter().enumerate() {
                let used: u64 = of_nodes.iter().map(|all| all[index].used).sum();
                // In the current period, or the last minute.
                let since = one.span.map_or(self.millis - 61_000, |span| u64::try_from(span.start).unwrap() * 1000);
                let counts = !matches!(one.id.kind, LimitKind::Concurrent | LimitKind::Requests | LimitKind::RequestQuota);
                let beyond: u64 = self.beyond[scope].iter().filter(|(then, _)| counts && *then >= since).map(|(_, beyond)| beyond).sum();
                let excess = self.excess.get(&(scope, one.id, one.span.map(|span| span.start))).cloned().unwrap_or_default();
                let bound = one.limit + beyond + excess.lost + excess.cut.iter().sum::<u64>();
                assert!(used <= bound, "{event:?}: {used} of {one:?} at scope {scope}, at most {bound}: {excess:?}, {beyond}");
            }
        }
    }
}

impl Held {
    fn new(scope: Arc<Scope>) -> Self {
        Held { scope, last: LastAgreement::default(), mine: None, is_alone: false }
    }
}
