//! Limits at run time: the scopes of consumers, groups and pools, and what is shared with other nodes.

mod account;
mod agreement;
mod changed;
mod decider;
mod denied;
mod node;
mod provisioned;
mod question;
mod rounds;
mod scopes;
mod shared;
mod silence;
mod successor;
#[cfg(test)]
mod tests;
mod throttles;
mod usage_history;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use spillway_plugins::limits::{
    Alert, Demand, KeptFor, LimitId, LimitKind, OwnUse, Path, Permit, Rank, Refused, Remaining, Rules, Scope, Step, Tally, Timestamps,
    Used, admit,
};
use tokio::sync::watch;
use tracing::warn;

pub use account::{Account, Groups};
pub use agreement::HandedShare;
pub use changed::{ChangedScopes, OwnUseReports};
pub use denied::Denied;
pub use node::NodeName;
pub use question::{Answer, Question};
pub use shared::SharedLimits;
pub use successor::Successor;
pub use throttles::Throttle;
pub use usage_history::UsageHistory;

use self::scopes::Scopes;
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

/// When a caller should try again if only other nodes use a limit per minute: what they use is free again within a minute, or is
/// given back before.
const SOMETIME: Duration = Duration::from_secs(5);
/// Longest wait of a request for other nodes.
const WAIT: Duration = Duration::from_millis(150);

/// Which process decides.
#[derive(Debug, Clone)]
enum Decider {
    /// This one.
    This,
    /// The old one, until it has told what it has admitted.
    Predecessor,
    /// The new one.
    Successor(Arc<Successor>),
}

/// Whether other nodes were asked for a request.
#[derive(Debug, Clone, Copy)]
enum Asked {
    NotYet,
    /// They were, with what it lacked then. It may ask again until then, on the monotonic clock.
    Answered {
        until: Duration,
    },
    /// There was no answer in time.
    InVain,
}

/// The current time, of both clocks.
fn timestamps(clock: &Clock) -> Timestamps {
    Timestamps { monotonic: Duration::from_nanos(clock.now().0), unix: clock.wall().timestamp() }
}

/// All limits of a gateway.
#[derive(Debug)]
pub struct Limits {
    scopes: Mutex<Scopes>,
    /// The number of the config that was loaded last.
    generation: AtomicU64,
    inherited: Mutex<Inherited>,
    /// Which process decides what is admitted.
    decider: watch::Sender<Decider>,
    /// What the process uses that has taken over from this one, by scope.
    successors: Mutex<HashMap<String, OwnUse>>,
    /// Shares the limits with other nodes.
    pub shared: Option<Arc<SharedLimits>>,
    metrics: Arc<Metrics>,
    clock: Clock,
    past: Mutex<UsageHistory>,
}

/// The usage that the old process has reported.
#[derive(Debug, Default)]
struct Inherited {
    /// How far this process's monotonic clock is ahead, in seconds.
    ahead: i64,
    tallies: HashMap<String, Tally>,
    /// What it was granted, and isn't in its usage yet.
    granted: HashMap<u64, Permit>,
    /// What it doesn't use, before it was granted.
    waived: HashSet<u64>,
    /// The old process has ended.
    over: bool,
}

impl Inherited {
    /// Keeps what the old process was granted until that counts there.
    fn hold(&mut self, number: u64, permit: Permit) {
        // Nobody is left who would use it after it has ended.
        if self.over || self.waived.remove(&number) {
            permit.revoke();
        } else {
            self.granted.insert(number, permit);
        }
    }
}

impl Limits {
    /// No scopes yet; new ones start with the usage in `past`.
    pub fn new(past: UsageHistory, shared: Option<Arc<SharedLimits>>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Limits {
            scopes: Mutex::default(),
            generation: AtomicU64::new(0),
            inherited: Mutex::default(),
            decider: watch::Sender::new(Decider::This),
            successors: Mutex::default(),
            shared,
            metrics,
            clock,
            past: Mutex::new(past),
        }
    }

