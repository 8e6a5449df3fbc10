//! One owner of limits: a consumer, a consumer's model, a group or a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::changes::Changes;
use super::counts::need;
use super::period::Span;
use super::plan::{Limited, Plan};
use super::rules::{LimitId, Rules};
use super::share::{Proposal, Share};
use super::state::{Begun, State};
use super::{Cell, Counter, Demand, OwnUse, Remaining, Tally, Timestamps};

/// The kind of owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A consumer.
    Consumer,
    /// A consumer's usage of one model.
    ConsumerModel,
    /// A group of consumers, or of groups.
    Group,
    /// A pool.
    Pool,
}

/// The current use of one limit, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitUse {
    /// Which limit.
    pub id: LimitId,
    /// Its value.
    pub limit: u64,
    /// The usage, with reservations.
    pub used: u64,
    /// The current period, if it counts by the calendar.
    pub span: Option<Span>,
    /// What is guaranteed to scopes below: to whom, how much, and how much of it they use.
    pub guaranteed: Vec<(String, u64, u64)>,
}

/// An owner of limits, and their use.
#[derive(Debug)]
pub struct Scope<C = parking_lot::Mutex<State>> {
    /// The kind of owner.
    pub rank: Rank,
    /// Its name for callers and operators: `consumer 'crm-bot'`.
    pub name: String,
    /// Its limits.
    pub rules: Rules,
    pub(super) plan: Plan,
    /// The number of its state. Requests lock states in the order of their numbers, which stay the same when the config
    /// moves a group to another place in the tree: requests of both configs run at the same time.
    number: u64,
    /// Shared with the scope of the same name before and after a reload: usage is kept.
    state: Arc<C>,
}

