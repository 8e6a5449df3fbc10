//! The usage of a scope, sent to the process that takes over: all of it at first, then changes, while requests of the
//! old process are settled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::meters::Meters;
use super::period::Period;
use super::rolling::Rolling;
use super::state::State;
use super::windows::Windows;

/// The usage of a scope. Seconds are of the sender's monotonic clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests, tokens and concurrent requests.
    all: Use,
    /// The same by class, if classes are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<Use>,
    /// Tokens by the start of their period, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Periods>,
    /// Money by the start of its period, if it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<Periods>,
}

/// Usage by the start of its period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Periods {
    period: Period,
    used: BTreeMap<i64, u64>,
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
        for all in std::iter::once(&mut self.all).chain(&mut self.classes) {
            all.in_flight = 0;
        }
        self
    }
}

impl Meters<'_> {
    fn tally(&self) -> Use {
        let told = |rolling: &Option<&mut Rolling>| rolling.as_ref().map(|rolling| rolling.used().collect()).unwrap_or_default();
        Use { requests: told(&self.requests), tokens: told(&self.tokens), in_flight: *self.in_flight }
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

impl State {
    /// The current usage.
    pub(super) fn tally(&mut self) -> Tally {
        let windows =
            |windows: &Option<Windows>| windows.as_ref().map(|windows| Periods { period: windows.period(), used: windows.all().collect() });
        let (quota, budget) = (windows(&self.quota), windows(&self.budget));
        let mut meters = self.meters();
        let all = meters.next().map(|meters| meters.tally()).unwrap_or_default();
        Tally { all, classes: meters.map(|meters| meters.tally()).collect(), quota, budget }
    }

    /// Adds what the old process used since it reported `before`. At first `before` is empty, and what was known of its
    /// periods from elsewhere is removed.
    pub(super) fn add_difference(&mut self, before: Option<&Tally>, after: &Tally, ahead: i64) {
        let (first, nothing, no_periods) = (before.is_none(), Tally::default(), BTreeMap::new());
        let before = before.unwrap_or(&nothing);
        for (windows, before, after) in [(&mut self.quota, &before.quota, &after.quota), (&mut self.budget, &before.budget, &after.budget)]
        {
            let (Some(windows), Some(after)) = (windows, after) else { continue };
            // Only the ledger knows usage in periods of another length.
            if windows.period() != after.period {
                continue;
            }
            if first {
                *windows = Windows::new(windows.period());
            }
            let before = before.as_ref().filter(|before| before.period == after.period).map_or(&no_periods, |before| &before.used);
            for (start, less, more) in changes(before, &after.used) {
                windows.take_back(start, less);
                windows.add(start, more);
            }
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
