//! The usage of a scope, sent to the process that takes over: all of it at first, then changes, while requests of the
//! old process are settled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LimitKind;
use super::calendar::Calendar;
use super::counts::{Counted, Counts};
use super::meters::Meters;
use super::period::Period;
use super::rolling::Rolling;
use super::state::State;
use super::zone::Zone;

/// The usage of a scope. Seconds are of the sender's monotonic clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests, tokens and concurrent requests.
    all: Use,
    /// The same by class, if classes are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<Use>,
    /// Usage by period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<Periods>,
    /// Usage of scopes to which something is guaranteed, by their name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    guaranteed: BTreeMap<String, Guaranteed>,
    /// Tokens by the start of their period, from a process that had one quota per scope, in UTC.
    #[serde(default, skip_serializing)]
    quota: Option<OldPeriods>,
    /// The same of money.
    #[serde(default, skip_serializing)]
    budget: Option<OldPeriods>,
}

/// Usage by the start of its period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Periods {
    kind: LimitKind,
    period: Period,
    /// The time zone; none is UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    used: BTreeMap<i64, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct OldPeriods {
    period: Period,
    used: BTreeMap<i64, u64>,
}

/// Usage of a scope to which something is guaranteed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Guaranteed {
    rates: Use,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<Periods>,
}

/// Usage of limits per minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    requests: BTreeMap<u64, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tokens: BTreeMap<u64, u64>,
    #[serde(default)]
    in_flight: u64,
}

impl Tally {
    /// The final state if no more reports come: requests in flight have ended, and count with what they reserved.
    #[must_use]
    pub fn ended(mut self) -> Self {
        let guaranteed = self.guaranteed.values_mut().map(|one| &mut one.rates);
        for all in std::iter::once(&mut self.all).chain(&mut self.classes).chain(guaranteed) {
            all.in_flight = 0;
        }
        self
    }

    /// As newer processes send it.
    fn current(&self) -> Vec<Periods> {
        let old = [(LimitKind::Quota, &self.quota), (LimitKind::Budget, &self.budget)];
        let old = old.into_iter().filter_map(|(kind, periods)| {
            let OldPeriods { period, used } = periods.as_ref()?;
            Some(Periods { kind, period: *period, zone: None, used: used.clone() })
        });
        self.windows.iter().cloned().chain(old).collect()
    }
}

impl Meters<'_> {
    fn tally(&self) -> Use {
        let counts = |rolling: &Option<&mut Rolling>| rolling.as_ref().map(|rolling| rolling.used().collect()).unwrap_or_default();
        Use { requests: counts(&self.requests), tokens: counts(&self.tokens), in_flight: *self.in_flight }
    }

    /// `ahead`: how far this clock is ahead of the sender's, in seconds.
    fn add_difference(&mut self, before: &Use, after: &Use, ahead: i64) {
        for (rolling, before, after) in
            [(&mut self.requests, &before.requests, &after.requests), (&mut self.tokens, &before.tokens, &after.tokens)]
        {
            let Some(rolling) = rolling else { continue };
            for (second, less, more) in changes(before, after) {
                let second = second.saturating_add_signed(ahead);
                rolling.take_back(second, less);
                rolling.add_at(second, more);
            }
        }
        *self.in_flight = self.in_flight.saturating_add(after.in_flight).saturating_sub(before.in_flight);
    }
}

/// The decrease and the increase under each key. Amounts that are missing in `after` were given back or are too old:
/// they are removed here, too.
fn changes<K: Ord + Copy>(before: &BTreeMap<K, u64>, after: &BTreeMap<K, u64>) -> impl Iterator<Item = (K, u64, u64)> {
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key)).map(|(key, then)| (*key, *then, 0));
    gone.chain(after.iter().map(|(key, now)| {
        let then = before.get(key).copied().unwrap_or(0);
        (*key, then.saturating_sub(*now), now.saturating_sub(then))
    }))
}

impl Periods {
    fn of(counted: &Counted) -> Self {
        let Calendar { period, zone } = counted.windows.calendar();
        let zone = (!zone.is_utc()).then(|| zone.name().to_owned());
        Periods { kind: counted.kind, period, zone, used: counted.windows.all().collect() }
    }

    /// The usage of one of `all` that `counted` counts, too.
    fn find<'p>(all: &'p [Periods], counted: &Counted) -> Option<&'p Periods> {
        let Calendar { period, zone } = counted.windows.calendar();
        let is_same = |one: &&Periods| {
            one.kind == counted.kind && one.period == period && one.zone.as_deref().unwrap_or(Zone::UTC.name()) == zone.name()
        };
        all.iter().find(is_same)
    }
}

impl Counts {
    fn meters(&mut self) -> Meters<'_> {
        Meters { requests: self.requests.as_mut(), tokens: self.tokens.as_mut(), in_flight: &mut self.in_flight }
    }

    /// `first`: what was known of its periods from elsewhere is removed.
    fn add_periods(&mut self, before: &[Periods], after: &[Periods], first: bool) {
        let nothing = BTreeMap::new();
        for counted in &mut self.windows {
            // Only the ledger knows usage in other periods.
            let Some(after) = Periods::find(after, counted) else { continue };
            if first {
                counted.windows.clear();
            }
            let before = Periods::find(before, counted).map_or(&nothing, |before| &before.used);
            for (start, less, more) in changes(before, &after.used) {
                counted.windows.take_back(start, less);
                counted.windows.add_past(start, more);
            }
        }
    }
}

impl State {
    /// The current usage.
    pub(super) fn tally(&mut self) -> Tally {
        let windows = self.all.windows.iter().map(Periods::of).collect();
        let guaranteed = self.pots.iter_mut().map(|pot| {
            let windows = pot.counts.windows.iter().map(Periods::of).collect();
            (pot.child.clone(), Guaranteed { rates: pot.counts.meters().tally(), windows })
        });
        let guaranteed = guaranteed.collect();
        let mut meters = self.meters();
        let all = meters.next().map(|meters| meters.tally()).unwrap_or_default();
        let classes = meters.map(|meters| meters.tally()).collect();
        Tally { all, classes, windows, guaranteed, quota: None, budget: None }
    }

    /// Adds what the old process used since it reported `before`. At first `before` is empty, and what was known of its
    /// periods from elsewhere is removed.
    pub(super) fn add_difference(&mut self, before: Option<&Tally>, after: &Tally, ahead: i64) {
        let (first, nothing) = (before.is_none(), Tally::default());
        let before = before.unwrap_or(&nothing);
        self.all.add_periods(&before.current(), &after.current(), first);
        let none = Guaranteed::default();
        for pot in &mut self.pots {
            let Some(after) = after.guaranteed.get(&pot.child) else { continue };
            let before = before.guaranteed.get(&pot.child).unwrap_or(&none);
            pot.counts.add_periods(&before.windows, &after.windows, first);
            pot.counts.meters().add_difference(&before.rates, &after.rates, ahead);
        }
        let none = Use::default();
        let mut uses = std::iter::once((&before.all, &after.all))
            .chain(after.classes.iter().enumerate().map(|(at, after)| (before.classes.get(at).unwrap_or(&none), after)));
        for mut meters in self.meters() {
            if let Some((before, after)) = uses.next() {
                meters.add_difference(before, after, ahead);
            }
        }
    }
}
