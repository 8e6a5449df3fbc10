//! Which deployments share a quota, in `[[pools]].members`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The label of a member that has a quota of its own.
pub(super) const OWN: &str = "own";

/// The label of a member's quota, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name, or a table with a name for each model")]
pub enum RawQuotaPool {
    /// For all models of the pool.
    All(String),
    /// By model.
    ByModel(BTreeMap<String, String>),
}

impl RawQuotaPool {
    /// The label for this model.
    pub(super) fn of(&self, model: &str) -> Option<&str> {
        match self {
            RawQuotaPool::All(label) => Some(label),
            RawQuotaPool::ByModel(labels) => labels.get(model).map(String::as_str),
        }
    }

    /// All labels, each with the rest of its key.
    pub(super) fn labels(&self) -> Vec<(String, &str)> {
        match self {
            RawQuotaPool::All(label) => vec![(String::new(), label)],
            RawQuotaPool::ByModel(labels) => labels.iter().map(|(model, label)| (format!(".{model}"), label.as_str())).collect(),
        }
    }
}