    /// Called before a config is loaded; `past` is the ledger's usage in the current periods. Returns the previous one.
    pub fn begin(&self, past: UsageHistory) -> UsageHistory {
        self.generation.fetch_add(1, Ordering::Relaxed);
        let mut inherited = self.inherited.lock();
        if inherited.over {
            // The ledger contains all of it.
            inherited.tallies.clear();
        }
        std::mem::replace(&mut *self.past.lock(), past)
    }

    /// Called after the config is loaded: removes scopes that it doesn't have; requests that reserved something in them
    /// still settle there.
    pub fn sweep(&self) {
        let current = self.generation.load(Ordering::Relaxed);
        self.scopes.lock().sweep(current);
    }

    /// The scope of this name with these limits; `None` without limits. The usage of a scope with the same name is
    /// kept.
    pub fn scope(&self, rank: Rank, name: String, rules: &Rules) -> Option<Arc<Scope>> {
        if rules.is_empty() {
            return None;
        }
        let generation = self.generation.load(Ordering::Relaxed);
        // The locks are always taken in this order.
        let (inherited, successors) = (self.inherited.lock(), self.successors.lock());
        let mut scopes = self.scopes.lock();
        let scope = match scopes.of_rank(rank, &name) {
            Some(scope) if scope.rules == *rules => Arc::clone(scope),
            Some(scope) => {
                let (scope, begun) = scope.with_rules(rules.clone());
                self.past.lock().book(&scope, &begun, self.now().unix);
                scope
            }
            None => {
                let (scope, begun) = Scope::begin(rank, name.clone(), rules.clone(), self.shared.is_some());
                self.past.lock().book(&scope, &begun, self.now().unix);
                if let Some(tally) = inherited.tallies.get(&name) {
                    scope.add_difference(None, tally, inherited.ahead, self.now());
                }
                if let Some(other) = successors.get(&name).filter(|_| self.shared.is_none()) {
                    scope.leave_to(other, self.now());
                }
                scope
            }
        };
        if !self.decides() {
            scope.decide_elsewhere(true);
        }
        scopes.put(Arc::clone(&scope), generation);
        Some(scope)
    }

    /// Adds the usage of the old process, by scope: all of it at first, later what has changed. It contains what this process has
    /// granted under the numbers `counted`. `ahead`: how far this process's monotonic clock is ahead of the old one's, in seconds.
    pub fn inherit(&self, tallies: impl IntoIterator<Item = (String, Tally)>, counted: &[u64], ahead: i64) {
        let mut inherited = self.inherited.lock();
        inherited.ahead = ahead;
        for (name, tally) in tallies {
            let before = inherited.tallies.insert(name.clone(), tally.clone());
            if let Some(scope) = self.named(&name) {
                scope.add_difference(before.as_ref(), &tally, ahead, self.now());
            }
        }
        // For a moment it counts twice, rather than not at all.
        for number in counted {
            match inherited.granted.remove(number) {
                Some(permit) => permit.revoke(),
                None => drop(inherited.waived.insert(*number)),
            }
        }
    }

    /// The old process has ended, and reports nothing more.
    pub fn inherited_all(&self) {
        let (ahead, tallies, granted) = {
            let mut inherited = self.inherited.lock();
            // The tallies are kept for unlisted consumers that haven't come yet.
            inherited.over = true;
            inherited.waived.clear();
            let open = inherited.tallies.iter().filter(|(_, tally)| tally.is_open());
            let ended: Vec<_> = open.map(|(name, tally)| (name.clone(), tally.clone().ended())).collect();
            (inherited.ahead, ended, std::mem::take(&mut inherited.granted))
        };
        self.inherit(tallies, &[], ahead);
        // It has ended without saying whether they were used.
        granted.into_values().for_each(|mut permit| permit.spend());
    }

    /// What this process uses itself of a scope, and those after it.
    fn own_use(&self, scope: &Scope) -> OwnUse {
        let (inherited, successors) = (self.inherited.lock(), self.successors.lock());
        let mut own = scope.own_use(inherited.tallies.get(&scope.name), inherited.ahead, self.now());
        successors.get(&scope.name).into_iter().for_each(|other| own.add(other));
        own
    }

