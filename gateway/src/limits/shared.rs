//! Limits that several nodes share, through Redis or Valkey.
//!
//! Each node has a share of every limit and admits requests within it without asking anyone. It agrees on a larger
//! share when that is used up, and gives back what it doesn't use, several times a second. `agree.lua` keeps the sum of
//! the shares below the limit. While Redis can't be reached, a node continues with the share that it has; for limits
//! per minute, with an equal part.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use redis::Script;
use spillway_plugins::limits::{LimitId, Proposal, Rank, Rules, Scope, Timestamps};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::agreement::{GRACE, HandedShare, LastAgreement, Question};
use super::rounds::Rounds;
use super::throttles::{self, Throttle};
use super::{Limits, NodeName, provisioned, timestamps};
use crate::balance::target::Target;
use crate::clock::Clock;
use crate::config::{self, WhenLost};
use crate::redis::{RedisError, SharedMemory};
use crate::telemetry::metrics::Metrics;

/// Longest wait for an answer of Redis. A request doesn't wait that long for it.
const ANSWER: Duration = Duration::from_millis(600);
/// How often shares are agreed on again.
const EVERY: Duration = Duration::from_millis(250);
/// How often a share that hasn't changed is sent again, so that it isn't forgotten.
const REMIND: Duration = Duration::from_secs(1);
/// How the names of processes begin that prepare to take over: they are no nodes.
const PREPARING: &str = "preparing:";
/// Scopes that are agreed on at the same time in the background.
const AT_ONCE: usize = 32;

/// One scope's agreements.
#[derive(Debug, Default)]
struct Table {
    rounds: Rounds,
    last: Mutex<LastAgreement>,
}

/// The agreement with other nodes.
pub struct SharedLimits {
    memory: SharedMemory,
    agreeing: Script,
    beating: Script,
    /// This process: its usage of limits per minute ends with it.
    process: String,
    /// The name of this process in Redis: its own, or that of the process from which it took over, with its usage. While it only
    /// prepares to take over, one that belongs to no node.
    name: ArcSwap<String>,
    /// Another process has taken over, and uses this one's name.
    retired: AtomicBool,
    /// This node: its usage of quotas survives its process.
    node: ArcSwap<String>,
    when_lost: WhenLost,
    tables: Mutex<HashMap<String, Arc<Table>>>,
    nodes: AtomicU64,
    /// The least number of nodes, from the config.
    least_nodes: u64,
    /// Since when Redis can't be reached, in nanoseconds of the monotonic clock; 0 while it can.
    lost_since: AtomicU64,
    /// When Redis heard this process last under its name, by its own answer and clock, in milliseconds; 0 at first.
    heard: AtomicU64,
    /// When it heard this process first under its name; 0 before.
    since: AtomicU64,
    /// Whether another process with this node's name was seen.
    has_twin: AtomicBool,
    reachable: IntGauge,
    failures: IntCounter,
}

impl std::fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({} of {})", self.node.load(), self.nodes.load(Ordering::Relaxed))
    }
}

impl SharedLimits {
    /// Nothing is agreed on yet. `takes_over`: this process takes over from another one of this node.
    ///
    /// # Errors
    /// If the URL of Redis can't be used.
    pub fn new(config: &config::Redis, node: NodeName, metrics: &Metrics, takes_over: bool) -> Result<Self, RedisError> {
        let process = format!("{}.{:08x}", node.0, fastrand::u32(..));
        let name = if takes_over { format!("{PREPARING}{:016x}.{:08x}", fastrand::u64(..), fastrand::u32(..)) } else { process.clone() };
        Ok(SharedLimits {
            memory: SharedMemory::new(config)?,
            agreeing: Script::new(include_str!("agree.lua")),
            beating: Script::new(include_str!("heartbeat.lua")),
            name: ArcSwap::from_pointee(name),
            retired: AtomicBool::new(false),
            process,
            node: ArcSwap::from_pointee(node.0),
            when_lost: config.quotas_when_lost,
            tables: Mutex::default(),
            nodes: AtomicU64::new(config.nodes),
            least_nodes: config.nodes,
            lost_since: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            since: AtomicU64::new(0),
            has_twin: AtomicBool::new(false),
            reachable: metrics.limits.shared.clone(),
            failures: metrics.limits.redis_failures.clone(),
        })
    }

    /// This process's name, unique among all nodes.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// The name of this process in Redis.
    pub fn name(&self) -> String {
        self.name.load().as_ref().clone()
    }

