//! Several nodes, one limit: each node has a share of it, and admits requests within that share as if it were the
//! limit. Nodes agree on shares in common memory (see the gateway's `limits/shared`); together the shares never exceed
//! the limit, so neither does usage, whatever happens between two agreements.

use std::time::Duration;

use super::LimitKind;

/// The most that this node may use of each kind; in the order of [`Kind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Requests, tokens, [`crate::prices::Money`]'s unit.
    pub most: [u64; 5],
    /// The other nodes' shares of each kind at this agreement.
    pub others: [u64; 5],
    /// The start of the period that the quota's share is for.
    pub quota_start: i64,
    /// The start of the period that the budget's share is for.
    pub budget_start: i64,
}

/// What a node sends to an agreement: its usage, and the share that it needs. All in the order of [`Kind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Current usage, with reservations.
    pub used: [u64; 5],
    /// The share so far. If less is wanted, the node already uses no more than that.
    pub had: [u64; 5],
    /// The share that it needs.
    pub wanted: [u64; 5],
    /// The share that the node continues with until the answer: without anything that it gives back.
    pub kept: Share,
    /// The start of the period that the quota's share is for.
    pub quota_start: i64,
    /// The start of the period that the budget's share is for.
    pub budget_start: i64,
}

/// What a node takes in addition to its need, so that it needn't ask for every request: a part of the limit.
pub(super) fn headroom(kind: LimitKind, limit: u64) -> u64 {
    match kind {
        LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent => limit / 20,
        LimitKind::Quota | LimitKind::Budget => limit / 200,
    }
}

/// How long a share of a limit per minute stays valid after the last agreement. Other nodes remove it a little later.
const CUT_OFF: Duration = Duration::from_secs(60);
/// The same for concurrent requests.
const CUT_OFF_AT_ONCE: Duration = Duration::from_secs(3);

/// The share of a limit per minute for a node that can't agree with the others, at a time after its last agreement: at
/// first its own share, then at most an equal part of the limit, and after the same time again exactly the equal part.
/// At no time do the shares of nodes that are all cut off exceed the limit together.
pub fn cut_off(kind: LimitKind, limit: u64, had: u64, nodes: u64, since: Duration) -> u64 {
    let part = limit / nodes.max(1);
    let good = if kind == LimitKind::Concurrent { CUT_OFF_AT_ONCE } else { CUT_OFF };
    match since {
        since if since < good => had,
        // Usage of the last minute is gone only after a minute.
        since if since < good + CUT_OFF => had.min(part),
        _ => part,
    }
}

impl LimitKind {
    /// Whether usage is freed automatically, as time passes or requests end.
    pub fn is_rate(self) -> bool {
        matches!(self, LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent)
    }
}
