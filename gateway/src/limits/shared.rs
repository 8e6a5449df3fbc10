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

use super::agreement::{GRACE, LastAgreement, Question};
use super::throttles::{self, Throttle};
use super::{Limits, NodeName, provisioned};
use crate::balance::target::Target;
use crate::clock::Clock;
use crate::config::{self, WhenLost};
use crate::redis::{RedisError, SharedMemory};
use crate::telemetry::metrics::Metrics;

/// Longest wait of a request for an agreement.
const AGREE: Duration = Duration::from_millis(150);
/// How often shares are agreed on again.
const EVERY: Duration = Duration::from_millis(250);
/// How often a share that hasn't changed is sent again, so that it isn't forgotten.
const REMIND: Duration = Duration::from_secs(1);
/// Scopes that are agreed on at the same time in the background.
const AT_ONCE: usize = 32;
/// One scope's agreements. One at a time: if answers came in another order than the questions, this node would keep a
/// share that others think was given back.
#[derive(Debug, Default)]
struct Table {
    one_at_a_time: tokio::sync::Mutex<()>,
    /// The number of agreements so far.
    count: AtomicU64,
    last: Mutex<LastAgreement>,
}

/// The agreement with other nodes.
pub struct SharedLimits {
    memory: SharedMemory,
    agreeing: Script,
    beating: Script,
    /// This process: its usage of limits per minute ends with it.
    process: String,
    /// The name of this process in Redis: its own, or that of the process from which it took over, with its usage.
    name: ArcSwap<String>,
    /// Another process has taken over, and uses this one's name.
    retired: AtomicBool,
    /// This node: its usage of quotas survives its process.
    node: String,
    when_lost: WhenLost,
    tables: Mutex<HashMap<String, Arc<Table>>>,
    nodes: AtomicU64,
    /// The least number of nodes, from the config.
    least_nodes: u64,
    /// Since when Redis can't be reached, in nanoseconds of the monotonic clock; 0 while it can.
    lost_since: AtomicU64,
    /// Whether another process with this node's name was seen.
    has_twin: AtomicBool,
    reachable: IntGauge,
    failures: IntCounter,
}

impl std::fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({} of {})", self.node, self.nodes.load(Ordering::Relaxed))
    }
}