    /// This node's name: its use of quotas is stored under it.
    pub fn node(&self) -> String {
        self.node.load().as_ref().clone()
    }

    /// When Redis heard this process last, by its own answer and clock, in milliseconds; 0 if it didn't.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Continues under the name of the old process, whose usage this one has taken over, and as its node: otherwise that would
    /// be in Redis twice. `node`: `None` if the old process doesn't tell which it is; `heard`: when Redis heard it last under
    /// this name, as far as it tells.
    pub fn go_on_as(&self, name: String, node: Option<String>, heard: u64) {
        self.name.store(Arc::new(name));
        node.into_iter().for_each(|node| self.node.store(Arc::new(node)));
        // Of another name nothing was answered.
        self.heard.store(heard, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
    }

    /// Another process continues under this one's name: this one must send nothing more. Returns when all that it has sent is
    /// answered, or won't be: what arrived later would replace what the other one sends.
    pub async fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        let tables: Vec<Arc<Table>> = self.tables.lock().values().cloned().collect();
        for table in tables {
            drop(table.rounds.begin().await);
        }
    }

    /// The other process has ended before it took over.
    pub fn go_on(&self) {
        self.retired.store(false, Ordering::Relaxed);
    }

    /// This node's shares, for the process that takes over: by scope.
    pub fn hand_over(&self, limits: &Limits) -> Vec<(String, HandedShare)> {
        let handed = |scope: Arc<Scope>| Some((scope.name.clone(), self.table(&scope).last.lock().hand_over(&scope, limits.now())?));
        limits.all().into_iter().filter_map(handed).collect()
    }

    /// Goes on with the shares that the old process had.
    pub fn take_over(&self, limits: &Limits, shares: &[(String, HandedShare)]) {
        for (name, handed) in shares {
            if let Some(scope) = limits.named(name) {
                self.table(&scope).last.lock().take_over(&scope, handed, limits.now());
            }
        }
    }

    /// This process takes over: Redis hears of it before it asks for anything, as it gives nothing to one that is silent.
    pub async fn announce(&self) {
        if !matches!(timeout(ANSWER, self.beat()).await, Ok(Ok(()))) {
            self.failures.inc();
        }
    }

    /// Whether quotas must be refused because the usage of other nodes is not known.
    pub fn is_unsure(&self) -> bool {
        self.when_lost == WhenLost::Refuse && self.is_lost()
    }

    fn is_lost(&self) -> bool {
        self.lost_since.load(Ordering::Relaxed) != 0
    }

    /// Agrees on the shares of `scopes` at once, for a request that lacks some of each and waits until `until` at the
    /// longest. Returns whether there was an answer for all; where there was none, this node goes on alone for the moment.
    /// While Redis is known to be out of reach, this takes no time.
    pub async fn agree(self: &Arc<Self>, scopes: &[&Arc<Scope>], until: Duration, clock: &Clock) -> bool {
        if self.retired.load(Ordering::Relaxed) {
            // It continues with the share that it had.
            return false;
        }
        let asked = timestamps(clock).monotonic;
        let begun: Vec<_> = scopes.iter().map(|scope| (*scope, self.begin(scope, clock))).collect();
        let mut all = true;
        for (scope, number) in begun {
            let table = self.table(scope);
            if let Some(number) = number {
                let left = until.saturating_sub(timestamps(clock).monotonic);
                if timeout(left, table.rounds.ended(number)).await.is_err() {
                    self.failures.inc();
                }
            }
            if self.retired.load(Ordering::Relaxed) {
                return false;
            }
            let is_answered = table.last.lock().at().is_some_and(|at| at >= asked);
            if !is_answered {
                all = false;
                self.go_on_alone(scope, timestamps(clock));
            }
        }
        all
    }

    /// The number of the agreement that asks for what a request lacks of a scope. It goes on though the request waits no
    /// longer. `None` if Redis can't be reached.
    fn begin(self: &Arc<Self>, scope: &Arc<Scope>, clock: &Clock) -> Option<u64> {
        let table = self.table(scope);
        // When Redis has come back, scopes are agreed on one after another.
        let since = self.lost_since.load(Ordering::Relaxed);
        let is_back = table.last.lock().at().is_some_and(|at| at.as_nanos() > u128::from(since));
        if since != 0 && !is_back {
            return None;
        }
        let (number, is_first) = table.rounds.want();
        if is_first {
            let (shared, scope, clock) = (Arc::clone(self), Arc::clone(scope), clock.clone());
            tokio::spawn(async move {
                let table = shared.table(&scope);
                if let Some(_round) = table.rounds.begin_wanted().await {
                    shared.try_agree(&scope, &table, &|| timestamps(&clock)).await;
                }
            });
        }
        Some(number)
    }