    /// The process that has taken over tells what it uses of these scopes.
    pub fn leave_to_successor(&self, used: impl IntoIterator<Item = (String, OwnUse)>) {
        let mut successors = self.successors.lock();
        for (name, own) in used {
            if let Some(scope) = self.named(&name).filter(|_| self.shared.is_none()) {
                scope.leave_to(&own, self.now());
            }
            successors.insert(name, own);
        }
    }

    /// All scopes.
    pub fn all(&self) -> Vec<Arc<Scope>> {
        self.scopes.lock().all().cloned().collect()
    }

    /// The scope of this name, as another process knows it.
    fn named(&self, name: &str) -> Option<Arc<Scope>> {
        self.scopes.lock().named(name).cloned()
    }

    /// The current time, of both clocks.
    pub fn now(&self) -> Timestamps {
        timestamps(&self.clock)
    }

    /// Admits a request to all of its scopes, or to none. Waits only for Redis, if nodes share the limits and this
    /// node's share is used up, and not long.
    ///
    /// # Errors
    /// [`Denied`]
    pub async fn admit(&self, path: &Path, demand: Demand, mut now: Timestamps) -> Result<Permit, Denied> {
        let mut asked = Asked::NotYet;
        loop {
            match admit(path, demand, now, |scope, alert| self.alert(scope, alert)) {
                Ok(permit) => {
                    permit.shadowed.iter().for_each(|(rank, id)| self.metrics.limits.shadowed(*rank, *id));
                    return Ok(permit);
                }
                Err(Refused::Share(lacking)) => {
                    let decider = self.decider.borrow().clone();
                    if !matches!(decider, Decider::This) {
                        // On the heap: few requests come here, and the future of the others stays small.
                        if let Some(decided) = Box::pin(self.decide_elsewhere(&decider, path, demand)).await {
                            return decided;
                        }
                        now = self.now();
                        continue;
                    }
                    if let Some((index, id)) = self.lacks_for_good(path, &lacking, asked) {
                        return Err(self.lacking(&path.steps()[index], id, demand));
                    }
                    asked = Box::pin(self.ask_for_more(path, &lacking, asked)).await;
                    now = self.now();
                }
                Err(refused) => return Err(self.denied(refused, path, demand)),
            }
        }
    }

    /// The decision of the other process; `None` if this one decides now.
    async fn decide_elsewhere(&self, decider: &Decider, path: &Path, demand: Demand) -> Option<Result<Permit, Denied>> {
        let Decider::Successor(successor) = decider else {
            self.wait_to_decide().await;
            return None;
        };
        let decided = self.ask_successor(successor, path, demand).await;
        if decided.is_none() {
            self.go_on_without(successor);
        }
        decided
    }

    fn denied(&self, refused: Refused, path: &Path, demand: Demand) -> Denied {
        self.reached(refused, demand).unwrap_or_else(|lacking| self.lacking(&path.steps()[lacking[0].0], lacking[0].1, demand))
    }

    /// A limit that is reached; else what is lacking of shares.
    fn reached(&self, refused: Refused, demand: Demand) -> Result<Denied, SmallVec<[(usize, LimitId); 2]>> {
        match refused {
            Refused::Limit { scope, rank, id, limit, wait, too_large, some_left, kept, remaining } => {
                self.metrics.limits.refused(rank, id);
                Ok(Denied { scope, id, limit, wait, too_large, some_left, kept, remaining: *remaining, unsure: false, demand })
            }
            Refused::Share(lacking) => Err(lacking),
        }
    }

