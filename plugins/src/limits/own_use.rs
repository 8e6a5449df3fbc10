//! Two processes of one node while one takes over from the other. The new one knows what the old one uses ([`Tally`]); this is
//! how the old one knows what the new one uses, while it still answers requests on connections of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamps;
use super::counts::Counts;
use super::limit_name::PeriodName;
use super::plan::{Limited, Plan};
use super::rolling::within_a_minute;
use super::share::{Granted, Share};
use super::state::State;
use super::tally::{PartUse, Tally};

/// What a process uses of a scope's limits now, without what it has taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnUse {
    limits: Vec<OfLimit>,
}

/// What it uses of one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OfLimit {
    #[serde(flatten)]
    name: PeriodName,
    used: u64,
    /// Of that, what counts for guarantees, by whose they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    guaranteed: BTreeMap<String, u64>,
}

impl OwnUse {
    /// Whether it decreases as time passes: something was used of a limit per minute.
    pub fn fades(&self) -> bool {
        self.limits.iter().any(|one| one.name.kind().is_rate() && one.used > 0)
    }

    /// Adds what a third process uses, of the same limits in the same periods.
    pub fn add(&mut self, other: &OwnUse) {
        for one in &mut self.limits {
            let Some(other) = other.limits.iter().find(|other| other.name == one.name) else { continue };
            one.used = one.used.saturating_add(other.used);
            for (child, used) in &other.guaranteed {
                let own = one.guaranteed.entry(child.clone()).or_default();
                *own = own.saturating_add(*used);
            }
        }
    }
}

/// What was taken over, and how far this clock is ahead of its sender's, in seconds.
#[derive(Debug, Clone, Copy)]
struct Inherited<'t> {
    tally: &'t Tally,
    ahead: i64,
    now: Timestamps,
}

impl Inherited<'_> {
    /// What of it still counts for a limit.
    fn of(&self, of: &PartUse, counts: &Counts, place: usize) -> u64 {
        let minute = |used: &BTreeMap<u64, u64>| {
            let here = used.iter().map(|(second, amount)| (second.saturating_add_signed(self.ahead), *amount));
            here.filter(|(second, _)| within_a_minute(*second, self.now.second())).fold(0u64, |sum, (_, amount)| sum.saturating_add(amount))
        };
        match place {
            0 => minute(&of.rates.requests),
            1 => minute(&of.rates.tokens),
            2 => of.rates.in_flight,
            _ => of.in_period(counts, place, self.now.unix),
        }
    }
}

impl State {
    /// What this process uses itself, if it has taken over `inherited` from one whose clock it is `ahead` of.
    pub(super) fn own_use(&mut self, plan: &Plan, inherited: Option<&Tally>, ahead: i64, now: Timestamps) -> OwnUse {
        self.advance(now);
        let none = Tally::default();
        let inherited = Inherited { tally: inherited.unwrap_or(&none), ahead, now };
        let (all, nothing) = (inherited.tally.whole(), PartUse::default());
        let own = |of: &PartUse, counts: &Counts, place| counts.used(place, now.unix).saturating_sub(inherited.of(of, counts, place));
        let of_limit = |limited: &Limited| {
            let place = limited.place;
            let pots = plan.pots.iter().zip(&limited.kept).filter(|(_, kept)| **kept > 0).filter_map(|(pot, _)| self.pots.get(*pot));
            let guaranteed = pots.map(|pot| {
                let taken = inherited.tally.guaranteed.get(&pot.child).unwrap_or(&nothing);
                (pot.child.clone(), own(taken, &pot.counts, place))
            });
            OfLimit {
                name: PeriodName::of(limited.id, self.all.span(place, now.unix)),
                used: own(&all, &self.all, place),
                guaranteed: guaranteed.collect(),
            }
        };
        OwnUse { limits: plan.limits.iter().map(of_limit).collect() }
    }

    /// Leaves to another process what that uses: this one has the rest of each limit as its share.
    pub(super) fn leave_to(&mut self, plan: &Plan, other: &OwnUse, now: Timestamps) {
        // What is told on to a third process contains it.
        self.watches.note();
        let proposal = self.draft(plan, now);
        let mut granted = Vec::new();
        for asked in &proposal.limits {
            let name = PeriodName::of(asked.id, asked.span);
            let theirs = other.limits.iter().find(|one| one.name == name);
            let of_child = |child: &str| theirs.and_then(|theirs| theirs.guaranteed.get(child)).copied().unwrap_or(0);
            let mut within = 0u64;
            for part in &asked.parts {
                let used = match &part.child {
                    Some(child) => of_child(child).min(part.limit),
                    // Parts that are guaranteed come first.
                    None => theirs.map_or(0, |theirs| theirs.used).saturating_sub(within),
                };
                within = within.saturating_add(used);
                granted.push(Granted { most: part.limit.saturating_sub(used), left: 0 });
            }
        }
        self.share = Some(Share::granted(&proposal, granted));
    }
}