/// The number of the next state.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl<C: Cell<State>> Scope<C> {
    /// A scope without usage. `shared`: other nodes use its limits, too.
    pub fn new(rank: Rank, name: String, rules: Rules, shared: bool) -> Arc<Self> {
        Self::begin(rank, name, rules, shared).0
    }

    /// A scope without usage, and the periods whose usage isn't known yet.
    pub fn begin(rank: Rank, name: String, rules: Rules, shared: bool) -> (Arc<Self>, Vec<Begun>) {
        let mut state = State::new(shared);
        let (plan, begun) = state.adopt(&rules);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        (Arc::new(Scope { rank, name, rules, plan, number, state: Arc::new(C::new(state)) }), begun)
    }

    /// The same owner with other limits: usage is kept, and requests in flight settle here. Returns the periods that
    /// were not counted before, so that their usage isn't known yet.
    pub fn with_rules(&self, rules: Rules) -> (Arc<Self>, Vec<Begun>) {
        let (plan, begun) = self.lock().adopt(&rules);
        let (rank, name, number, state) = (self.rank, self.name.clone(), self.number, Arc::clone(&self.state));
        (Arc::new(Scope { rank, name, rules, plan, number, state }), begun)
    }

    pub(super) fn lock(&self) -> C::Guard<'_> {
        self.state.lock()
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Which of its guarantees is for the scope of this name.
    pub fn guarantee_of(&self, child: &str) -> Option<usize> {
        self.rules.guaranteed.iter().position(|guarantee| guarantee.child == child)
    }

    /// Adds the usage before this process started, in the period that contains `at`.
    pub fn restore(&self, begun: &Begun, amount: u64, at: i64) {
        self.lock().restore(begun, amount, at);
    }

    /// The usage, for the process that takes over.
    pub fn tally(&self, now: Timestamps) -> Tally {
        let mut state = self.lock();
        state.advance(now);
        state.tally()
    }

    /// Adds what the old process has used since it reported `before`. `ahead`: how far this process's monotonic clock
    /// is ahead of the old one's, in seconds.
    pub fn add_difference(&self, before: Option<&Tally>, after: &Tally, ahead: i64, now: Timestamps) {
        let mut state = self.lock();
        state.advance(now);
        state.add_difference(before, after, ahead);
    }

    /// What this process uses itself, without what it has `inherited` from one whose monotonic clock it is `ahead` of, in
    /// seconds.
    pub fn own_use(&self, inherited: Option<&Tally>, ahead: i64, now: Timestamps) -> OwnUse {
        self.lock().own_use(&self.plan, inherited, ahead, now)
    }

    /// Leaves to the process that takes over what that uses itself: this one has the rest of each limit, as its share.
    pub fn leave_to(&self, other: &OwnUse, now: Timestamps) {
        self.lock().leave_to(&self.plan, other, now);
    }

    /// Whether another process decides what is admitted here: then [`super::admit`] says [`super::Refused::Share`] where it would admit.
    pub fn decide_elsewhere(&self, elsewhere: bool) {
        self.lock().is_elsewhere = elsewhere;
    }

    /// From now on `changes` gets this scope's name after its usage or its rules have changed, and once at first.
    pub fn watch(&self, changes: &Arc<Changes>) {
        self.lock().watches.add(&self.name, changes);
    }

    /// Ends [`Scope::watch`].
    pub fn unwatch(&self, changes: &Arc<Changes>) {
        self.lock().watches.remove(changes);
    }

    /// What was told to `changes` is about to be read: changes from now on are told again.
    pub fn seen(&self, changes: &Arc<Changes>) {
        self.lock().watches.seen(changes);
    }

    /// The current use of each limit.
    pub fn snapshot(&self, now: Timestamps) -> Vec<LimitUse> {
        let mut state = self.lock();
        state.advance(now);
        let of_limit = |limited: &Limited| {
            let guaranteed = self.rules.guaranteed.iter().zip(&self.plan.pots).zip(&limited.kept).filter(|(_, kept)| **kept > 0);
            let used = |pot: usize| state.pots[pot].counts.used(limited.place, now.unix);
            LimitUse {
                id: limited.id,
                limit: limited.limit,
                used: state.all.used(limited.place, now.unix),
                span: state.all.span(limited.place, now.unix),
                guaranteed: guaranteed.map(|((one, pot), kept)| (one.child.clone(), *kept, used(*pot).min(*kept))).collect(),
            }
        };
        self.plan.limits.iter().map(of_limit).collect()
    }

    /// What this node sends to an agreement. From this moment on it no longer uses what it gives back: other nodes may
    /// get it before this node gets an answer.
    pub fn propose(&self, now: Timestamps) -> Proposal {
        self.lock().propose(&self.plan, now)
    }

    /// What this node would send now. It goes on as before, and its needs stay to be sent.
    pub fn draft(&self, now: Timestamps) -> Proposal {
        self.lock().draft(&self.plan, now)
    }

    /// Whether there is anything to agree on: demand or unused share since the last agreement, or (unless the last one
    /// is `fresh`) a reminder for the others.
    pub fn wants_agreement(&self, now: Timestamps, fresh: bool) -> bool {
        self.lock().wants_agreement(&self.plan, now, fresh)
    }

    /// The value of one of its limits, and its current period.
    pub fn limit(&self, id: LimitId, now: Timestamps) -> (u64, Option<Span>) {
        let limited = self.plan.limits.iter().find(|limited| limited.id == id);
        limited.map_or((0, None), |limited| (limited.limit, self.lock().all.span(limited.place, now.unix)))
    }

    /// Time until what this node has used leaves room in its share of a limit per minute for a request that comes through the
    /// guarantee at `via`. `None` if nothing that was used here is in its way: then it isn't known.
    pub fn wait(&self, id: LimitId, via: Option<usize>, demand: &Demand, now: Timestamps) -> Option<Duration> {
        let mut state = self.lock();
        state.advance(now);
        let limited = self.plan.limits.iter().find(|limited| limited.id == id)?;
        let here = state.allowed_here(&self.plan, limited, via, now).unwrap_or(limited.limit);
        state.wait(limited, here.saturating_sub(need(id.kind, demand)), now).filter(|wait| !wait.is_zero())
    }

    /// Whether by this share nothing is left of one of its limits for one who comes through the guarantee at `via`.
    pub fn is_used_up(&self, id: LimitId, via: Option<usize>, share: &Share) -> bool {
        let pot = via.and_then(|at| self.plan.pots.get(at).copied());
        self.plan.limits.iter().filter(|limited| limited.id == id).all(|limited| share.is_used_up(pot, limited.place))
    }

    /// Whether one of its limits would allow a request, if nothing of it were guaranteed to others.
    pub fn is_kept_for_others(&self, id: LimitId, demand: &Demand, now: Timestamps) -> bool {
        let state = self.lock();
        let fits = |limited: &Limited| {
            let used = state.all.used(limited.place, now.unix).saturating_add(state.others(limited, now));
            used.saturating_add(need(id.kind, demand)) <= limited.limit
        };
        !self.plan.pots.is_empty() && self.plan.limits.iter().any(|limited| limited.id == id && fits(limited))
    }

    /// Sets this node's share; `None` is the whole limit.
    pub fn set_share(&self, share: Option<Share>) {
        self.lock().share = share;
    }

    /// What is left of each limit for one who comes through the guarantee at `via`, in the order of the limits.
    pub fn left(&self, via: Option<usize>, now: Timestamps) -> Vec<(LimitId, Counter)> {
        let mut state = self.lock();
        state.advance(now);
        self.plan.limits.iter().map(|limited| (limited.id, state.counter(&self.plan, limited, via, now))).collect()
    }

    /// What a caller has left, if it comes through the guarantee at `via`.
    pub fn remaining(&self, via: Option<usize>, now: Timestamps) -> Remaining {
        let mut state = self.lock();
        state.advance(now);
        state.remaining(&self.plan, via, now)
    }

    /// The usage of a kind that doesn't count by the calendar, or of the first of its limits that do.
    #[cfg(test)]
    pub(super) fn used(&self, kind: super::LimitKind, now: Timestamps) -> u64 {
        let mut state = self.lock();
        state.advance(now);
        let place = match kind {
            super::LimitKind::Requests => Some(0),
            super::LimitKind::Tokens => Some(1),
            super::LimitKind::Concurrent => Some(2),
            _ => self.plan.limits.iter().find(|limited| limited.id.kind == kind).map(|limited| limited.place),
        };
        place.map_or(0, |place| state.all.used(place, now.unix))
    }
}
