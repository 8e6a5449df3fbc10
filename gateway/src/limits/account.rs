//! The account of one consumer: its scopes, and its counters.

use std::collections::HashMap;
use std::sync::Arc;

use spillway_plugins::limits::{Path, Rank, Scope};

use super::Limits;
use crate::config::{Config, Consumer, consumer_name, group_name, lineage, model_name};
use crate::telemetry::metrics::{CONSUMERS, ConsumerMetrics};

/// A group's scope, and which of its guarantees is for what comes through it.
type Above = (Arc<Scope>, Option<usize>);

/// The scopes of all groups.
#[derive(Debug, Default)]
pub struct Groups {
    config: Vec<crate::config::Group>,
    scopes: Vec<Option<Arc<Scope>>>,
}

impl Groups {
    /// The groups of a config.
    pub fn new(config: &Config, limits: &Limits) -> Self {
        let scope = |group: &crate::config::Group| limits.scope(Rank::Group, group_name(&group.name), &group.rules);
        Groups { scopes: config.groups.iter().map(scope).collect(), config: config.groups.clone() }
    }

    /// The scopes above the consumer of this name, which is in the group with this index: from that group to its farthest
    /// ancestor.
    pub fn above(&self, consumer: &str, group: Option<usize>) -> Vec<Above> {
        let mut below = consumer_name(consumer);
        let mut above = Vec::new();
        for (index, group) in lineage(&self.config, group) {
            if let Some(scope) = self.scopes.get(index).cloned().flatten() {
                let via = scope.guarantee_of(&below);
                above.push((scope, via));
            }
            below = group_name(&group.name);
        }
        above
    }
}

/// The account of one consumer.
#[derive(Debug)]
pub struct Account {
    own: Option<Arc<Scope>>,
    models: HashMap<String, Arc<Scope>>,
    above: Vec<Above>,
    /// Its counters.
    pub metrics: ConsumerMetrics,
}

impl Account {
    /// The account of the consumer with this index in the config; `None` for one that isn't listed.
    pub fn new(consumer: &Consumer, index: Option<usize>, groups: &Groups, limits: &Limits) -> Self {
        let name = &consumer.name;
        let models = consumer.limits.models.iter().filter_map(|(model, rules)| {
            let scope = limits.scope(Rank::ConsumerModel, model_name(name, model), rules)?;
            Some((model.clone(), scope))
        });
        Account {
            own: limits.scope(Rank::Consumer, consumer_name(name), &consumer.limits.rules),
            models: models.collect(),
            above: groups.above(name, consumer.group),
            metrics: limits.metrics.consumers.of(if index.is_some_and(|index| index < CONSUMERS) { name } else { "other" }),
        }
    }

    /// All its scopes, those for single models in the order of the models' names: the model, if the scope is for one, and
    /// the guarantee that it comes through.
    pub fn all(&self) -> impl Iterator<Item = (Option<&str>, &Arc<Scope>, Option<usize>)> {
        let mut models: Vec<(&String, &Arc<Scope>)> = self.models.iter().collect();
        models.sort_by_key(|(model, _)| *model);
        let models = models.into_iter().map(|(model, scope)| (Some(model.as_str()), scope, None));
        let above = self.above.iter().map(|(scope, via)| (None, scope, *via));
        self.own.iter().map(|own| (None, own, None)).chain(models).chain(above)
    }

    /// The scopes of a request for `model`, without its pool's scope.
    pub fn path(&self, model: &str) -> Path {
        let mut path = Path::new();
        path.extend(self.own.clone());
        if !self.models.is_empty() {
            path.extend(self.models.get(model).cloned());
        }
        for (scope, via) in &self.above {
            path.push(Arc::clone(scope), *via);
        }
        path
    }
}
