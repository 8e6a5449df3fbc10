//! Several nodes, one limit: each node has a share of it, and admits requests within that share as if it were the
//! limit. Nodes agree on shares in common memory (see the gateway's `limits/shared`); together the shares never exceed
//! the limit, so neither does usage, whatever happens between two agreements.
//!
//! A limit of which something is guaranteed to scopes below has parts: one for each guarantee, and the rest, which is
//! for whoever comes first. Nodes have a share of each part.

use std::time::Duration;

use smallvec::SmallVec;

use super::LimitKind;
use super::counts::{RATES, Starts};
use super::period::Span;
use super::rules::LimitId;

/// An amount of each limit, by its place in the state.
pub(super) type Amounts = SmallVec<[u64; 5]>;

/// What a node has of one part of each limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartShare {
    /// The most that it may use.
    pub(super) most: Amounts,
    /// What belonged to no node.
    pub(super) left: Amounts,
    /// What belonged to other nodes at the last agreement.
    others: Amounts,
}

/// The most that this node may use of each limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Of what is guaranteed to nobody.
    common: PartShare,
    /// Of each guarantee.
    pots: Vec<PartShare>,
    /// The other nodes' shares of each limit at the last agreement.
    others: Amounts,
    /// The start of each period that the shares are for.
    starts: Starts,
}

/// A part of a limit, in a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The scope that it is guaranteed to; `None` for the rest.
    pub child: Option<String>,
    /// Its place among the guarantees.
    pub(super) pot: Option<usize>,
    /// How large the part is.
    pub limit: u64,
    /// What this node uses of it, with reservations.
    pub used: u64,
    /// The share so far. If less is wanted, the node already uses no more than that.
    pub had: u64,
    /// The share that it needs.
    pub wanted: u64,
}

/// A limit, in a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which limit.
    pub id: LimitId,
    /// Its place in the state.
    pub(super) place: usize,
    /// The current period, if it counts by the calendar.
    pub span: Option<Span>,
    /// Its value. The parts are this together.
    pub limit: u64,
    /// What this node's requests used beyond their reservations, if there are guarantees: by so much it may be exceeded
    /// for them.
    pub beyond: u64,
    /// Its parts: what is guaranteed, then the rest.
    pub parts: Vec<Part>,
}

/// What a node sends to an agreement: its usage, and the shares that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The limits.
    pub limits: Vec<Asked>,
    /// The shares that the node continues with until the answer: without anything that it gives back.
    pub kept: Share,
    /// The start of each current period.
    pub(super) starts: Starts,
}

/// What a node gets of a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Granted {
    /// Its share.
    pub most: u64,
    /// What belongs to no node.
    pub left: u64,
}

fn set(amounts: &mut Amounts, place: usize, amount: u64) {
    if amounts.len() <= place {
        amounts.resize(place + 1, 0);
    }
    amounts[place] = amount;
}

pub(super) fn get(amounts: &Amounts, place: usize) -> u64 {
    amounts.get(place).copied().unwrap_or(0)
}

impl Share {
    /// What was granted for each part of a proposal, in its order.
    pub fn granted(proposal: &Proposal, granted: impl IntoIterator<Item = Granted>) -> Self {
        let mut share = Share { starts: proposal.starts.clone(), ..Share::default() };
        let mut granted = granted.into_iter();
        for asked in &proposal.limits {
            let mut free = asked.limit;
            for part in &asked.parts {
                let Granted { most, left } = granted.next().unwrap_or_default();
                share.set(part, asked.place, Granted { most, left });
                free = free.saturating_sub(most).saturating_sub(left);
            }
            set(&mut share.others, asked.place, free);
        }
        share
    }

    fn set(&mut self, of: &Part, place: usize, granted: Granted) {
        let part = match of.pot {
            Some(pot) => {
                if self.pots.len() <= pot {
                    self.pots.resize(pot + 1, PartShare::default());
                }
                &mut self.pots[pot]
            }
            None => &mut self.common,
        };
        set(&mut part.most, place, granted.most);
        set(&mut part.left, place, granted.left);
        set(&mut part.others, place, of.limit.saturating_sub(granted.most).saturating_sub(granted.left));
    }

    fn at(&self, pot: Option<usize>) -> Option<&PartShare> {
        pot.map_or(Some(&self.common), |pot| self.pots.get(pot))
    }

    /// Other nodes' share of a part of a limit.
    pub(super) fn others_of(&self, pot: Option<usize>, place: usize) -> u64 {
        self.at(pot).map_or(0, |part| get(&part.others, place))
    }

    /// The share of a part of a limit, and what belonged to no node then.
    pub(super) fn part(&self, pot: Option<usize>, place: usize) -> Granted {
        self.at(pot).map_or(Granted::default(), |part| Granted { most: get(&part.most, place), left: get(&part.left, place) })
    }

    /// The share of the part of a proposal, and what belonged to no node then.
    pub fn of(&self, asked: &Asked, part: &Part) -> Granted {
        self.part(part.pot, asked.place)
    }

