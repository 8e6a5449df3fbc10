//! What the old process asks the new one, which decides what limits admit, and its answer.

use serde::{Deserialize, Serialize};
use spillway_plugins::limits::{Class, Demand, Path};

use super::denied::Denied;

/// A request of the old process, for the new one to decide on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub(super) number: u64,
    /// From the consumer upwards.
    pub(super) scopes: Vec<AskedScope>,
    pub(super) tokens: u64,
    /// In `Money`'s unit.
    pub(super) cost: u64,
    pub(super) class: Class,
}

/// A scope, in a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AskedScope {
    pub(super) name: String,
    /// To which scope below something of it is guaranteed that the request may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) via: Option<String>,
}

/// What the new process has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub(super) number: u64,
    pub(super) decision: Decision,
}

/// Whether a request is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    /// It is, in all scopes but those that the new process doesn't have.
    Admitted { unknown: Vec<String> },
    /// It is not.
    Denied(Denied),
}

impl Question {
    pub(super) fn new(number: u64, path: &Path, demand: &Demand) -> Self {
        let asked = path.outwards().into_iter().map(|step| {
            let via = step.via.and_then(|at| step.scope.rules.guaranteed.get(at));
            AskedScope { name: step.scope.name.clone(), via: via.map(|guarantee| guarantee.child.clone()) }
        });
        Question { number, scopes: asked.collect(), tokens: demand.tokens, cost: demand.cost.0, class: demand.class }
    }
}
