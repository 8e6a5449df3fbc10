//! Processes that take over from each other, several in a row, with requests under way in each: whatever arrives when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use spillway_plugins::limits::{Calendar, Guarantee, LimitKind, Path, Period, Permit, Rank, Rules, Scope, Tally, Window};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use super::super::decider::PATIENCE;
use super::super::{Answer, ChangedScopes, Denied, Limits, Question, Successor, UsageHistory};
use super::{demand, fixed, fresh, used};
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

const CHILDREN: [&str; 2] = ["own", "other"];

/// What an old process sends.
enum Down {
    Tallies(Vec<(String, Tally)>, Vec<u64>),
    LimitsLeft,
    Admit(Question),
    End,
}

/// From an old process to the next one.
struct Link {
    successor: Arc<Successor>,
    questions: Receiver<Question>,
    changed: ChangedScopes,
    down: VecDeque<Down>,
    up: Arc<Mutex<VecDeque<Answer>>>,
}

impl Link {
    fn report(&mut self, limits: &Limits) {
        let now = limits.now();
        let read = || self.changed.take().into_iter().map(|scope| (scope.name.clone(), scope.tally(now))).collect::<Vec<_>>();
        let (tallies, counted) = self.successor.counted(read);
        self.down.push_back(Down::Tallies(tallies, counted));
    }

    /// The old process has said its last word.
    fn is_ending(&self) -> bool {
        self.down.iter().any(|down| matches!(down, Down::End))
    }
}

struct Process {
    limits: Arc<Limits>,
    rules: Rules,
    next: Option<Link>,
}

/// A request that is admitted or not: where, and how many tokens it needs.
struct Asking {
    process: usize,
    child: usize,
    need: u64,
    decision: JoinHandle<Result<Permit, Denied>>,
}

struct Chain {
    clock: Clock,
    processes: Vec<Process>,
    /// How many have ended.
    ended: usize,
    asking: Vec<Asking>,
    open: Vec<(usize, usize, u64, Permit)>,
    /// What was used of what is settled, by child.
    settled: [u64; 2],
    /// How many requests are settled.
    requests: u64,
    /// Whether all requests use what they have reserved.
    is_exact: bool,
    beyond: Beyond,
}

/// How much more than there is may be used, because a process had no answer in time and decided alone.
#[derive(Debug, Default)]
struct Beyond {
    /// Since what was admitted last that not all processes know yet.
    is_loose: bool,
    tokens: u64,
    requests: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Ask {
        process: prop::sample::Index,
        child: usize,
        need: u64,
    },
    Settle {
        which: prop::sample::Index,
        percent: u64,
    },
    Tell {
        process: prop::sample::Index,
    },
    Down {
        process: prop::sample::Index,
    },
    Up {
        process: prop::sample::Index,
    },
    Upgrade,
    End,
    /// Whoever waits for an answer has waited for too long.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        12 => (any(), 0usize..2, 1u64..12).prop_map(|(process, child, need)| Step::Ask { process, child, need }),
        4 => (any(), 0u64..=100).prop_map(|(which, percent)| Step::Settle { which, percent }),
        8 => any().prop_map(|process| Step::Tell { process }),
        12 => any().prop_map(|process| Step::Down { process }),
        8 => any().prop_map(|process| Step::Up { process }),
        2 => Just(Step::Upgrade),
        2 => Just(Step::End),
    ]
}

/// As [`step`], and some answers come too late.
fn step_with_waits() -> impl Strategy<Value = Step> {
    prop_oneof![25 => step(), 1 => Just(Step::Wait)]
}

fn rules(limit: u64, own: u64, concurrent: Option<u64>, requests: u64) -> Rules {
    let quota = |kind, limit| Window { kind, calendar: Calendar::utc(Period::Year), limit };
    // In the order of the limits: per minute, at once, then those of a period.
    let amounts = concurrent.map(|_| 1).into_iter().chain([0, own, own]).collect();
    Rules {
        concurrent,
        windows: vec![quota(LimitKind::RequestQuota, requests), quota(LimitKind::Quota, limit), quota(LimitKind::Budget, limit)],
        guaranteed: vec![Guarantee { child: CHILDREN[0].to_owned(), amounts }],
        ..Rules::default()
    }
}

/// Lets all tasks do what they can.
async fn settle_down() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

impl Process {
    fn new(rules: &Rules, clock: &Clock) -> Self {
        let limits = Limits::new(UsageHistory::default(), None, Arc::new(Metrics::new().unwrap()), clock.clone());
        Process { limits: Arc::new(limits), rules: rules.clone(), next: None }
    }

