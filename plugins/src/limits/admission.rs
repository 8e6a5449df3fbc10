//! All or none: a request is admitted by all of its scopes at once.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::scope::{Rank, Scope};
use super::state::{Hold, Obstacle, State};
use super::{Alert, Cell, Counter, Demand, Kind, Now, Remaining, Used};

type Scopes<C> = SmallVec<[(Arc<Scope<C>>, Hold); 4]>;

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A limit is reached.
    Limit {
        /// Whose: `consumer 'crm-bot'`.
        scope: String,
        /// What it is.
        rank: Rank,
        /// Which limit.
        kind: Kind,
        /// How much it is, in requests, tokens or [`crate::prices::Money`]'s unit.
        limit: u64,
        /// Until it may be tried again, as far as can be told.
        wait: Option<Duration>,
        /// The request needs more than the whole limit.
        too_large: bool,
        /// What is left is kept for other classes.
        by_class: bool,
        /// What is left of this scope's rates, if the caller may know.
        remaining: Remaining,
    },
    /// A limit may allow it, but not this node's share: the others must be asked. By index of the scope.
    Share(SmallVec<[(usize, Kind); 2]>),
}

/// What was reserved for a request. Dropped without [`Permit::settle`], it used nothing; or, from [`Permit::spend`] on,
/// all of it.
#[derive(Debug)]
pub struct Permit<C: Cell<State> = parking_lot::Mutex<State>> {
    scopes: Scopes<C>,
    demand: Demand,
    /// Something may have been used.
    spent: bool,
    /// What the caller has left, the least of its own scopes.
    pub remaining: Remaining,
    /// What would have been refused if it weren't only counted.
    pub shadowed: SmallVec<[(Rank, Kind); 1]>,
}

/// Admits a request, or refuses it and books nothing. `scopes` stand in the order of their rank, one of
/// each at most. Alerts are about limits that ran out.
///
/// # Errors
/// [`Refused`]
pub fn admit<C: Cell<State>>(
    scopes: &[Arc<Scope<C>>],
    demand: Demand,
    now: Now,
    mut alert: impl FnMut(&Scope<C>, Alert),
) -> Result<Permit<C>, Refused> {
    debug_assert!(scopes.is_sorted_by(|a, b| a.rank < b.rank), "two requests must lock in the same order");
    let mut guards: SmallVec<[C::Guard<'_>; 4]> = scopes.iter().map(|scope| scope.lock()).collect();
    let mut shadowed = SmallVec::new();
    let mut worst: Option<(usize, Obstacle)> = None;
    let mut share = SmallVec::new();
    for (index, (scope, state)) in scopes.iter().zip(&mut guards).enumerate() {
        let Some(obstacle) = state.obstacle(&scope.rules, &demand, now) else { continue };
        if scope.rules.shadow {
            // What only this node's share lacks, other nodes may well have.
            if !obstacle.by_share {
                shadowed.push((scope.rank, obstacle.kind));
            }
        } else if obstacle.by_share {
            share.push((index, obstacle.kind));
        } else if worst.as_ref().is_none_or(|(_, other)| (obstacle.too_large, obstacle.wait) > (other.too_large, other.wait)) {
            worst = Some((index, obstacle));
        }
    }
    if let Some((index, obstacle)) = worst {
        let scope = &scopes[index];
        let remaining = if scope.rank <= Rank::ConsumerModel { guards[index].remaining(&scope.rules, now) } else { Remaining::default() };
        let alerts = guards[index].alerts(&scope.rules, now, Some(obstacle.kind).filter(|_| !obstacle.too_large));
        drop(guards);
        alerts.into_iter().flatten().for_each(|told| alert(scope, told));
        let Obstacle { kind, limit, wait, too_large, by_class, .. } = obstacle;
        return Err(Refused::Limit { scope: scope.name.clone(), rank: scope.rank, kind, limit, wait, too_large, by_class, remaining });
    }
    if !share.is_empty() {
        return Err(Refused::Share(share));
    }
    let mut remaining = Remaining::default();
    let mut booked = Scopes::new();
    for (scope, state) in scopes.iter().zip(&mut guards) {
        booked.push((Arc::clone(scope), state.book(&demand, now)));
        if scope.rank <= Rank::ConsumerModel {
            remaining = tightest(remaining, state.remaining(&scope.rules, now));
        }
    }
    Ok(Permit { scopes: booked, demand, spent: false, remaining, shadowed })
}

fn tightest(one: Remaining, other: Remaining) -> Remaining {
    let least = |one: Option<Counter>, other: Option<Counter>| match (one, other) {
        (Some(one), Some(other)) => Some(if other.remaining < one.remaining { other } else { one }),
        (one, other) => one.or(other),
    };
    Remaining { requests: least(one.requests, other.requests), tokens: least(one.tokens, other.tokens) }
}

impl<C: Cell<State>> Permit<C> {
    /// What was reserved.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// The request is over: it counts no more among those at once, though it isn't settled yet.
    pub fn release_slot(&mut self) {
        for (scope, hold) in &mut self.scopes {
            scope.lock().release_slot(hold, &self.demand);
        }
    }

    /// From here on something may be used: what is never settled counts as reserved.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// Books what was used beside what is reserved, which stays reserved for what comes next.
    pub fn book(&self, used: Used, now: Now, mut alert: impl FnMut(&Scope<C>, Alert)) {
        for (scope, hold) in &self.scopes {
            let mut state = scope.lock();
            state.advance(now.second());
            state.add(hold, &self.demand, used);
            let alerts = state.alerts(&scope.rules, now, None);
            drop(state);
            alerts.into_iter().flatten().for_each(|told| alert(scope, told));
        }
    }

    /// One of several answers is over and another may follow: what is reserved stands in the periods of `now` from here
    /// on, and not where it was booked.
    pub fn renew(&mut self, now: Now) {
        for (scope, hold) in &mut self.scopes {
            let mut state = scope.lock();
            state.advance(now.second());
            state.renew(hold, &self.demand, now);
        }
    }

    /// The quota or budget that has no room any more for what is reserved, if one has ended.
    pub fn ended(&self, now: Now) -> Option<Refused> {
        self.scopes.iter().find_map(|(scope, _)| {
            let (kind, limit, wait) = scope.lock().ended(&scope.rules, now).filter(|_| !scope.rules.shadow)?;
            let (scope, rank) = (scope.name.clone(), scope.rank);
            let remaining = Remaining::default();
            Some(Refused::Limit { scope, rank, kind, limit, wait, too_large: false, by_class: false, remaining })
        })
    }

    /// Replaces what was reserved by what was used.
    pub fn settle(mut self, used: Used, now: Now, mut alert: impl FnMut(&Scope<C>, Alert)) {
        for (scope, hold) in std::mem::take(&mut self.scopes) {
            let mut state = scope.lock();
            state.advance(now.second());
            state.settle(&hold, &self.demand, used);
            let alerts = state.alerts(&scope.rules, now, None);
            drop(state);
            alerts.into_iter().flatten().for_each(|told| alert(&scope, told));
        }
    }
}

impl<C: Cell<State>> Drop for Permit<C> {
    fn drop(&mut self) {
        let Demand { tokens, cost, .. } = self.demand;
        let used = if self.spent { Used { tokens, cost } } else { Used::default() };
        for (scope, hold) in &self.scopes {
            scope.lock().settle(hold, &self.demand, used);
        }
    }
}
