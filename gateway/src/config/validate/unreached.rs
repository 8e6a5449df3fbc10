//! Warns of limits in a tree of groups that never apply: nobody is below them, or a group above always refuses first.

use spillway_plugins::limits::Rules;

use crate::config::checker::Checker;
use crate::config::{Consumer, Group, TokenRules, always_below, lineage};

/// Warns of such limits.
pub(super) fn warn(groups: &[Group], consumers: &[Consumer], tokens: Option<&TokenRules>, check: &mut Checker<'_>) {
    let unlisted = tokens.and_then(|tokens| tokens.unlisted.as_ref());
    let mut reached = vec![false; groups.len()];
    let leaves = consumers.iter().map(|consumer| consumer.group).chain(unlisted.map(|unlisted| unlisted.group));
    leaves.flat_map(|group| lineage(groups, group)).for_each(|(at, _)| reached[at] = true);
    for (at, group) in groups.iter().enumerate() {
        if !reached[at] {
            check.warn(&format!("groups[{at}].name"), format!("no consumer is in group '{}' or below it: it has no effect", group.name));
        }
        above(&group.rules, groups, group.parent, &format!("groups[{at}].limits"), check);
    }
    for (at, consumer) in consumers.iter().enumerate() {
        above(&consumer.limits.rules, groups, consumer.group, &format!("consumers[{at}].limits"), check);
    }
    if let Some(unlisted) = unlisted {
        above(&unlisted.limits.rules, groups, unlisted.group, "plugins.auth.jwt.unlisted.limits", check);
    }
}

/// Limits above those of a group, or of one that it is in.
fn above(rules: &Rules, groups: &[Group], group: Option<usize>, key: &str, check: &mut Checker<'_>) {
    for (id, limit) in rules.limits().filter(|_| !rules.shadow) {
        let wider = lineage(groups, group).filter(|(_, wider)| !wider.rules.shadow);
        let refuses_first = |(_, wider): (usize, &Group)| Some((wider.name.clone(), always_below(id, limit, &wider.rules)?));
        if let Some((name, allows)) = wider.filter_map(refuses_first).next() {
            let text = format!("{id} never applies: group '{name}' allows {allows}; make it smaller, or leave it out");
            check.warn(&format!("{key}.{}", id.kind.label()), text);
        }
    }
}
