//! The limits of consumers, groups and pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_plugins::limits::Rules;

/// A consumer's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// For all models together.
    pub rules: Rules,
    /// For single models.
    pub models: BTreeMap<String, Rules>,
}

/// Consumers, or other groups, that share limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// Index of the group that it is in.
    pub parent: Option<usize>,
    /// The limits of all of them together.
    pub rules: Rules,
    /// Who owns all of its consumers.
    pub owners: Vec<String>,
}

/// The groups from this one up to the one without a parent. `all` has no cycles.
pub fn lineage(all: &[Group], group: Option<usize>) -> impl Iterator<Item = (usize, &Group)> {
    let at = |index: Option<usize>| index.and_then(|index| Some((index, all.get(index)?)));
    std::iter::successors(at(group), move |(_, group)| at(group.parent))
}

/// How token quotas and budgets work while Redis can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenLost {
    /// This node continues with the share that it has.
    #[default]
    Share,
    /// All requests are refused.
    Refuse,
    /// All requests are admitted, and counted.
    Allow,
}
