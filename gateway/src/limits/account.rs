//! The account of one consumer: its scopes, and its counters.

use std::collections::HashMap;
use std::sync::Arc;

use spillway_plugins::limits::{Rank, Scope};

use super::{Limits, Scopes};
use crate::config::{Config, Consumer};
use crate::telemetry::metrics::{CONSUMERS, ConsumerMetrics};

/// A quoted name. Quotation marks in it are escaped, so that no two scopes have the same name: names of consumers may
/// come from tokens.
fn quoted(name: &str) -> String {
    match name.contains(['\'', '\\']) {
        false => format!("'{name}'"),
        true => format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}

/// The name of a consumer's scope.
pub fn consumer_name(consumer: &str) -> String {
    format!("consumer {}", quoted(consumer))
}

/// The name of the scope of a consumer's usage of one model.
pub fn model_name(consumer: &str, model: &str) -> String {
    format!("consumer {} with model {}", quoted(consumer), quoted(model))
}

/// The name of a group's scope.
pub fn group_name(group: &str) -> String {
    format!("group {}", quoted(group))
}

/// The name of a pool's scope.
pub fn pool_name(pool: &str) -> String {
    format!("pool {}", quoted(pool))
}

/// The scopes of all groups, by their index in the config.
#[derive(Debug, Default)]
pub struct Groups(Vec<Option<Arc<Scope>>>);

impl Groups {
    /// The groups of a config.
    pub fn new(config: &Config, limits: &Limits) -> Self {
        let scope = |group: &crate::config::Group| limits.scope(Rank::Group, group_name(&group.name), &group.rules);
        Groups(config.groups.iter().map(scope).collect())
    }
}

/// The account of one consumer.
#[derive(Debug)]
pub struct Account {
    own: Option<Arc<Scope>>,
    models: HashMap<String, Arc<Scope>>,
    group: Option<Arc<Scope>>,
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
            group: consumer.group.and_then(|index| groups.0.get(index)?.clone()),
            metrics: limits.metrics.consumers.of(if index.is_some_and(|index| index < CONSUMERS) { name } else { "other" }),
        }
    }

    /// All its scopes, those for single models in the order of the models' names: the model, if the scope is for one.
    pub fn all(&self) -> impl Iterator<Item = (Option<&str>, &Arc<Scope>)> {
        let mut models: Vec<(&String, &Arc<Scope>)> = self.models.iter().collect();
        models.sort_by_key(|(model, _)| *model);
        let models = models.into_iter().map(|(model, scope)| (Some(model.as_str()), scope));
        self.own.iter().map(|own| (None, own)).chain(models).chain(self.group.iter().map(|group| (None, group)))
    }

    /// The scopes of a request for `model`, without its pool's scope.
    pub fn scopes(&self, model: &str) -> Scopes {
        let mut scopes = Scopes::new();
        scopes.extend(self.own.clone());
        scopes.extend(self.models.get(model).cloned());
        scopes.extend(self.group.clone());
        scopes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_as_they_are_written() {
        assert_eq!(model_name("crm", "gpt-5"), "consumer 'crm' with model 'gpt-5'");
        assert_ne!(consumer_name("crm' with model 'gpt-5"), model_name("crm", "gpt-5"));
    }

    proptest! {
        #[test]
        fn different_scopes_are_called_different(one in "[a'\\\\ ]{0,6}( with model )?[a'\\\\ ]{0,4}", other in "[a'\\\\ ]{0,6}( with model )?[a'\\\\ ]{0,4}", model in "[a'\\\\ ]{0,4}") {
            prop_assert_eq!(consumer_name(&one) == consumer_name(&other), one == other);
            prop_assert_eq!(model_name(&one, &model) == model_name(&other, &model), one == other);
            prop_assert_ne!(consumer_name(&one), model_name(&other, &model));
        }
    }
}