impl SharedLimits {
    /// Nothing is agreed on yet. `takes_over`: this process takes over from another one of this node.
    ///
    /// # Errors
    /// If the URL of Redis can't be used.
    pub fn new(config: &config::Redis, node: NodeName, metrics: &Metrics, takes_over: bool) -> Result<Self, RedisError> {
        let process = format!("{}.{:08x}", node.0, fastrand::u32(..));
        Ok(SharedLimits {
            memory: SharedMemory::new(config)?,
            agreeing: Script::new(include_str!("agree.lua")),
            beating: Script::new(include_str!("heartbeat.lua")),
            name: ArcSwap::from_pointee(process.clone()),
            retired: AtomicBool::new(false),
            process,
            node: node.0,
            when_lost: config.quotas_when_lost,
            tables: Mutex::default(),
            nodes: AtomicU64::new(config.nodes),
            least_nodes: config.nodes,
            lost_since: AtomicU64::new(0),
            // The old process still exists for a moment: it is no reason for a warning.
            has_twin: AtomicBool::new(takes_over),
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

    /// Continues under the name of the old process, whose usage this one has taken over.
    pub fn go_on_as(&self, name: String) {
        self.name.store(Arc::new(name));
    }

    /// Another process continues under this one's name: this one must send nothing more.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether quotas must be refused because the usage of other nodes is not known.
    pub fn is_unsure(&self) -> bool {
        self.when_lost == WhenLost::Refuse && self.is_lost()
    }

    fn is_lost(&self) -> bool {
        self.lost_since.load(Ordering::Relaxed) != 0
    }

    /// Agrees on a scope's share, for a request that waits. While Redis is known to be out of reach, this takes no
    /// time.
    pub async fn agree(&self, scope: &Scope, now: impl Fn() -> Timestamps) {
        if self.retired.load(Ordering::Relaxed) {
            // It continues with the share that it had.
            return;
        }
        let table = self.table(scope);
        // When Redis has come back, scopes are agreed on one after another.
        let since = self.lost_since.load(Ordering::Relaxed);
        let is_back = table.last.lock().at().is_some_and(|at| at.as_nanos() > u128::from(since));
        if since != 0 && !is_back {
            return self.go_on_alone(scope, now());
        }
        let before = table.count.load(Ordering::Acquire);
        let waited = timeout(AGREE, table.one_at_a_time.lock()).await;
        if table.count.load(Ordering::Acquire) != before {
            // Another request has agreed meanwhile, for all that wait.
            return;
        }
        let agreed = match waited {
            Ok(_turn) => self.try_agree(scope, &table, AGREE, &now).await,
            Err(_) => false,
        };
        if !agreed {
            self.lose(now());
            self.go_on_alone(scope, now());
        }
    }

    fn table(&self, scope: &Scope) -> Arc<Table> {
        Arc::clone(self.tables.lock().entry(scope.name.clone()).or_default())
    }

    /// As [`Shared::agree`], in the background: waits for its turn, with a longer timeout.
    async fn agree_soon(&self, scope: &Scope, now: &impl Fn() -> Timestamps) -> bool {
        let table = self.table(scope);
        let _turn = table.one_at_a_time.lock().await;
        self.try_agree(scope, &table, AGREE * 4, now).await
    }

    /// Sends what this node uses and needs, and stores the share that it gets.
    async fn try_agree(&self, scope: &Scope, table: &Table, limit: Duration, now: &impl Fn() -> Timestamps) -> bool {
        let before = now();
        let proposal = table.last.lock().propose(scope, before);
        match timeout(limit, self.ask(scope, &proposal, before)).await {
            Ok(Ok(answer)) => {
                table.last.lock().answered(scope, &proposal, answer, before);
                table.count.fetch_add(1, Ordering::Release);
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
        let question = Question::new(&self.name(), &self.node, &scope.name, proposal, now.unix);
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

    /// Sets the share of a scope while Redis can't be reached.
    fn go_on_alone(&self, scope: &Scope, now: Timestamps) {
        let nodes = self.nodes.load(Ordering::Relaxed);
        let table = self.table(scope);
        // An agreement is under way: its result counts.
        let Ok(_turn) = table.one_at_a_time.try_lock() else { return };
        table.last.lock().go_on_alone(scope, now, nodes, self.when_lost);
    }

    /// Whether other nodes have used up what this one lacks for one who comes through the guarantee at `via`; if not, a retry
    /// soon helps.
    pub fn is_used_up(&self, scope: &Scope, id: LimitId, via: Option<usize>) -> bool {
        self.table(scope).last.lock().is_used_up(scope, id, via)
    }

    /// Reports to Redis that this node is alive, and reads which others are.
    async fn beat(&self, returning: bool) -> redis::RedisResult<()> {
        let mut connection = self.memory.connection().await?;
        let mut invocation = self.beating.prepare_invoke();
        invocation.key(self.memory.key("{limits}:born")).key(self.memory.key("{limits}:nodes"));
        invocation.arg(self.name()).arg(if returning { "1" } else { "0" });
        let (nodes, twins): (u64, u64) = invocation.invoke_async(&mut connection).await?;
        self.nodes.store(nodes.max(self.least_nodes), Ordering::Relaxed);
        if twins > 0 && !self.has_twin.swap(true, Ordering::Relaxed) {
            warn!(node = %self.node, "another process has this node's name: their quotas are counted as one node's; set redis.node, or a state_dir of its own");
        }
        Ok(())
    }

    /// Waits, for a limited time, until the data in Redis has been there for long enough to be complete: right after
    /// the first start Redis would give no shares away.
    pub async fn join(&self, now: impl Fn() -> Timestamps) {
        if !matches!(timeout(AGREE * 4, self.beat(false)).await, Ok(Ok(()))) {
            self.failures.inc();
            return self.lose(now());
        }
        self.reachable.set(1);
        let rules = Rules { concurrent: Some(1), ..Rules::default() };
        let probe: Arc<Scope> = Scope::new(Rank::Pool, format!("join:{}", self.process), rules, true);
        let until = now().monotonic + GRACE;
        while now().monotonic < until {
            let proposal = probe.propose(now());
            match timeout(AGREE * 4, self.ask(&probe, &proposal, now())).await {
                Ok(Ok(answer)) if answer.first() == Some(&0) => return,
                Ok(Ok(_)) => sleep(Duration::from_millis(100)).await,
                _ => return self.lose(now()),
            }
            // While it waits, it reports that it is alive.
            let _ = timeout(AGREE * 4, self.beat(false)).await;
        }
    }

    /// Keeps the shares of `limits` up to date, for ever.
    pub async fn keep_agreed(self: Arc<Self>, limits: Arc<Limits>) {
        loop {
            sleep(EVERY).await;
            let lost = self.is_lost();
            let reached = matches!(timeout(AGREE * 4, self.beat(lost)).await, Ok(Ok(())));
            let agreed = reached && self.agree_all(&limits, lost).await;
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
                well &= matches!(timeout(AGREE * 4, self.beat(false)).await, Ok(Ok(())));
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