    fn scope(&self) -> Arc<Scope> {
        self.limits.scope(Rank::Group, "group".to_owned(), &self.rules).unwrap()
    }

    fn path(&self, child: usize) -> Path {
        let (mut path, scope) = (Path::new(), self.scope());
        let via = scope.guarantee_of(CHILDREN[child]);
        path.push(scope, via);
        path
    }

    /// As what is sent to the next process.
    fn tell(&mut self) {
        let Process { limits, next, .. } = self;
        let Some(link) = next else { return };
        let probe = limits.resume(&link.successor);
        link.report(limits);
        while let Ok(question) = link.questions.try_recv() {
            link.down.push_back(Down::Admit(question));
        }
        link.report(limits);
        link.down.extend(probe.map(Down::Admit));
    }
}

impl Chain {
    fn new(rules: &Rules, is_exact: bool) -> Self {
        let clock = Clock::standing();
        let first = Process::new(rules, &clock);
        first.scope();
        let (asking, open, beyond) = (Vec::new(), Vec::new(), Beyond::default());
        Chain { clock, processes: vec![first], ended: 0, asking, open, settled: [0; 2], requests: 0, is_exact, beyond }
    }

    fn alive(&self, which: &prop::sample::Index) -> usize {
        self.ended + which.index(self.processes.len() - self.ended)
    }

    async fn happen(&mut self, step: &Step) {
        match step {
            Step::Ask { process, child, need } => {
                let is_ending = self.processes[self.ended].next.as_ref().is_some_and(Link::is_ending);
                let first = self.ended + usize::from(is_ending);
                self.ask(first + process.index(self.processes.len() - first), *child, *need);
            }
            Step::Settle { which, percent } if !self.open.is_empty() => {
                let (_, child, need, permit) = self.open.swap_remove(which.index(self.open.len()));
                let really = if self.is_exact { need } else { need * percent / 100 };
                self.settled[child] += really;
                self.requests += 1;
                permit.settle(used(really), self.processes[0].limits.now(), |_, _| {});
            }
            Step::Settle { .. } => {}
            Step::Tell { process } => {
                let process = self.alive(process);
                self.processes[process].tell();
            }
            Step::Down { process } => self.down(self.alive(process)).await,
            Step::Up { process } => self.up(self.alive(process)),
            Step::Upgrade => self.upgrade().await,
            Step::End => self.end(),
            Step::Wait => self.wait().await,
        }
        self.collect().await;
    }

    fn ask(&mut self, process: usize, child: usize, need: u64) {
        let (limits, path) = (Arc::clone(&self.processes[process].limits), self.processes[process].path(child));
        let decision = tokio::spawn(async move { limits.admit(&path, demand(need), limits.now()).await });
        self.asking.push(Asking { process, child, need, decision });
    }

    /// Requests that are decided. Together they use no more than there is, and no less is given out.
    async fn collect(&mut self) {
        settle_down().await;
        let rules = self.processes[0].rules.clone();
        let (most, limit, kept) = (rules.windows[0].limit, rules.windows[1].limit, *rules.guaranteed[0].amounts.last().unwrap());
        let mut refused = Vec::new();
        for at in (0..self.asking.len()).rev() {
            if self.asking[at].decision.is_finished() {
                let Asking { process, child, need, decision } = self.asking.swap_remove(at);
                match decision.await.unwrap() {
                    Ok(permit) => {
                        if self.beyond.is_loose {
                            self.beyond.tokens += need;
                            self.beyond.requests += 1;
                        }
                        self.open.push((process, child, need, permit));
                    }
                    Err(denied) => refused.push((child, need, denied)),
                }
            }
        }
        let of = |child: usize| self.settled[child] + self.open.iter().filter(|open| open.1 == child).map(|open| open.2).sum::<u64>();
        let (own, other) = (of(0), of(1));
        let beyond = &self.beyond;
        let fits = own + other <= limit + beyond.tokens && other <= limit - kept + beyond.tokens;
        assert!(fits, "{own} and {other} of {limit}, {kept} of it guaranteed; {beyond:?}");
        assert!(rules.concurrent.is_none_or(|most| self.open.len() as u64 <= most + beyond.requests));
        let requests = self.requests + self.open.len() as u64;
        assert!(requests <= most + beyond.requests, "{requests} requests of {most}; {beyond:?}");
        let asked: u64 = self.asking.iter().map(|asking| asking.need).sum();
        for (child, need, denied) in refused {
            assert!(!denied.unsure, "{denied}");
            if self.is_exact && rules.concurrent.is_none() && !beyond.is_loose {
                let others: u64 = asked + own + other;
                let is_full = requests + self.asking.len() as u64 >= most
                    || others + need > limit
                    || (child == 1 && asked + other + own.saturating_sub(kept) + need > limit - kept);
                assert!(is_full, "{need} was refused, with {own} and {other} of {limit}, {kept} of it guaranteed");
            }
        }
    }

