//! Several nodes, one limit: each node has a share of it, and admits within that share as if it were the
//! limit. Shares are agreed on where all nodes look (see the gateway's `limits/shared`); together they
//! never exceed the limit, so neither does what is used, whatever happens between two agreements.

use std::time::Duration;

use super::Kind;

/// The most that this node may use of each kind; in the order of [`Kind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Requests, tokens, [`crate::prices::Money`]'s unit.
    pub most: [u64; 5],
    /// What other nodes had of each kind when this was agreed on.
    pub others: [u64; 5],
    /// The beginning of the period that the quota's share is of.
    pub quota_start: i64,
    /// The beginning of the period that the budget's share is of.
    pub budget_start: i64,
}

/// What this node uses, and what it would like: what it goes into an agreement with. All in the order of
/// [`Kind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposal {
    /// In use now, reservations included.
    pub used: [u64; 5],
    /// The share so far. Where less is wanted, the node has already stopped using more.
    pub had: [u64; 5],
    /// The share that it would like.
    pub wanted: [u64; 5],
    /// What the node goes on with until it hears more: nothing that it gives back.
    pub kept: Share,
    /// The beginning of the period that the quota's share is of.
    pub quota_start: i64,
    /// The beginning of the period that the budget's share is of.
    pub budget_start: i64,
}

/// What a node takes beyond what it needs, so that it needn't ask for every request: a part of the limit.
pub(super) fn headroom(kind: Kind, limit: u64) -> u64 {
    match kind {
        Kind::Requests | Kind::Tokens | Kind::Concurrent => limit / 20,
        Kind::Quota | Kind::Budget => limit / 200,
    }
}

/// How long a share of what was used in the last minute is good after the last agreement. The others forget
/// it a little later.
const CUT_OFF: Duration = Duration::from_secs(60);
/// The same of a share of requests at once.
const CUT_OFF_AT_ONCE: Duration = Duration::from_secs(3);

/// The share of a rate that a node has which can't agree with the others, so long after the last agreement:
/// at first the one it had, then no more than an equal part of the limit, and after as long again the equal
/// part. Nowhere on this way do the shares of nodes that are all cut off together exceed the limit.
pub fn cut_off(kind: Kind, limit: u64, had: u64, nodes: u64, since: Duration) -> u64 {
    let part = limit / nodes.max(1);
    let good = if kind == Kind::Concurrent { CUT_OFF_AT_ONCE } else { CUT_OFF };
    match since {
        since if since < good => had,
        // What was used in the last minute takes a minute to be forgotten.
        since if since < good + CUT_OFF => had.min(part),
        _ => part,
    }
}

impl Kind {
    /// Whether what was used comes back by itself, as time passes or requests end.
    pub fn is_rate(self) -> bool {
        matches!(self, Kind::Requests | Kind::Tokens | Kind::Concurrent)
    }
}
