//! The usage of a scope, sent to the process that takes over: all of it at first, then changes, while requests of the
//! old process are settled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LimitKind;
use super::calendar::Calendar;
use super::counts::{Counted, Counts, RATES};
use super::limit_name::LimitName;
use super::meters::Meters;
use super::period::Period;
use super::plan::Plan;
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
    pub(super) guaranteed: BTreeMap<String, PartUse>,
    /// What requests used beyond their reservations, if there are guarantees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beyond: Option<Beyond>,
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

/// Usage of a part of the limits, such as that of a scope to which something is guaranteed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartUse {
    pub(super) rates: Use,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<Periods>,
}

/// Usage of limits per minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) requests: BTreeMap<u64, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tokens: BTreeMap<u64, u64>,
    #[serde(default)]
    pub(super) in_flight: u64,
}

/// What requests used beyond their reservations. It counts only where no part of the limit is smaller in the new process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Beyond {
    used: PartUse,
    parts: Vec<Parts>,
}

/// How a limit is divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Parts {
    #[serde(flatten)]
    name: LimitName,
    common: u64,
    /// What is guaranteed, by whose it is.
    kept: BTreeMap<String, u64>,
}

impl Tally {
    /// Whether it has requests in flight.
    pub fn is_open(&self) -> bool {
        let guaranteed = self.guaranteed.values().map(|one| &one.rates);
        std::iter::once(&self.all).chain(&self.classes).chain(guaranteed).any(|one| one.in_flight > 0)
    }

    /// The final state if no more reports come: requests in flight have ended, and count with what they reserved.
    #[must_use]
    pub fn ended(mut self) -> Self {
        let guaranteed = self.guaranteed.values_mut().map(|one| &mut one.rates);
        for all in std::iter::once(&mut self.all).chain(&mut self.classes).chain(guaranteed) {
            all.in_flight = 0;
        }
        self
    }

    /// All of it.
    pub(super) fn whole(&self) -> PartUse {
        PartUse { rates: self.all.clone(), windows: self.current() }
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

impl PartUse {
    /// What of it is in the current period of a limit.
    pub(super) fn in_period(&self, counts: &Counts, place: usize, unix: i64) -> u64 {
        let counted = place.checked_sub(RATES).and_then(|at| counts.windows.get(at));
        let used = |counted: &Counted| Periods::find(&self.windows, counted)?.used.get(&counted.windows.span(unix).start).copied();
        counted.and_then(used).unwrap_or(0)
    }
}

impl Beyond {
    /// The use of those limits only of which no part is smaller in the state.
    fn that_holds(&self, used: &PartUse, state: &State) -> PartUse {
        let Plan { limits, pots } = &state.plan;
        let holds = |name: &LimitName| {
            let before = self.parts.iter().find(|parts| parts.name == *name);
            let limited = limits.iter().find(|limited| LimitName::of(limited.id) == *name);
            let (Some(before), Some(limited)) = (before, limited) else { return false };
            let kept = |child: &str| pots.iter().position(|pot| state.pots[*pot].child == child).map_or(0, |at| limited.kept[at]);
            before.common <= limited.common && before.kept.iter().all(|(child, amount)| *amount <= kept(child))
        };
        let of_rate = |kind, used: &BTreeMap<u64, u64>| if holds(&LimitName::of_rate(kind)) { used.clone() } else { BTreeMap::new() };
        let requests = of_rate(LimitKind::Requests, &used.rates.requests);
        let tokens = of_rate(LimitKind::Tokens, &used.rates.tokens);
        let windows = used.windows.iter().filter(|one| holds(&one.name())).cloned().collect();
        PartUse { rates: Use { requests, tokens, in_flight: 0 }, windows }
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
    fn name(&self) -> LimitName {
        LimitName { kind: self.kind, period: Some(self.period), zone: self.zone.clone() }
    }

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

    fn tally(&mut self) -> PartUse {
        let windows = self.windows.iter().map(Periods::of).collect();
        PartUse { rates: self.meters().tally(), windows }
    }

    fn add_difference(&mut self, before: &PartUse, after: &PartUse, ahead: i64, first: bool) {
        self.add_periods(&before.windows, &after.windows, first);
        self.meters().add_difference(&before.rates, &after.rates, ahead);
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
        let beyond = self.beyond.as_mut().map(|beyond| beyond.tally()).map(|used| Beyond { used, parts: self.parts() });
        let guaranteed = self.pots.iter_mut().map(|pot| (pot.child.clone(), pot.counts.tally())).collect();
        let mut meters = self.meters();
        let all = meters.next().map(|meters| meters.tally()).unwrap_or_default();
        let classes = meters.map(|meters| meters.tally()).collect();
        Tally { all, classes, windows, guaranteed, beyond, quota: None, budget: None }
    }

    fn parts(&self) -> Vec<Parts> {
        let Plan { limits, pots } = &self.plan;
        let parts = limits.iter().map(|limited| {
            let kept = pots.iter().zip(&limited.kept).map(|(pot, kept)| (self.pots[*pot].child.clone(), *kept));
            Parts { name: LimitName::of(limited.id), common: limited.common, kept: kept.collect() }
        });
        parts.collect()
    }

    /// Adds what the old process used since it reported `before`. At first `before` is empty, and what was known of its
    /// periods from elsewhere is removed.
    pub(super) fn add_difference(&mut self, before: Option<&Tally>, after: &Tally, ahead: i64) {
        self.watches.note();
        let (first, nothing) = (before.is_none(), Tally::default());
        let before = before.unwrap_or(&nothing);
        self.all.add_periods(&before.current(), &after.current(), first);
        let none = PartUse::default();
        for pot in &mut self.pots {
            let Some(after) = after.guaranteed.get(&pot.child) else { continue };
            pot.counts.add_difference(before.guaranteed.get(&pot.child).unwrap_or(&none), after, ahead, first);
        }
        if let Some(of) = &after.beyond {
            let before = before.beyond.as_ref().map_or(&none, |before| &before.used);
            let (before, after) = (of.that_holds(before, self), of.that_holds(&of.used, self));
            self.beyond.iter_mut().for_each(|beyond| beyond.add_difference(&before, &after, ahead, first));
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
