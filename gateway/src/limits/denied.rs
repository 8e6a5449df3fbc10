//! Why a request is not admitted, in words for its caller.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_plugins::limits::{Calendar, Demand, KeptFor, LimitId, LimitKind, Remaining};
use spillway_plugins::prices::Money;

use crate::retry_after::retry_seconds;

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Whose limit was reached: `consumer 'crm-bot'`.
    pub scope: String,
    /// Which limit.
    pub id: LimitId,
    /// Its value, in requests, tokens or `Money`'s unit.
    pub limit: u64,
    /// Time until a retry makes sense, if known.
    pub wait: Option<Duration>,
    /// The request needs more than the whole limit.
    pub too_large: bool,
    /// A smaller request would be admitted.
    pub some_left: bool,
    /// For whom the rest of the limit is reserved, if it is.
    pub kept: Option<KeptFor>,
    /// What is left of the limits, if the caller may know.
    pub remaining: Remaining,
    /// It is not known what other nodes have used, and the config says to refuse then.
    pub unsure: bool,
    /// What the request would have reserved.
    #[serde(skip)]
    pub demand: Demand,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denied { scope, limit, .. } = self;
        // As in `retry-after`.
        let soon = retry_seconds(self.wait);
        let (kind, per) = (self.id.kind, Per(self.id.calendar));
        let again = Hours(self.wait);
        match kind {
            _ if self.unsure => write!(f, "the quota of {scope} can't be checked at the moment; try again"),
            LimitKind::Tokens if self.too_large => {
                write!(
                    f,
                    "this request may need more tokens than {scope} has per minute ({limit}); shorten it, or lower its completion cap"
                )
            }
            LimitKind::Quota if self.too_large => write!(
                f,
                "this request may need more tokens than the whole quota of {scope} ({limit}{per}); shorten it, or lower its completion cap"
            ),
            LimitKind::Budget if self.too_large => write!(
                f,
                "this request may cost more than the whole budget of {scope} ({}{per}); shorten it, or lower its completion cap",
                Money(*limit)
            ),
            LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent if self.kept == Some(KeptFor::Classes) => {
                write!(f, "{scope} is near its limit, and the rest is reserved for more urgent requests; try again in {soon} s")
            }
            LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent if self.kept == Some(KeptFor::Guarantees) => {
                write!(f, "{scope} is near its limit, and the rest is guaranteed to others in it; try again in {soon} s")
            }
            LimitKind::Requests => write!(f, "{scope} is at its limit of {limit} requests per minute; try again in {soon} s"),
            LimitKind::Tokens => write!(f, "{scope} is at its limit of {limit} tokens per minute; try again in {soon} s"),
            LimitKind::Concurrent => write!(f, "{scope} has {limit} requests at once, which is its limit; try again when one has ended"),
            LimitKind::RequestQuota | LimitKind::Quota if self.kept == Some(KeptFor::Guarantees) => {
                write!(f, "the rest of the quota of {scope}{per} is guaranteed to others in it; it starts again in {again}")
            }
            LimitKind::Budget if self.kept == Some(KeptFor::Guarantees) => {
                write!(f, "the rest of the budget of {scope}{per} is guaranteed to others in it; it starts again in {again}")
            }
            LimitKind::Quota if self.some_left => write!(
                f,
                "this request may need {} tokens, more than {scope} has left of its quota of {limit}{per}; shorten it, lower its completion \
                 cap, or wait: the quota starts again in {again}",
                self.demand.tokens
            ),
            LimitKind::Budget if self.some_left => write!(
                f,
                "this request may cost {}, more than {scope} has left of its budget of {}{per}; shorten it, lower its completion cap, or \
                 wait: the budget starts again in {again}",
                self.demand.cost,
                Money(*limit)
            ),
            LimitKind::RequestQuota => write!(f, "{scope} has used its quota of {limit} requests{per}; it starts again in {again}"),
            LimitKind::Quota => write!(f, "{scope} has used its quota of {limit} tokens{per}; it starts again in {again}"),
            LimitKind::Budget => write!(f, "{scope} has spent its budget of {}{per}; it starts again in {again}", Money(*limit)),
        }
    }
}

/// ` per day (Europe/Berlin)`.
struct Per(Option<Calendar>);

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |calendar| write!(f, " per {calendar}"))
    }
}

/// A long time, for people.
struct Hours(Option<Duration>);

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.unwrap_or_default().as_secs().div_ceil(60);
        match minutes {
            0..120 => write!(f, "{minutes} min"),
            120..2880 => write!(f, "{} h", minutes.div_ceil(60)),
            _ => write!(f, "{} days", minutes.div_ceil(1440)),
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_plugins::limits::{Period, Zone};

    use super::*;

    #[test]
    fn a_refusal_names_the_owner_the_period_and_when_it_starts_again() {
        let calendar = Calendar { period: Period::Day, zone: Zone::named("Europe/Berlin").unwrap() };
        let denied = Denied {
            scope: "group 'search'".into(),
            id: LimitId { kind: LimitKind::Quota, calendar: Some(calendar) },
            limit: 500,
            wait: Some(Duration::from_secs(7200)),
            too_large: false,
            some_left: false,
            kept: None,
            remaining: Remaining::default(),
            unsure: false,
            demand: Demand::default(),
        };
        let used = "group 'search' has used its quota of 500 tokens per day (Europe/Berlin); it starts again in 2 h";
        assert_eq!(denied.to_string(), used);
        // The window is a minute long, and its last part may be a little longer: SDKs wait for a minute at most.
        let rate = LimitId { kind: LimitKind::Requests, calendar: None };
        for (millis, told) in [(0, "in 1 s"), (1001, "in 2 s"), (60_000, "in 60 s"), (60_400, "in 60 s")] {
            let rate = Denied { id: rate, limit: 2, wait: Some(Duration::from_millis(millis)), ..denied.clone() };
            assert!(rate.to_string().ends_with(told), "{rate}");
        }
        let short = Denied { some_left: true, demand: Demand { tokens: 90, ..Demand::default() }, ..denied.clone() };
        let left = "this request may need 90 tokens, more than group 'search' has left of its quota of 500 per day (Europe/Berlin); shorten \
                    it, lower its completion cap, or wait: the quota starts again in 2 h";
        assert_eq!(short.to_string(), left);
        let budget = LimitId { kind: LimitKind::Budget, calendar: Some(Calendar::utc(Period::Month)) };
        let kept = Denied { id: budget, kept: Some(KeptFor::Guarantees), ..denied };
        let text = "the rest of the budget of group 'search' per month is guaranteed to others in it; it starts again in 2 h";
        assert_eq!(kept.to_string(), text);
    }
}
