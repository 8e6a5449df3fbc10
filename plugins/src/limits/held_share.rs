//! A node's share of a scope's limits, for the process that takes over.

use serde::{Deserialize, Serialize};

use super::limit_name::PeriodName;
use super::share::{Granted, Proposal, Share};

/// The last agreement on a share, by the names of limits: the processes may have different configs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldShare {
    limits: Vec<OfLimit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OfLimit {
    #[serde(flatten)]
    name: PeriodName,
    parts: Vec<OfPart>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OfPart {
    /// The scope that it is guaranteed to; none for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    child: Option<String>,
    /// The share that was agreed on.
    most: u64,
    /// What belonged to no node then.
    left: u64,
    /// What of the share this node still has.
    kept: u64,
}

impl HeldShare {
    /// `proposal` says what the limits are now, `answer` is the share that was agreed on, and `kept` what of it this node still has.
    pub fn new(proposal: &Proposal, answer: &Share, kept: &Share) -> Self {
        let current = proposal.limits.iter().filter(|asked| answer.is_current(asked));
        let limits = current.map(|asked| OfLimit {
            name: PeriodName::of(asked.id, asked.span),
            parts: asked
                .parts
                .iter()
                .map(|part| {
                    let Granted { most, left } = answer.of(asked, part);
                    OfPart { child: part.child.clone(), most, left, kept: kept.of(asked, part).most }
                })
                .collect(),
        });
        HeldShare { limits: limits.collect() }
    }

    /// The share that was agreed on, and what of it the node still has. Of limits and parts that only one process has, there is none.
    pub fn of(&self, proposal: &Proposal) -> (Share, Share) {
        let find = |name: PeriodName, child: &Option<String>| {
            let limit = self.limits.iter().find(|one| one.name == name)?;
            limit.parts.iter().find(|part| part.child == *child)
        };
        let parts = proposal.limits.iter().flat_map(|asked| asked.parts.iter().map(move |part| (asked, part)));
        let of = |amount: fn(&OfPart) -> u64| {
            let parts = parts.clone().map(|(asked, part)| {
                let held = find(PeriodName::of(asked.id, asked.span), &part.child);
                held.map_or(Granted::default(), |held| Granted { most: amount(held).min(part.limit), left: held.left })
            });
            Share::granted(proposal, parts)
        };
        let answer = of(|part| part.most);
        let kept = of(|part| part.kept).with_others_of(&answer);
        (answer, kept)
    }
}
