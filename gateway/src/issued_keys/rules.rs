//! What the config says about keys that are issued: for whom, for which models, and how they are stored.

use std::collections::HashMap;
use std::sync::Arc;

use spillway_plugins::auth::{Pepper, Stored, digest};

use super::error::IssueError;
use super::shapes::NewKey;
use crate::config::Config;

/// Most characters of a label.
const LABEL: usize = 128;
/// Most characters of an owner: a subject and its issuer.
const OWNER: usize = 512;
/// Most models of a key.
const MODELS: usize = 100;
/// Names that an error lists.
const LISTED: usize = 20;

/// What the config says about keys that are issued.
#[derive(Debug)]
pub(super) struct Rules {
    /// The consumers, and the models that each may use.
    consumers: HashMap<Arc<str>, Vec<String>>,
    /// Their names in the order of the config.
    names: Vec<Arc<str>>,
    pub(super) pepper: Option<Pepper>,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        let models = |consumer: &crate::config::Consumer| -> Vec<String> {
            let all = config.pools.iter().flat_map(|pool| &pool.models);
            let allowed = |model: &&String| consumer.rights.models.as_ref().is_none_or(|allowed| allowed.contains(model));
            all.filter(allowed).cloned().collect()
        };
        Rules {
            consumers: config.consumers.iter().map(|consumer| (Arc::clone(&consumer.name), models(consumer))).collect(),
            names: config.consumers.iter().map(|consumer| Arc::clone(&consumer.name)).collect(),
            pepper: config.plugins.auth.pepper.clone(),
        }
    }

    /// Whether the config has this consumer.
    pub(super) fn has(&self, consumer: &str) -> bool {
        self.consumers.contains_key(consumer)
    }

    /// How a key is stored.
    pub(super) fn stored(&self, key: &str) -> Stored {
        match &self.pepper {
            Some(pepper) => Stored::Hmac(pepper.digest(key.as_bytes())),
            None => Stored::Sha256(digest(key.as_bytes())),
        }
    }

    /// Whether such a key may be issued at `now`, in seconds since 1970.
    pub(super) fn check(&self, new: &NewKey, now: i64) -> Result<(), IssueError> {
        let Some(models) = self.consumers.get(&new.consumer) else {
            let mut known: Vec<&str> = self.names.iter().take(LISTED).map(|name| &**name).collect();
            known.extend((self.names.len() > LISTED).then_some("…"));
            // The text comes from outside: shorten it.
            return Err(IssueError::UnknownConsumer { name: new.consumer.chars().take(LABEL).collect(), known: known.join(", ") });
        };
        for (field, text, most) in [("label", &new.label, LABEL), ("owner", &new.owner, OWNER)] {
            let fits = |text: &String| (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            if text.as_ref().is_some_and(|text| !fits(text)) {
                return Err(IssueError::Text { field, most });
            }
        }
        if new.models.as_ref().is_some_and(|models| !(1..=MODELS).contains(&models.len())) {
            return Err(IssueError::Models { most: MODELS });
        }
        if let Some(model) = new.models.iter().flatten().find(|model| !models.contains(model)) {
            let model = model.chars().take(LABEL).collect();
            return Err(IssueError::UnknownModel { consumer: new.consumer.to_string(), model });
        }
        let from = new.not_before.unwrap_or(now).max(now);
        if new.expires.is_some_and(|until| until <= from) {
            return Err(IssueError::NeverValid);
        }
        Ok(())
    }
}