    /// Whether asking again wouldn't help one who lacks some of a limit: nothing is left of it, or nothing is given away now.
    pub fn gives_no_more(&self, scope: &Scope, id: LimitId, via: Option<usize>) -> bool {
        let table = self.table(scope);
        let last = table.last.lock();
        last.is_settling() || last.is_used_up(scope, id, via)
    }

    fn table(&self, scope: &Scope) -> Arc<Table> {
        Arc::clone(self.tables.lock().entry(scope.name.clone()).or_default())
    }

    /// As [`SharedLimits::agree`], in the background.
    async fn agree_soon(&self, scope: &Scope, now: &impl Fn() -> Timestamps) -> bool {
        let table = self.table(scope);
        let _round = table.rounds.begin().await;
        self.try_agree(scope, &table, now).await
    }

    /// Sends what this node uses and needs, and stores the share that it gets.
    async fn try_agree(&self, scope: &Scope, table: &Table, now: &impl Fn() -> Timestamps) -> bool {
        if self.retired.load(Ordering::Relaxed) {
            return false;
        }
        let before = now();
        let proposal = table.last.lock().propose(scope, before);
        match timeout(ANSWER, self.ask(scope, &proposal, before)).await {
            Ok(Ok(answer)) => {
                table.last.lock().answered(scope, &proposal, answer, before);
                true
            }
            Ok(Err(_)) | Err(_) => {
                self.failures.inc();
                false
            }
        }
    }

    async fn ask(&self, scope: &Scope, proposal: &Proposal, now: Timestamps) -> redis::RedisResult<Vec<u64>> {
        let mut connection = self.memory.connection().await?;
        let question = Question::new(&self.name(), &self.node(), &scope.name, proposal, now.unix);
        let mut invocation = self.agreeing.prepare_invoke();
        for key in question.keys() {
            // All keys in one slot of a cluster.
            invocation.key(self.memory.key(&format!("{{limits}}:{key}")));
        }
        for argument in question.arguments() {
            invocation.arg(argument);
        }
        let answer: Vec<String> = invocation.invoke_async(&mut connection).await?;
        Ok(answer.iter().map(|text| text.parse().unwrap_or(0)).collect())
    }

