//! Tiers that take no traffic.

use std::collections::BTreeMap;

use super::view::View;
use crate::rehearse::finding::{Finding, Severity};

/// Tiers in which every member has weight 0.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, pool) in view.config.pools.iter().enumerate() {
        let mut tiers: BTreeMap<u32, Vec<(usize, u32)>> = BTreeMap::new();
        for (index, member) in pool.members.iter().enumerate() {
            tiers.entry(member.priority).or_default().push((index, member.weight));
        }
        for (priority, members) in tiers.iter().filter(|(_, members)| members.iter().all(|(_, weight)| *weight == 0)) {
            let Some((index, _)) = members.first() else { continue };
            let text = format!(
                "Every member of tier {priority} of pool '{}' has weight 0, so that the tier is never used: what flows over goes past it.",
                pool.name
            );
            let key = format!("pools[{at}].members[{index}].weight");
            let remedy = "Give one of them a weight, or remove them; `POST /api/drain` takes a backend out for a while.";
            found.push(view.finding("tier-without-weight", Severity::Warning, &key, text, remedy));
        }
    }
    found
}
