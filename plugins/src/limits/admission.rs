//! Admission: a request is admitted by all of its scopes at once, or by none.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::scope::{Rank, Scope};
use super::state::{Hold, Obstacle, State};
use super::{Alert, Cell, Counter, Demand, Kind, Remaining, Timestamps, Used};

type Scopes<C> = SmallVec<[(Arc<Scope<C>>, Hold); 4]>;

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A limit is reached.
    Limit {
        /// Whose limit it is: `consumer 'crm-bot'`.
        scope: String,
        /// The kind of its owner.
        rank: Rank,
        /// Which limit.
        kind: Kind,
        /// Its value, in requests, tokens or [`crate::prices::Money`]'s unit.
        limit: u64,
        /// Time until a retry makes sense, if known.
        wait: Option<Duration>,
        /// The request needs more than the whole limit.
        too_large: bool,
        /// The rest of the limit is reserved for other classes.
        by_class: bool,
        /// What is left of this scope's limits per minute, if the caller may know.
        remaining: Remaining,
    },
    /// A limit may allow it, but this node's share doesn't: the other nodes must be asked. By index of the scope.
    Share(SmallVec<[(usize, Kind); 2]>),
}

/// The reservation of a request. If it is dropped without [`Permit::settle`], the request used nothing; after
/// [`Permit::spend`], everything that was reserved.
#[derive(Debug)]
pub struct Permit<C: Cell<State> = parking_lot::Mutex<State>> {
    scopes: Scopes<C>,
    demand: Demand,
    /// Something may have been used.
    spent: bool,
    /// What the caller has left, the least of its own scopes.
    pub remaining: Remaining,
    /// Limits in shadow mode that would have refused the request.
    pub shadowed: SmallVec<[(Rank, Kind); 1]>,
}

/// Admits a request, or refuses it and reserves nothing. `scopes` are in the order of their rank, at most one of each.
/// Alerts are about limits that are almost used up.
///
/// # Errors
/// [`Refused`]
pub fn admit<C: Cell<State>>(
    scopes: &[Arc<Scope<C>>],
    demand: Demand,
    now: Timestamps,
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
            // If only this node's share is too small, other nodes may give some.
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
    /// What is reserved.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// The request has ended: it no longer counts as concurrent, though it isn't settled yet.
    pub fn release_slot(&mut self) {
        for (scope, hold) in &mut self.scopes {
            scope.lock().release_slot(hold, &self.demand);
        }
    }

    /// From now on the request may use something: without settlement, all that is reserved counts as used.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// Adds usage to what is reserved; the reservation stays for what comes next.
    pub fn book(&self, used: Used, now: Timestamps, mut alert: impl FnMut(&Scope<C>, Alert)) {
        for (scope, hold) in &self.scopes {
            let mut state = scope.lock();
            state.advance(now.second());
            state.add(hold, &self.demand, used);
            let alerts = state.alerts(&scope.rules, now, None);
            drop(state);
            alerts.into_iter().flatten().for_each(|told| alert(scope, told));
        }
    }

    /// One of several answers has ended and another may follow: the reservation moves into the periods of `now`.
    pub fn renew(&mut self, now: Timestamps) {
        for (scope, hold) in &mut self.scopes {
            let mut state = scope.lock();
            state.advance(now.second());
            state.renew(hold, &self.demand, now);
        }
    }

    /// The quota or budget that is used up, so that the reservation no longer fits, if any.
    pub fn ended(&self, now: Timestamps) -> Option<Refused> {
        self.scopes.iter().find_map(|(scope, _)| {
            let (kind, limit, wait) = scope.lock().ended(&scope.rules, now).filter(|_| !scope.rules.shadow)?;
            let (scope, rank) = (scope.name.clone(), scope.rank);
            let remaining = Remaining::default();
            Some(Refused::Limit { scope, rank, kind, limit, wait, too_large: false, by_class: false, remaining })
        })
    }

    /// Replaces what was reserved by what was used.
    pub fn settle(mut self, used: Used, now: Timestamps, mut alert: impl FnMut(&Scope<C>, Alert)) {
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