    fn lose(&self, now: Timestamps) {
        let since = u64::try_from(now.monotonic.as_nanos()).unwrap_or(u64::MAX);
        if self.lost_since.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.reachable.set(0);
            warn!(nodes = self.nodes.load(Ordering::Relaxed), "Redis can't be reached: limits continue with this node's share");
        }
    }

    /// Sets the share of a scope for which there is no answer of Redis.
    fn go_on_alone(&self, scope: &Scope, now: Timestamps) {
        if self.when_lost == WhenLost::Refuse && !self.is_lost() {
            // Whoever waited in vain is refused, and nobody else.
            return;
        }
        let nodes = self.nodes.load(Ordering::Relaxed);
        let table = self.table(scope);
        table.last.lock().go_on_alone(scope, now, nodes, self.when_lost);
    }

    /// Whether other nodes have used up what this one lacks for one who comes through the guarantee at `via`; if not, a retry
    /// soon helps.
    pub fn is_used_up(&self, scope: &Scope, id: LimitId, via: Option<usize>) -> bool {
        self.table(scope).last.lock().is_used_up(scope, id, via)
    }

    /// Reports to Redis that this node is alive, and reads which others are.
    async fn beat(&self) -> redis::RedisResult<()> {
        let mut connection = self.memory.connection().await?;
        let mut invocation = self.beating.prepare_invoke();
        invocation.key(self.memory.key("{limits}:born")).key(self.memory.key("{limits}:nodes"));
        invocation.arg(self.name()).arg(self.heard.load(Ordering::Relaxed));
        let (nodes, twin, heard): (u64, u64, u64) = invocation.invoke_async(&mut connection).await?;
        self.heard.store(heard, Ordering::Relaxed);
        self.nodes.store(nodes.max(self.least_nodes), Ordering::Relaxed);
        // One that was heard only before this one is the process before it.
        let since = self.since.compare_exchange(0, heard, Ordering::Relaxed, Ordering::Relaxed).err().unwrap_or(heard);
        if twin > since && !self.has_twin.swap(true, Ordering::Relaxed) {
            warn!(node = %self.node(), "another process has this node's name: their quotas are counted as one node's; set redis.node, or a state_dir of its own");
        }
        Ok(())
    }

    /// Waits, for a limited time, until the data in Redis has been there for long enough to be complete: right after
    /// the first start Redis would give no shares away.
    pub async fn join(&self, now: impl Fn() -> Timestamps) {
        if !matches!(timeout(ANSWER, self.beat()).await, Ok(Ok(()))) {
            self.failures.inc();
            return self.lose(now());
        }
        self.reachable.set(1);
        let rules = Rules { concurrent: Some(1), ..Rules::default() };
        let probe: Arc<Scope> = Scope::new(Rank::Pool, format!("join:{}", self.process), rules, true);
        let until = now().monotonic + GRACE;
        while now().monotonic < until {
            let proposal = probe.propose(now());
            match timeout(ANSWER, self.ask(&probe, &proposal, now())).await {
                Ok(Ok(answer)) if answer.first() == Some(&0) => return,
                Ok(Ok(_)) => sleep(Duration::from_millis(100)).await,
                _ => return self.lose(now()),
            }
            // While it waits, it reports that it is alive.
            let _ = timeout(ANSWER, self.beat()).await;
        }
    }

    /// Keeps the shares of `limits` up to date, for ever.
    pub async fn keep_agreed(self: Arc<Self>, limits: Arc<Limits>) {
        loop {
            sleep(EVERY).await;
            if !limits.decides() {
                // Another process goes on under this one's name, or still does.
                continue;
            }
            let lost = self.is_lost();
            let reached = matches!(timeout(ANSWER, self.beat()).await, Ok(Ok(())));
            let agreed = reached && self.agree_all(&limits, lost).await;
            if !limits.decides() {
                // It has just handed over.
                continue;
            }
            if !agreed {
                self.failures.inc();
                self.lose(limits.now());
                limits.all().iter().for_each(|scope| self.go_on_alone(scope, limits.now()));
            } else if lost {
                self.lost_since.store(0, Ordering::Relaxed);
                self.reachable.set(1);
                info!("Redis can be reached again: limits are agreed on with the other nodes");
            }
        }
    }

    /// Agrees on every scope with changes (or on all), several at once. Returns whether that succeeded.
    async fn agree_all(self: &Arc<Self>, limits: &Arc<Limits>, all: bool) -> bool {
        let mut agreeing = JoinSet::new();
        let mut well = true;
        let mut beaten = limits.now().monotonic;
        for scope in limits.all() {
            let at = limits.now();
            if at.monotonic.saturating_sub(beaten) >= REMIND {
                // With many scopes and a slow Redis this takes long, and who isn't heard of gets nothing.
                well &= matches!(timeout(ANSWER, self.beat()).await, Ok(Ok(())));
                beaten = limits.now().monotonic;
            }
            let last = self.table(&scope).last.lock().at();
            let fresh = last.is_some_and(|last| at.monotonic.saturating_sub(last) < REMIND);
            if !all && !scope.wants_agreement(at, fresh) {
                continue;
            }
            if agreeing.len() >= AT_ONCE {
                well &= matches!(agreeing.join_next().await, Some(Ok(true)));
            }
            let (shared, limits) = (Arc::clone(self), Arc::clone(limits));
            agreeing.spawn(async move { shared.agree_soon(&scope, &|| limits.now()).await });
        }
        while let Some(one) = agreeing.join_next().await {
            well &= one.unwrap_or(false);
        }
        well
    }

    /// Gives back unused shares, before this process ends.
    pub async fn leave(self: &Arc<Self>, limits: &Arc<Limits>) {
        if !self.is_lost() {
            // The first call forgets recent demand, the second one gives it back.
            self.agree_all(limits, true).await;
            self.agree_all(limits, true).await;
        }
    }

    /// Keeps the current `throttles` the same on all nodes, for ever.
    pub async fn keep_throttles(&self, throttles: impl Fn() -> Vec<Throttle>, clock: &Clock) {
        throttles::keep_shared(&self.memory, throttles, clock).await;
    }

    /// Tells the other nodes for ever what this one sends to deployments with provisioned throughput.
    pub async fn keep_provisioned(&self, targets: impl Fn() -> Vec<Arc<Target>>, clock: &Clock) {
        let nodes = || self.nodes.load(Ordering::Relaxed).max(self.least_nodes);
        provisioned::keep_shared(&self.memory, &self.process, nodes, targets, clock).await;
    }
}
