//! Limits: requests and tokens per minute, concurrent requests, token quotas and money budgets per calendar period; for
//! a consumer, a consumer's model, a group and a pool at once.
//!
//! A request reserves what it may need in all of its [`Scope`]s, or in none. Its real usage settles the reservation. So
//! admitted usage exceeds a limit by at most what requests in flight use beyond their own reservations: by nothing, if
//! they have a completion cap and the prompt is not longer than estimated.
//!
//! Limits per minute always count the last sixty seconds: there is no start of a minute at which twice the limit would
//! fit. They use monotonic time; quotas and budgets use the calendar.

mod admission;
mod cell;
mod class;
mod meters;
mod period;
mod rolling;
mod scope;
mod share;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod windows;

pub use admission::{Permit, Refused, admit};
pub use cell::Cell;
pub use class::Class;
pub use period::{Period, Span};
pub use scope::{Rank, Scope, Snapshot};
pub use share::{Proposal, Share, cut_off};
pub use state::State;
pub use tally::Tally;

use std::time::Duration;

use crate::prices::Money;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKind {
    /// Requests in the last minute.
    Requests,
    /// Tokens in the last minute.
    Tokens,
    /// Concurrent requests.
    Concurrent,
    /// Tokens per period.
    Quota,
    /// Money per period.
    Budget,
}

impl LimitKind {
    /// All of them, in order of declaration.
    pub const ALL: [LimitKind; 5] = [LimitKind::Requests, LimitKind::Tokens, LimitKind::Concurrent, LimitKind::Quota, LimitKind::Budget];

    /// A short label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            LimitKind::Requests => "requests_per_minute",
            LimitKind::Tokens => "tokens_per_minute",
            LimitKind::Concurrent => "concurrent_requests",
            LimitKind::Quota => "token_quota",
            LimitKind::Budget => "budget",
        }
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
    /// Tokens per period.
    pub quota: Option<(Period, u64)>,
    /// Money per period.
    pub budget: Option<(Period, Money)>,
    /// Requests are never refused, only counted.
    pub shadow: bool,
    /// Whether classes of callers are distinguished when there is not enough capacity.
    pub classes: bool,
}

impl Rules {
    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        LimitKind::ALL.into_iter().all(|kind| self.limit(kind).is_none())
    }

    /// The limit of a kind, in requests, tokens or [`Money`]'s unit.
    pub fn limit(&self, kind: LimitKind) -> Option<u64> {
        match kind {
            LimitKind::Requests => self.requests_per_minute,
            LimitKind::Tokens => self.tokens_per_minute,
            LimitKind::Concurrent => self.concurrent,
            LimitKind::Quota => self.quota.map(|(_, tokens)| tokens),
            LimitKind::Budget => self.budget.map(|(_, money)| money.0),
        }
    }
}

/// What a request may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Tokens: the prompt's, estimated, and the most that the completion may have.
    pub tokens: u64,
    /// Their maximum cost.
    pub cost: Money,
    /// The class of its caller.
    pub class: Class,
}

/// The real usage of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens.
    pub tokens: u64,
    /// Their cost, if known.
    pub cost: Money,
}

/// A quota or budget has reached a percentage that operators should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    /// Which limit.
    pub kind: LimitKind,
    /// 80 or 100.
    pub percent: u64,
}

/// One limit per minute, as callers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The limit.
    pub limit: u64,
    /// What is left now.
    pub remaining: u64,
    /// Time until all of it is left again, if nothing more is used.
    pub reset: Duration,
}

/// What a caller has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Of requests per minute.
    pub requests: Option<Counter>,
    /// Of tokens per minute.
    pub tokens: Option<Counter>,
}

/// One limit of a scope, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Its kind.
    pub kind: LimitKind,
    /// The limit, in requests, tokens or [`Money`]'s unit.
    pub limit: u64,
    /// What is neither used or reserved at this node, nor the share of another node.
    pub left: u64,
    /// The calendar period of a quota or budget.
    pub period: Option<Period>,
    /// Time until all of it is left again, if nothing more is used; `None` for concurrent requests.
    pub reset: Option<Duration>,
}

/// The current time, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamps {
    /// Since a fixed point; never goes back.
    pub monotonic: Duration,
    /// Seconds since 1970; may be set forward or back.
    pub unix: i64,
}

impl Timestamps {
    /// The second on the monotonic clock.
    pub fn second(&self) -> u64 {
        self.monotonic.as_secs()
    }

    /// Time until the second begins that is `seconds` after this one: zero for 0.
    fn until(&self, seconds: u64) -> Duration {
        let begun = Duration::from_nanos(u64::from(self.monotonic.subsec_nanos()));
        Duration::from_secs(seconds).saturating_sub(begun)
    }
}