    /// Other nodes' share of a limit.
    pub(super) fn others(&self, place: usize) -> u64 {
        get(&self.others, place)
    }

    /// Whether it is for the period that begins at `start`. A period that has just begun has no share yet.
    pub(super) fn is_for(&self, place: usize, start: Option<i64>) -> bool {
        place < RATES || self.starts.get(place - RATES).copied() == start
    }

    /// Whether it is for the current period of a limit.
    pub(super) fn is_current(&self, asked: &Asked) -> bool {
        self.is_for(asked.place, asked.span.map(|span| span.start))
    }

    /// With the other nodes' shares, and what belonged to no node, as in `before`.
    #[must_use]
    pub(super) fn with_others_of(mut self, before: &Share) -> Self {
        self.others.clone_from(&before.others);
        let none = PartShare::default();
        let pots = self.pots.iter_mut().enumerate().map(|(at, pot)| (pot, before.pots.get(at).unwrap_or(&none)));
        for (part, before) in pots.chain([(&mut self.common, &before.common)]) {
            part.left.clone_from(&before.left);
            part.others.clone_from(&before.others);
        }
        self
    }

    /// Whether nothing of the limit at this place belonged to no node that is for one who comes through the guarantee at
    /// `pot`, or through none.
    pub(super) fn is_used_up(&self, pot: Option<usize>, place: usize) -> bool {
        let left = |pot: Option<usize>| self.part(pot, place).left;
        left(None) == 0 && (pot.is_none() || left(pot) == 0)
    }
}

/// What a node takes in addition to its need, so that it needn't ask for every request: a part of the limit.
pub(super) fn headroom(kind: LimitKind, limit: u64) -> u64 {
    if kind.is_rate() { limit / 20 } else { limit / 200 }
}

/// How long a share of a limit per minute stays valid after the last agreement. Other nodes get it a little more than a
/// minute later: until then, what this node used of it counts.
const CUT_OFF: Duration = Duration::from_secs(30);
/// For how long a request counts.
const MINUTE: Duration = Duration::from_secs(60);
/// The same for concurrent requests.
const CUT_OFF_AT_ONCE: Duration = Duration::from_secs(3);

/// The share of a limit per minute for a node that can't agree with the others, at a time after its last agreement: at
/// first its own share, then at most an equal part of the limit, and a minute later exactly the equal part.
/// At no time do the shares of nodes that are all cut off exceed the limit together.
pub fn cut_off(kind: LimitKind, limit: u64, had: u64, nodes: u64, since: Duration) -> u64 {
    let part = limit / nodes.max(1);
    let good = if kind == LimitKind::Concurrent { CUT_OFF_AT_ONCE } else { CUT_OFF };
    match since {
        since if since < good => had,
        // Usage of the last minute is gone only after a minute.
        since if since < good + MINUTE => had.min(part),
        _ => part,
    }
}

impl LimitKind {
    /// Whether usage is freed automatically, as time passes or requests end.
    pub fn is_rate(self) -> bool {
        matches!(self, LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent)
    }
}

/// The result of the last agreement of a node that can't agree now.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The share then.
    pub answer: &'a Share,
    /// What of it the node still has.
    pub share: &'a Share,
    /// How long ago it was.
    pub since: Duration,
}

impl Proposal {
    /// What of `share`, which was agreed on, the node still has: nothing that it gives back, and nothing that it may use only because
    /// it is alone.
    #[must_use]
    pub fn kept_of(&self, share: &Share) -> Share {
        let most = |asked: &Asked, part: &Part| {
            let had = if share.is_current(asked) { share.of(asked, part).most } else { 0 };
            had.min(self.kept.of(asked, part).most)
        };
        let parts = self.limits.iter().flat_map(|asked| asked.parts.iter().map(move |part| (asked, part)));
        let kept = Share::granted(self, parts.map(|(asked, part)| Granted { most: most(asked, part), left: 0 }));
        kept.with_others_of(share)
    }

    /// The share of one of `nodes` that can't agree with the others. `lasting` gives that of a part of a limit per period:
    /// of how large it is, and of what this node has and no node had, if that is known of the current period.
    pub fn alone(&self, before: Option<Before<'_>>, nodes: u64, lasting: impl Fn(u64, Option<(u64, u64)>) -> u64) -> Share {
        let most = |asked: &Asked, part: &Part| {
            let had = before.map_or(0, |before| before.share.of(asked, part).most);
            if asked.id.kind.is_rate() {
                return cut_off(asked.id.kind, part.limit, had, nodes, before.map_or(Duration::MAX, |before| before.since));
            }
            let same = before.filter(|before| before.answer.is_current(asked));
            lasting(part.limit, same.map(|before| (had, before.answer.of(asked, part).left)))
        };
        let parts = self.limits.iter().flat_map(|asked| asked.parts.iter().map(move |part| (asked, part)));
        let share = Share::granted(self, parts.map(|(asked, part)| Granted { most: most(asked, part), left: 0 }));
        match before {
            Some(before) => share.with_others_of(before.answer),
            None => share.with_others_of(&Share::default()),
        }
    }
}