    /// The next message from an old process arrives.
    async fn down(&mut self, process: usize) {
        let Some(link) = &mut self.processes[process].next else { return };
        let (message, up) = (link.down.pop_front(), Arc::clone(&link.up));
        let next = Arc::clone(&self.processes[process + 1].limits);
        match message {
            Some(Down::Tallies(tallies, counted)) => next.inherit(tallies, &counted, 0),
            Some(Down::LimitsLeft) => next.begin_to_decide(),
            Some(Down::Admit(question)) => drop(tokio::spawn(async move {
                let question = serde_json::from_str(&serde_json::to_string(&question).unwrap()).unwrap();
                let answer = next.answer(question).await;
                up.lock().push_back(answer);
            })),
            Some(Down::End) => {
                next.inherited_all();
                self.ended = process + 1;
            }
            None => {}
        }
    }

    fn up(&mut self, process: usize) {
        let Some(link) = &self.processes[process].next else { return };
        let answer = link.up.lock().pop_front();
        if let Some(answer) = answer {
            let answer = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
            link.successor.answered(answer, self.processes[process].limits.now());
        }
    }

    async fn upgrade(&mut self) {
        let last = self.processes.len() - 1;
        // One that doesn't decide yet waits before it hands over.
        while !self.processes[last].limits.decides() {
            self.down(last - 1).await;
        }
        let rules = self.processes[last].rules.clone();
        let new = Process::new(&rules, &self.clock);
        new.limits.await_predecessor();
        new.scope();
        // It gets the whole state before it accepts anything.
        let old = &mut self.processes[last];
        let changed = ChangedScopes::of(&old.limits);
        let tally = |scope: Arc<Scope>| (scope.name.clone(), scope.tally(new.limits.now()));
        new.limits.inherit(changed.take().into_iter().map(tally), &[], 0);
        let (successor, questions) = old.limits.hand_over();
        old.next = Some(Link { successor, questions, changed, down: VecDeque::new(), up: Arc::default() });
        self.processes.push(new);
        self.processes[last].tell();
        self.processes[last].next.as_mut().unwrap().down.push_back(Down::LimitsLeft);
    }

    /// The oldest process ends if it has answered all, and the next one exists.
    fn end(&mut self) {
        let oldest = self.ended;
        let is_busy = self.open.iter().any(|open| open.0 == oldest) || self.asking.iter().any(|asking| asking.process == oldest);
        let process = &mut self.processes[oldest];
        let has_ended = process.next.as_ref().is_none_or(Link::is_ending);
        if !is_busy && !has_ended {
            process.tell();
            process.next.as_mut().unwrap().down.push_back(Down::End);
        }
    }

    /// All that was sent arrives, and is answered.
    async fn arrive(&mut self) {
        for _ in 0..4 * self.processes.len() {
            for process in self.ended..self.processes.len() {
                self.processes[process].tell();
                while self.processes[process].next.as_ref().is_some_and(|link| !link.down.is_empty()) {
                    self.down(process).await;
                }
                settle_down().await;
                while self.processes[process].next.as_ref().is_some_and(|link| !link.up.lock().is_empty()) {
                    self.up(process);
                }
            }
            self.collect().await;
        }
        assert!(self.asking.is_empty());
        let alone = |process: &Process| process.next.is_some() && process.limits.decides();
        assert!(!self.processes[self.ended..].iter().any(alone), "all ask again");
        let of = |child: usize| self.settled[child] + self.open.iter().filter(|open| open.1 == child).map(|open| open.2).sum::<u64>();
        let (own, other, open) = (of(0), of(1), self.open.len() as u64);
        let rules = &self.processes[0].rules;
        let (most, limit, kept) = (rules.windows[0].limit, rules.windows[1].limit, *rules.guaranteed[0].amounts.last().unwrap());
        // What is used beyond it stays. Nothing comes on top.
        self.beyond = Beyond {
            is_loose: false,
            tokens: (own + other).saturating_sub(limit).max(other.saturating_sub(limit - kept)),
            requests: (self.requests + open).saturating_sub(most).max(rules.concurrent.map_or(0, |most| open.saturating_sub(most))),
        };
    }

    /// Whoever waits for an answer decides alone.
    async fn wait(&mut self) {
        let is_waited_for = !self.asking.is_empty();
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        self.beyond.is_loose |= is_waited_for;
    }

