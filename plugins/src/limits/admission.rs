//! Admission: a request is admitted by all of its scopes at once, or by none.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::path::{Path, Step};
use super::rules::LimitId;
use super::scope::{Rank, Scope};
use super::state::{Hold, Obstacle, State};
use super::{Alert, Cell, Counter, Demand, Remaining, Timestamps, Used};

type Booked<C> = SmallVec<[(Arc<Scope<C>>, Hold); 4]>;

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
        id: LimitId,
        /// Its value, in requests, tokens or [`crate::prices::Money`]'s unit.
        limit: u64,
        /// Time until a retry makes sense, if known.
        wait: Option<Duration>,
        /// The request needs more than the whole limit.
        too_large: bool,
        /// A smaller request would be admitted.
        some_left: bool,
        /// Why the rest of the limit is not for this request, if that is so.
        kept: Option<KeptFor>,
        /// What is left of this scope's limits, if the caller may know.
        remaining: Box<Remaining>,
    },
    /// A limit may allow it, but this node's share doesn't: the other nodes must be asked. By index of the step.
    Share(SmallVec<[(usize, LimitId); 2]>),
}

/// For whom the rest of a limit is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptFor {
    /// Other classes of callers.
    Classes,
    /// Scopes to which it is guaranteed.
    Guarantees,
}

/// The reservation of a request. If it is dropped without [`Permit::settle`], the request used nothing; after
/// [`Permit::spend`], everything that was reserved.
#[derive(Debug)]
pub struct Permit<C: Cell<State> = parking_lot::Mutex<State>> {
    scopes: Booked<C>,
    demand: Demand,
    /// Something may have been used.
    spent: bool,
    /// What the caller has left, the least of its own scopes and its groups.
    pub remaining: Remaining,
    /// Limits in shadow mode that would have refused the request.
    pub shadowed: SmallVec<[(Rank, LimitId); 1]>,
}

/// Admits a request, or refuses it and reserves nothing. Alerts are about limits that are almost used up.
///
/// # Errors
/// [`Refused`]
pub fn admit<C: Cell<State>>(
    path: &Path<C>,
    demand: Demand,
    now: Timestamps,
    alert: impl FnMut(&Scope<C>, Alert),
) -> Result<Permit<C>, Refused> {
    reserve(path, demand, now, |state, step, now| state.obstacle(&step.scope.plan, step.via, &demand, now), alert)
}

/// As [`admit`], for a request that another process has admitted, which decides ([`Scope::decide_elsewhere`]): what it has checked
/// is not checked here, but only the scopes that are `unknown` to it.
///
/// # Errors
/// [`Refused`]
pub fn admit_granted<C: Cell<State>>(
    path: &Path<C>,
    demand: Demand,
    now: Timestamps,
    unknown: impl Fn(&Scope<C>) -> bool,
    alert: impl FnMut(&Scope<C>, Alert),
) -> Result<Permit<C>, Refused> {
    let obstacle = |state: &mut State, Step { scope, via, .. }: &Step<C>, now| {
        state.advance(now);
        if !unknown(scope) {
            return None;
        }
        let is_elsewhere = std::mem::take(&mut state.is_elsewhere);
        let obstacle = state.obstacle(&scope.plan, *via, &demand, now);
        state.is_elsewhere = is_elsewhere;
        obstacle
    };
    reserve(path, demand, now, obstacle, alert)
}

