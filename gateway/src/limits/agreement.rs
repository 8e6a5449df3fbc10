//! The agreement on one scope's shares, without I/O: what is asked of Redis, and with what a node continues until it agrees
//! again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_plugins::limits::{Asked, Before, Granted, HeldShare, LimitId, Proposal, Scope, Share, Timestamps};

use crate::config::WhenLost;

/// How long Redis gives no shares away after its data was lost: until all nodes have sent the shares that they have.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long shares of a period are kept after its end, in seconds.
const KEEP: i64 = 86_400;

/// What is asked of Redis: the keys and arguments of `agree.lua`, which explains them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) process: String,
    pub(super) node: String,
    pub(super) limits: Vec<AskedLimit>,
}

/// A limit, in a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskedLimit {
    /// Where the shares of all parts together are.
    pub(super) place: String,
    /// The prefix of its fields; none for a limit per period.
    pub(super) prefix: String,
    /// Milliseconds to keep the shares of a period.
    pub(super) keep: i64,
    pub(super) limit: u64,
    pub(super) beyond: u64,
    pub(super) parts: Vec<AskedPart>,
}

/// A part of a limit, in a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskedPart {
    /// Where the shares are.
    pub(super) place: String,
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) had: u64,
    pub(super) wanted: u64,
}

/// Where the shares of a part of a limit are in Redis. Names of scopes end with a quotation mark, so no two are the same.
fn place(scope: &str, asked: &Asked, part: &str) -> String {
    let (Some(calendar), Some(span)) = (asked.id.calendar, asked.span) else { return format!("rates:{scope}{part}") };
    let zone = if calendar.zone.is_utc() { String::new() } else { format!("@{}", calendar.zone.name()) };
    format!("{}:{}{zone}:{}:{scope}{part}", asked.id.kind.label(), calendar.period.name(), span.start)
}

impl Question {
    /// Asks for what `proposal` needs for the scope of this name, at `unix`.
    pub(super) fn new(process: &str, node: &str, scope: &str, proposal: &Proposal, unix: i64) -> Self {
        let of_limit = |asked: &Asked| {
            let (prefix, keep) = match asked.span {
                Some(span) => (String::new(), (span.end - unix).saturating_add(KEEP).saturating_mul(1000)),
                None => (format!("{}:", asked.id.kind as usize + 1), 0),
            };
            let parts = asked.parts.iter().map(|part| {
                let of = part.child.as_ref().map_or_else(String::new, |child| format!(" for {child}"));
                AskedPart { place: place(scope, asked, &of), limit: part.limit, used: part.used, had: part.had, wanted: part.wanted }
            });
            let (limit, beyond, parts) = (asked.limit, asked.beyond, parts.collect());
            AskedLimit { place: place(scope, asked, " in all"), prefix, keep, limit, beyond, parts }
        };
        let limits = proposal.limits.iter().map(of_limit).collect();
        Question { process: process.to_owned(), node: node.to_owned(), limits }
    }

    /// The keys, without the prefix of all.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let of_limits = self.limits.iter().flat_map(|AskedLimit { place, parts, .. }| {
            let parts = parts.iter().map(|part| &*part.place);
            std::iter::once(&**place).chain(parts)
        });
        ["born", "nodes"].into_iter().chain(of_limits)
    }

    /// The arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut all = vec![self.process.clone(), self.node.clone(), GRACE.as_millis().to_string(), self.limits.len().to_string()];
        for AskedLimit { prefix, keep, limit, beyond, parts, .. } in &self.limits {
            all.extend([prefix.clone(), keep.to_string(), limit.to_string(), beyond.to_string(), parts.len().to_string()]);
            for AskedPart { limit, used, had, wanted, .. } in parts {
                all.extend([limit, used, had, wanted].map(ToString::to_string));
            }
        }
        all
    }
}

/// The answer: whether the data in Redis may be incomplete, so that nothing was given away, and the share.
pub(super) fn granted(proposal: &Proposal, answer: impl IntoIterator<Item = u64>) -> (bool, Share) {
    let mut numbers = answer.into_iter();
    let settling = numbers.next() == Some(1);
    let granted = std::iter::from_fn(|| Some(Granted { most: numbers.next()?, left: numbers.next()? }));
    (settling, Share::granted(proposal, granted))
}

/// The last agreement on a scope.
#[derive(Debug, Default)]
pub(super) struct LastAgreement(Option<Agreed>);

#[derive(Debug)]
struct Agreed {
    /// When it was.
    at: Duration,
    /// The share then.
    answer: Share,
    /// What of it this node still has.
    share: Share,
    /// Whether nothing was given away because the data in Redis may be incomplete.
    settling: bool,
}

/// The last agreement on a scope, for the process that takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedShare {
    share: HeldShare,
    /// How long ago it was, in milliseconds.
    age: u64,
    /// Whether nothing was given away because the data in Redis may be incomplete.
    settling: bool,
}

