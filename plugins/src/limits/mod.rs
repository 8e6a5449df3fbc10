//! Limits: requests and tokens per minute, concurrent requests, and quotas of requests, tokens and money per calendar
//! period, several at once; for a consumer, a consumer's model, its groups and a pool.
//!
//! A request reserves what it may need in all of its [`Scope`]s, or in none. Its real usage settles the reservation. So
//! admitted usage exceeds a limit by at most what requests in flight use beyond their own reservations: by nothing, if
//! they have a completion cap and the prompt is not longer than estimated.
//!
//! Groups may be in groups. A part of a group's limits can be guaranteed to something below it ([`Guarantee`]): what
//! others use must fit into the rest, so nobody else can use it up.
//!
//! Limits per minute always count the last sixty seconds: there is no start of a minute at which twice the limit would
//! fit. They use monotonic time; quotas and budgets use the calendar of a time zone.

mod admission;
mod calendar;
mod cell;
mod changes;
mod class;
mod counts;
mod held_share;
mod limit_name;
mod meters;
mod own_use;
mod path;
mod period;
mod plan;
mod proposal;
mod rolling;
mod room;
mod rules;
mod scope;
mod share;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod windows;
mod zone;

pub use admission::{KeptFor, Permit, Refused, admit, admit_granted};
pub use calendar::Calendar;
pub use cell::Cell;
pub use changes::Changes;
pub use class::Class;
pub use held_share::HeldShare;
pub use own_use::OwnUse;
pub use path::{Path, Step};
pub use period::{Period, Span};
pub use rules::{Guarantee, LimitId, Rules, Window};
pub use scope::{LimitUse, Rank, Scope};
pub use share::{Asked, Before, Granted, Part, Proposal, Share};
pub use state::{Begun, State};
pub use tally::Tally;
pub use zone::Zone;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::prices::Money;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Requests in the last minute.
    Requests,
    /// Tokens in the last minute.
    Tokens,
    /// Concurrent requests.
    Concurrent,
    /// Requests per period.
    RequestQuota,
    /// Tokens per period.
    Quota,
    /// Money per period.
    Budget,
}

impl LimitKind {
    /// All of them, in order of declaration.
    pub const ALL: [LimitKind; 6] =
        [LimitKind::Requests, LimitKind::Tokens, LimitKind::Concurrent, LimitKind::RequestQuota, LimitKind::Quota, LimitKind::Budget];

    /// A short label for metrics; its key in the config.
    pub fn label(self) -> &'static str {
        match self {
            LimitKind::Requests => "requests_per_minute",
            LimitKind::Tokens => "tokens_per_minute",
            LimitKind::Concurrent => "concurrent_requests",
            LimitKind::RequestQuota => "request_quota",
            LimitKind::Quota => "token_quota",
            LimitKind::Budget => "budget",
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

impl Demand {
    /// All of it, as usage.
    pub fn most(&self) -> Used {
        Used { tokens: self.tokens, cost: self.cost }
    }
}

/// The real usage of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens.
    pub tokens: u64,
    /// Their cost, if known.
    pub cost: Money,
}

impl Used {
    /// How much more this is than `other`.
    fn beyond(self, other: Used) -> Used {
        Used { tokens: self.tokens.saturating_sub(other.tokens), cost: Money(self.cost.0.saturating_sub(other.cost.0)) }
    }
}

/// A limit per period has reached a percentage that operators should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    /// Which limit.
    pub kind: LimitKind,
    /// Its periods.
    pub calendar: Option<Calendar>,
    /// 80 or 100.
    pub percent: u64,
}

/// One limit, as callers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The limit.
    pub limit: u64,
    /// What is left now.
    pub remaining: u64,
    /// Time until all of it is left again, if nothing more is used.
    pub reset: Duration,
}

/// What a caller has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    /// Of requests per minute, or of a request quota, if less of it is left.
    pub requests: Option<Counter>,
    /// Of tokens per minute, or of a token quota, if less of it is left.
    pub tokens: Option<Counter>,
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