/// Reserves at all of the scopes, if none has an `obstacle`.
fn reserve<C: Cell<State>>(
    path: &Path<C>,
    demand: Demand,
    now: Timestamps,
    obstacle: impl Fn(&mut State, &Step<C>, Timestamps) -> Option<Obstacle>,
    mut alert: impl FnMut(&Scope<C>, Alert),
) -> Result<Permit<C>, Refused> {
    let steps = path.steps();
    debug_assert!(steps.is_sorted_by(|a, b| a.scope.number() < b.scope.number()), "two requests must lock in the same order");
    let mut guards: SmallVec<[C::Guard<'_>; 4]> = steps.iter().map(|step| step.scope.lock()).collect();
    let mut shadowed = SmallVec::new();
    let mut worst: Option<(usize, Obstacle)> = None;
    let mut share = SmallVec::new();
    for (index, (step, state)) in steps.iter().zip(&mut guards).enumerate() {
        let Some(obstacle) = obstacle(state, step, now) else { continue };
        let scope = &step.scope;
        if scope.rules.shadow {
            // If only this node's share is too small, other nodes may give some.
            if !obstacle.by_share {
                shadowed.push((scope.rank, obstacle.id));
            }
        } else if obstacle.by_share {
            share.push((index, obstacle.id));
        } else if worst.as_ref().is_none_or(|(at, other)| weight(&steps[index], &obstacle) > weight(&steps[*at], other)) {
            worst = Some((index, obstacle));
        }
    }
    if let Some((index, obstacle)) = worst {
        let Step { scope, via, .. } = &steps[index];
        // What a group has left would show what others in it use.
        let shown = scope.rank <= Rank::ConsumerModel;
        let remaining = if shown { guards[index].remaining(&scope.plan, *via, now) } else { Remaining::default() };
        let alerts = guards[index].alerts(&scope.plan, now, Some(obstacle.place).filter(|_| !obstacle.too_large));
        drop(guards);
        alerts.into_iter().for_each(|reached| alert(scope, reached));
        let Obstacle { id, limit, wait, too_large, some_left, .. } = obstacle;
        let kept = match () {
            () if obstacle.by_class => Some(KeptFor::Classes),
            () if obstacle.by_guarantee => Some(KeptFor::Guarantees),
            () => None,
        };
        let remaining = Box::new(remaining);
        let (scope, rank) = (scope.name.clone(), scope.rank);
        return Err(Refused::Limit { scope, rank, id, limit, wait, too_large, some_left, kept, remaining });
    }
    if !share.is_empty() {
        return Err(Refused::Share(share));
    }
    let mut remaining = Remaining::default();
    let mut booked = Booked::new();
    for (Step { scope, via, .. }, state) in steps.iter().zip(&mut guards) {
        booked.push((Arc::clone(scope), state.book(&scope.plan, *via, &demand, now)));
        if scope.rank <= Rank::ConsumerModel {
            remaining = tightest(remaining, state.remaining(&scope.plan, *via, now));
        }
    }
    Ok(Permit { scopes: booked, demand, spent: false, remaining, shadowed })
}

/// How much an obstacle matters to the caller: the one with the longest wait; of equal ones, the one nearest to it.
fn weight<C: Cell<State>>(step: &Step<C>, obstacle: &Obstacle) -> (bool, Option<Duration>, Reverse<u8>) {
    (obstacle.too_large, obstacle.wait, Reverse(step.distance))
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
            state.advance(now);
            state.add(hold, &self.demand, used);
            let alerts = state.alerts(&scope.plan, now, None);
            drop(state);
            alerts.into_iter().for_each(|reached| alert(scope, reached));
        }
    }

    /// One of several answers has ended and another may follow: the reservation moves into the periods of `now`.
    pub fn renew(&mut self, now: Timestamps) {
        for (scope, hold) in &mut self.scopes {
            let mut state = scope.lock();
            state.advance(now);
            state.renew(hold, &self.demand, now);
        }
    }

    /// The quota or budget that is used up, so that the reservation no longer fits, if any.
    pub fn ended(&self, now: Timestamps) -> Option<Refused> {
        self.scopes.iter().find_map(|(scope, hold)| {
            let (id, limit, wait) = scope.lock().ended(&scope.plan, hold, now).filter(|_| !scope.rules.shadow)?;
            let (scope, rank) = (scope.name.clone(), scope.rank);
            let remaining = Box::default();
            Some(Refused::Limit { scope, rank, id, limit, wait, too_large: false, some_left: false, kept: None, remaining })
        })
    }

    /// The request counts elsewhere: takes back all of it here.
    pub fn revoke(mut self) {
        for (scope, hold) in std::mem::take(&mut self.scopes) {
            scope.lock().revoke(&hold, &self.demand);
        }
    }

    /// Replaces what was reserved by what was used.
    pub fn settle(mut self, used: Used, now: Timestamps, mut alert: impl FnMut(&Scope<C>, Alert)) {
        for (scope, hold) in std::mem::take(&mut self.scopes) {
            let mut state = scope.lock();
            state.advance(now);
            state.settle(&hold, &self.demand, used);
            let alerts = state.alerts(&scope.plan, now, None);
            drop(state);
            alerts.into_iter().for_each(|reached| alert(&scope, reached));
        }
    }
}

impl<C: Cell<State>> Drop for Permit<C> {
    fn drop(&mut self) {
        let used = if self.spent { self.demand.most() } else { Used::default() };
        for (scope, hold) in &self.scopes {
            scope.lock().settle(hold, &self.demand, used);
        }
    }
}