impl LastAgreement {
    /// For the process that takes over. From now on this one agrees on nothing.
    pub(super) fn hand_over(&self, scope: &Scope, now: Timestamps) -> Option<HandedShare> {
        let Agreed { at, answer, share, settling } = self.0.as_ref()?;
        let age = u64::try_from(now.monotonic.saturating_sub(*at).as_millis()).unwrap_or(u64::MAX);
        Some(HandedShare { share: HeldShare::new(&scope.draft(now), answer, share), age, settling: *settling })
    }

    /// Goes on with what the old process had: the same node, as Redis sees it.
    pub(super) fn take_over(&mut self, scope: &Scope, handed: &HandedShare, now: Timestamps) {
        let (answer, share) = handed.share.of(&scope.draft(now));
        scope.set_share(Some(share.clone()));
        let at = now.monotonic.saturating_sub(Duration::from_millis(handed.age));
        self.0 = Some(Agreed { at, answer, share, settling: handed.settling });
    }

    /// When it was, on the monotonic clock.
    pub(super) fn at(&self) -> Option<Duration> {
        self.0.as_ref().map(|agreed| agreed.at)
    }

    /// What to send now. What is given back by it isn't used from now on, also if no answer comes: it may belong to another
    /// node already.
    pub(super) fn propose(&mut self, scope: &Scope, now: Timestamps) -> Proposal {
        let proposal = scope.propose(now);
        if let Some(agreed) = &mut self.0 {
            // What it was allowed alone isn't its own: it would get that again, on top.
            agreed.share = proposal.kept_of(&agreed.share);
        }
        proposal
    }

    /// The answer to what was sent at `sent`.
    pub(super) fn answered(&mut self, scope: &Scope, proposal: &Proposal, answer: impl IntoIterator<Item = u64>, sent: Timestamps) {
        let (settling, share) = granted(proposal, answer);
        scope.set_share(Some(share.clone()));
        self.0 = Some(Agreed { at: sent.monotonic, answer: share.clone(), share, settling });
    }

    /// Sets the share of one of `nodes` that can't agree with the others.
    pub(super) fn go_on_alone(&self, scope: &Scope, now: Timestamps, nodes: u64, when_lost: WhenLost) {
        let before = self.0.as_ref().map(|agreed| Before {
            answer: &agreed.answer,
            share: &agreed.share,
            since: now.monotonic.saturating_sub(agreed.at),
        });
        let lasting = |limit: u64, known: Option<(u64, u64)>| match (when_lost, known) {
            (WhenLost::Allow, _) => u64::MAX,
            (WhenLost::Refuse, _) => 0,
            // What belonged to no node is divided equally.
            (WhenLost::Share, Some((had, left))) => had.saturating_add(left / nodes),
            (WhenLost::Share, None) => limit / nodes,
        };
        scope.set_share(Some(scope.draft(now).alone(before, nodes, lasting)));
    }

    /// Whether Redis gives nothing away, as far as is known.
    pub(super) fn is_settling(&self) -> bool {
        self.0.as_ref().is_none_or(|agreed| agreed.settling)
    }

    /// Whether other nodes have used up what this one lacks for one who comes through the guarantee at `via`.
    pub(super) fn is_used_up(&self, scope: &Scope, id: LimitId, via: Option<usize>) -> bool {
        self.0.as_ref().is_some_and(|agreed| !agreed.settling && scope.is_used_up(id, via, &agreed.answer))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use spillway_plugins::limits::{Demand, LimitKind, Path, Period, Rank, Rules, Window, admit};

    use super::*;

    /// What a node that gets no answer does.
    #[derive(Debug, Clone)]
    enum Step {
        Use(u64),
        Propose,
        GoOnAlone,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![3 => (1u64..200).prop_map(Step::Use), 2 => Just(Step::Propose), 2 => Just(Step::GoOnAlone)]
    }

    fn had(scope: &Scope, now: Timestamps) -> u64 {
        scope.draft(now).limits[0].parts[0].had
    }

    proptest! {
        #[test]
        fn a_quota_s_share_does_not_grow_however_often_a_node_asks_in_vain(
            most in 0u64..600,
            left in 0u64..400,
            nodes in 1u64..5,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let now = Timestamps { monotonic: Duration::from_secs(100), unix: 100 };
            let rules = Rules { windows: vec![Window::utc(LimitKind::Quota, Period::Day, 1000)], ..Rules::default() };
            let scope: Arc<Scope> = Scope::new(Rank::Pool, "pool".to_owned(), rules, true);
            let path: Path = [Arc::clone(&scope)].into_iter().collect();
            let mut last = LastAgreement::default();
            let proposal = last.propose(&scope, now);
            last.answered(&scope, &proposal, [0, most, left], now);
            let mut open = Vec::new();
            for step in steps {
                match step {
                    Step::Use(tokens) => {
                        open.extend(admit(&path, Demand { tokens, ..Demand::default() }, now, |_, _| {}));
                    }
                    Step::Propose => drop(last.propose(&scope, now)),
                    Step::GoOnAlone => last.go_on_alone(&scope, now, nodes, WhenLost::Share),
                }
                prop_assert!(had(&scope, now) <= most + left / nodes);
            }
        }
    }
}