    /// How much is still admitted, at all processes that are alive in turn.
    async fn fill(&mut self) -> u64 {
        let before = self.open.len();
        let mut full = 0;
        for round in 0.. {
            let process = self.ended + round % (self.processes.len() - self.ended);
            let open = self.open.len();
            self.ask(process, 0, 1);
            self.arrive().await;
            full = if self.open.len() > open { 0 } else { full + 1 };
            if full > self.processes.len() {
                break;
            }
        }
        (self.open.len() - before) as u64
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// A chain of upgrades: what happens, the limits, and whether all requests use what they have reserved.
type History = (Vec<Step>, (u64, u64, u64), Option<u64>, bool);

fn history(step: impl Strategy<Value = Step>) -> impl Strategy<Value = History> {
    let limits = (20u64..120, 0u64..20, 5u64..60);
    (prop::collection::vec(step, 1..100), limits, prop::option::of(3u64..12), any::<bool>())
}

/// Several processes together admit exactly what one would, whenever what they tell each other arrives. What one admits alone,
/// because no answer came in time, may be too much; nothing else.
fn admits_exactly_the_limit((steps, (limit, own, requests), concurrent, is_exact): History) -> TestCaseResult {
    run(async {
        let mut chain = Chain::new(&rules(limit, own, concurrent, requests), is_exact);
        for step in &steps {
            chain.happen(step).await;
        }
        chain.arrive().await;
        for (_, child, need, permit) in std::mem::take(&mut chain.open) {
            let really = if is_exact { need } else { need / 2 };
            chain.settled[child] += really;
            chain.requests += 1;
            permit.settle(used(really), chain.processes[0].limits.now(), |_, _| {});
        }
        chain.arrive().await;
        let left = limit.saturating_sub(chain.settled.iter().sum::<u64>()).min(requests.saturating_sub(chain.requests));
        assert_eq!(chain.fill().await, concurrent.unwrap_or(left).min(left));
    });
    Ok(())
}

proptest! {
    #![proptest_config(fixed(150, 62))]

    #[test]
    fn a_chain_of_upgrades_admits_exactly_the_limit(history in history(step())) {
        admits_exactly_the_limit(history)?;
    }

    #[test]
    fn answers_that_come_too_late_cost_what_is_admitted_without_them(history in history(step_with_waits())) {
        admits_exactly_the_limit(history)?;
    }
}

#[test]
fn a_chain_of_upgrades_that_was_never_tried_before_admits_exactly_the_limit() {
    fresh("SPILLWAY_UPGRADES_SEED", 100, &history(step()), admits_exactly_the_limit);
    fresh("SPILLWAY_UPGRADES_SEED", 50, &history(step_with_waits()), admits_exactly_the_limit);
}

#[tokio::test]
async fn an_old_process_whose_successor_has_ended_goes_on_by_what_it_knows() {
    let mut chain = Chain::new(&rules(10, 0, None, 99), true);
    chain.ask(0, 0, 4);
    chain.collect().await;
    chain.upgrade().await;
    chain.arrive().await;
    chain.ask(0, 0, 1);
    settle_down().await;
    let Link { successor, questions, .. } = chain.processes[0].next.take().unwrap();
    assert_eq!(chain.open.len(), 1, "it waits");
    drop(questions);
    chain.processes[0].limits.take_back();
    successor.close();
    chain.ask(0, 0, 5);
    chain.ask(0, 0, 1);
    chain.collect().await;
    assert_eq!(chain.open.len(), 3, "all ten are used");
}

#[tokio::test]
async fn nobody_waits_for_a_process_that_gives_no_more_answers() {
    let mut chain = Chain::new(&rules(10, 0, None, 99), true);
    chain.upgrade().await;
    // Its end is seen where answers arrive, before it is seen where questions are sent.
    chain.processes[0].next.as_ref().unwrap().successor.close();
    chain.ask(0, 0, 1);
    chain.collect().await;
    assert_eq!(chain.open.len(), 1);
    assert!(chain.processes[0].limits.decides());
}

#[tokio::test]
async fn a_new_process_whose_predecessor_has_ended_early_goes_on() {
    let mut chain = Chain::new(&rules(10, 0, None, 99), true);
    chain.ask(0, 0, 4);
    chain.collect().await;
    chain.upgrade().await;
    chain.down(0).await;
    chain.ask(1, 0, 6);
    settle_down().await;
    assert!(!chain.asking[0].decision.is_finished(), "it waits for what the old one has admitted last");
    let new = Arc::clone(&chain.processes[1].limits);
    new.inherited_all();
    new.begin_to_decide();
    chain.collect().await;
    assert_eq!(chain.open.len(), 2);
}
