//! The limits of one scope, as the config has them.

use std::fmt;

use super::LimitKind;
use super::calendar::Calendar;
use super::period::Period;

/// A limit per calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// What is limited: requests, tokens or money per period.
    pub kind: LimitKind,
    /// The periods.
    pub calendar: Calendar,
    /// Requests, tokens or [`crate::prices::Money`]'s unit.
    pub limit: u64,
}

impl Window {
    /// In UTC.
    pub fn utc(kind: LimitKind, period: Period, limit: u64) -> Self {
        Window { kind, calendar: Calendar::utc(period), limit }
    }
}

/// The part of a scope's limits that one of the scopes below it can always have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    /// The name of that scope: `group 'search'`.
    pub child: String,
    /// How much of each limit of the parent, in the order of [`Rules::limits`].
    pub amounts: Vec<u64>,
}

/// A limit, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitId {
    /// What is limited.
    pub kind: LimitKind,
    /// The periods, if it counts by the calendar.
    pub calendar: Option<Calendar>,
}

impl fmt::Display for LimitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.label())?;
        self.calendar.map_or(Ok(()), |calendar| write!(f, " per {calendar}"))
    }
}

/// The limits of one scope. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Requests in any sixty seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any sixty seconds.
    pub tokens_per_minute: Option<u64>,
    /// Concurrent requests.
    pub concurrent: Option<u64>,
    /// Limits per calendar period; no two with the same kind and calendar.
    pub windows: Vec<Window>,
    /// What is kept for scopes below this one. Together not more than the limits.
    pub guaranteed: Vec<Guarantee>,
    /// Requests are never refused, only counted.
    pub shadow: bool,
    /// Whether classes of callers are distinguished when there is not enough capacity.
    pub classes: bool,
}

impl Rules {
    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        self.limits().next().is_none()
    }

    /// All limits, in requests, tokens or [`crate::prices::Money`]'s unit: first those per minute and at once.
    pub fn limits(&self) -> impl Iterator<Item = (LimitId, u64)> {
        let rate = |kind, limit: Option<u64>| limit.map(|limit| (LimitId { kind, calendar: None }, limit));
        let rates = [
            rate(LimitKind::Requests, self.requests_per_minute),
            rate(LimitKind::Tokens, self.tokens_per_minute),
            rate(LimitKind::Concurrent, self.concurrent),
        ];
        let of_window = |window: &Window| (LimitId { kind: window.kind, calendar: Some(window.calendar) }, window.limit);
        rates.into_iter().flatten().chain(self.windows.iter().map(of_window))
    }

    /// The limits per calendar period of a kind.
    pub fn windows_of(&self, kind: LimitKind) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(move |window| window.kind == kind)
    }

    /// Whether there is a limit of this kind.
    pub fn has(&self, kind: LimitKind) -> bool {
        self.limits().any(|(id, _)| id.kind == kind)
    }

    /// The limit of a kind that doesn't count by the calendar.
    pub fn rate(&self, kind: LimitKind) -> Option<u64> {
        self.limits().find(|(id, _)| id.kind == kind && id.calendar.is_none()).map(|(_, limit)| limit)
    }
}