    /// Of what a request lacks, what it can't get by asking (again).
    fn lacks_for_good(&self, path: &Path, lacking: &[(usize, LimitId)], asked: Asked) -> Option<(usize, LimitId)> {
        let is_over = match asked {
            Asked::NotYet => return None,
            Asked::InVain => true,
            Asked::Answered { until } => self.now().monotonic >= until,
        };
        let shared = self.shared.as_ref().filter(|_| !is_over);
        // Otherwise others were quicker to take what it got.
        let for_good = |(index, id): &&(usize, LimitId)| {
            let Step { scope, via, .. } = &path.steps()[*index];
            shared.is_none_or(|shared| shared.gives_no_more(scope, *id, *via))
        };
        lacking.iter().find(for_good).copied()
    }

    async fn ask_for_more(&self, path: &Path, lacking: &[(usize, LimitId)], asked: Asked) -> Asked {
        let Some(shared) = &self.shared else {
            // A period may have begun since the successor told what it uses.
            let successors = self.successors.lock();
            for Step { scope, .. } in lacking.iter().map(|(index, _)| &path.steps()[*index]) {
                successors.get(&scope.name).into_iter().for_each(|other| scope.leave_to(other, self.now()));
            }
            return Asked::InVain;
        };
        let until = if let Asked::Answered { until } = asked { until } else { self.now().monotonic + WAIT };
        let scopes: Vec<&Arc<Scope>> = lacking.iter().map(|(index, _)| &path.steps()[*index].scope).collect();
        if shared.agree(&scopes, until, &self.clock).await { Asked::Answered { until } } else { Asked::InVain }
    }

    /// The rest of a limit belongs to other nodes.
    fn lacking(&self, step: &Step, id: LimitId, demand: Demand) -> Denied {
        let Step { scope, via, .. } = step;
        self.metrics.limits.refused(scope.rank, id);
        let now = self.now();
        let (limit, span) = scope.limit(id, now);
        let wait = match id.kind {
            // What this node uses is free again at a known time, and what others use within a minute.
            LimitKind::Requests | LimitKind::Tokens => Some(scope.wait(id, *via, &demand, now).unwrap_or(SOMETIME)),
            LimitKind::Concurrent => None,
            LimitKind::RequestQuota | LimitKind::Quota | LimitKind::Budget => span.map(|span| span.until_end(now.unix)),
        };
        let used_up = self.shared.as_ref().is_none_or(|shared| shared.is_used_up(scope, id, *via));
        let unsure = !id.kind.is_rate() && (!used_up || self.shared.as_ref().is_some_and(|shared| shared.is_unsure()));
        let kept = (used_up && scope.is_kept_for_others(id, &demand, now)).then_some(KeptFor::Guarantees);
        let mut remaining = if scope.rank <= Rank::ConsumerModel { scope.remaining(*via, now) } else { Remaining::default() };
        let counter = if id.kind == LimitKind::Tokens { &mut remaining.tokens } else { &mut remaining.requests };
        if let (Some(counter), Some(wait), true) = (counter, wait, id.kind.is_rate()) {
            // Nor is all of it free again before.
            counter.reset = counter.reset.max(wait);
        }
        Denied { scope: scope.name.clone(), id, limit, wait, too_large: false, some_left: false, kept, remaining, unsure, demand }
    }

    /// Adds usage to what is reserved.
    pub fn book(&self, permit: &Permit, used: Used, now: Timestamps) {
        permit.book(used, now, |scope, alert| self.alert(scope, alert));
    }

    /// Whether a quota or budget is used up that a permit's further answers would need.
    pub fn ended(&self, permit: &Permit, now: Timestamps) -> Option<Denied> {
        self.reached(permit.ended(now)?, *permit.demand()).ok()
    }

    /// Replaces what was reserved by what was used.
    pub fn settle(&self, permit: Permit, used: Used, now: Timestamps) {
        permit.settle(used, now, |scope, alert| self.alert(scope, alert));
    }

    fn alert(&self, scope: &Scope, alert: Alert) {
        self.metrics.limits.alert(scope.rank, alert);
        let period = alert.calendar.map(|calendar| calendar.to_string()).unwrap_or_default();
        warn!(scope = %scope.name, limit = alert.kind.label(), %period, percent = alert.percent, "a quota or budget has reached this percentage");
    }
}
