//! One owner of limits: a consumer, a consumer's model, a group or a pool.

use std::sync::Arc;

use super::period::Span;
use super::share::{Proposal, Share, headroom};
use super::state::State;
use super::{Cell, Left, LimitKind, Remaining, Rules, Tally, Timestamps, Used};

/// The kind of owner. A request has at most one of each, and locks them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A consumer.
    Consumer,
    /// A consumer's usage of one model.
    ConsumerModel,
    /// A group of consumers.
    Group,
    /// A pool.
    Pool,
}

/// The current use of limits, for operators; in the order of [`Kind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Limits.
    pub limits: [Option<u64>; 5],
    /// The usage, with reservations.
    pub used: [u64; 5],
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
    /// Shared with the scope of the same name before and after a reload: usage is kept.
    state: Arc<C>,
}

impl<C: Cell<State>> Scope<C> {
    /// A scope without usage. `shared`: other nodes use its limits, too.
    pub fn new(rank: Rank, name: String, rules: Rules, shared: bool) -> Arc<Self> {
        Arc::new(Scope { rank, name, state: Arc::new(C::new(State::new(&rules, shared))), rules })
    }

    /// The same owner with other limits: usage is kept, and requests in flight settle here. Returns the kinds whose
    /// period was not counted before, so that their usage isn't known yet.
    pub fn with_rules(&self, rules: Rules) -> (Arc<Self>, Vec<LimitKind>) {
        let begun = self.lock().adopt(&rules);
        (Arc::new(Scope { rank: self.rank, name: self.name.clone(), state: Arc::clone(&self.state), rules }), begun)
    }

    pub(super) fn lock(&self) -> C::Guard<'_> {
        self.state.lock()
    }

    /// Adds the usage before this process started.
    pub fn restore(&self, used: Used, kind: LimitKind, at: i64) {
        let mut state = self.lock();
        match kind {
            LimitKind::Quota => drop(state.quota.as_mut().map(|quota| quota.add(at, used.tokens))),
            LimitKind::Budget => drop(state.budget.as_mut().map(|budget| budget.add(at, used.cost.0))),
            LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent => {}
        }
    }

    /// The usage, for the process that takes over.
    pub fn tally(&self, now: Timestamps) -> Tally {
        let mut state = self.lock();
        state.advance(now.second());
        state.tally()
    }

    /// Adds what the old process has used since it reported `before`. `ahead`: how far this process's monotonic clock
    /// is ahead of the old one's, in seconds.
    pub fn add_difference(&self, before: Option<&Tally>, after: &Tally, ahead: i64, now: Timestamps) {
        let mut state = self.lock();
        state.advance(now.second());
        state.add_difference(before, after, ahead);
    }

    /// The current usage.
    pub fn snapshot(&self, now: Timestamps) -> Snapshot {
        let mut state = self.lock();
        state.advance(now.second());
        Snapshot { limits: LimitKind::ALL.map(|kind| self.rules.limit(kind)), used: state.used(now.unix) }
    }

    /// What this node sends to an agreement. From this moment on it no longer uses what it gives back: other nodes may
    /// get it before this node gets an answer.
    pub fn propose(&self, now: Timestamps) -> Proposal {
        let mut state = self.lock();
        state.advance(now.second());
        let used = state.used(now.unix);
        let missed = std::mem::take(&mut state.missed);
        let active = std::mem::take(&mut state.active);
        let had = LimitKind::ALL.map(|kind| state.share_of(kind, now).unwrap_or(0));
        let wanted = LimitKind::ALL.map(|kind| {
            let (at, limit) = (kind as usize, self.rules.limit(kind).unwrap_or(0));
            let room = if active { headroom(kind, limit).max(missed[at]) } else { 0 };
            used[at].saturating_add(room).min(limit)
        });
        let (quota, budget) = state.spans(now);
        let (quota_start, budget_start) = (quota.map_or(0, |span| span.start), budget.map_or(0, |span| span.start));
        let most = std::array::from_fn(|at| had[at].min(wanted[at].max(used[at])));
        let others = state.share.map_or([0; 5], |share| share.others);
        let kept = Share { most, others, quota_start, budget_start };
        if state.share.is_some() {
            state.share = Some(kept);
        }
        Proposal { used, had, wanted, kept, quota_start, budget_start }
    }

    /// Whether there is anything to agree on: demand or unused share since the last agreement, or (unless the last one
    /// is `fresh`) a reminder for the others.
    pub fn wants_agreement(&self, now: Timestamps, fresh: bool) -> bool {
        let mut state = self.lock();
        state.advance(now.second());
        let used = state.used(now.unix);
        let spare = LimitKind::ALL.into_iter().any(|kind| state.share_of(kind, now).unwrap_or(0) > used[kind as usize]);
        state.active || spare || (!fresh && used.iter().any(|used| *used > 0))
    }

    /// The current periods of quota and budget.
    pub fn periods(&self, now: Timestamps) -> (Option<Span>, Option<Span>) {
        self.lock().spans(now)
    }

    /// Sets this node's share; `None` is the whole limit.
    pub fn set_share(&self, share: Option<Share>) {
        self.lock().share = share;
    }

    /// What is left of each limit, in the order of [`LimitKind::ALL`].
    pub fn left(&self, now: Timestamps) -> Vec<Left> {
        let mut state = self.lock();
        state.advance(now.second());
        state.left(&self.rules, now)
    }

    /// What a caller has left of its limits per minute.
    pub fn remaining(&self, now: Timestamps) -> Remaining {
        let mut state = self.lock();
        state.advance(now.second());
        state.remaining(&self.rules, now)
    }
}
