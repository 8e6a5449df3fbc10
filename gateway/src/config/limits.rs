//! What consumers, groups and pools may use up.

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_plugins::limits::Rules;

/// What a consumer may use up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// In all.
    pub rules: Rules,
    /// Of single models.
    pub models: BTreeMap<String, Rules>,
}

/// Consumers that share limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// What they may use up together.
    pub rules: Rules,
}

/// What token quotas and budgets do while Redis is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenLost {
    /// This node goes on with the share that it has.
    #[default]
    Share,
    /// Nothing more is admitted.
    Refuse,
    /// Everything is admitted, and counted.
    Allow,
}
