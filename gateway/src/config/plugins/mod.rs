//! `[plugins]`: the plugins' configuration, a file for each: its keys as they are written, the rules that they become,
//! and the function that checks and converts them.
//!
//! To add a plugin with a stage of its own: a file here, and in this file its field in [`RawPlugins`] and in [`Plugins`],
//! and its line in [`read`]. A plugin that checks requests ([`RequestCheck`]) has its keys in its own folder: it needs
//! only the fields and the line, and one in [`Plugins::checks`].

mod auth;
pub(super) mod cache;
mod checks;
mod guard;
pub(super) mod prompt_log;

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::checks::RequestCheck;
use spillway_plugins::request_rules::RequestRules;

use auth::RawAuth;
pub use auth::{Auth, IssuerRules, TokenRules, Unlisted};
use cache::RawCache;
pub use cache::{CacheNamespace, CacheRules, ExactRules, SemanticRules};
use checks::Names;
use guard::RawGuard;
pub use guard::{GuardRules, SafetyRules};
use prompt_log::RawPromptLog;
pub use prompt_log::{ConsumerLog, PromptLogRules};

use super::checker::Checker;
use super::raw::{RawConsumer, RawPool};
use super::rights::Known;

/// Stages that requests pass through.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlugins {
    /// How callers are identified.
    pub auth: Option<RawAuth>,
    /// The prompt log: prompts and answers in a file.
    pub prompt_log: Option<RawPromptLog>,
    /// The cache: answers that are used again.
    pub cache: Option<RawCache>,
    /// The guard: which prompts and answers it blocks.
    pub guard: Option<RawGuard>,
    /// Bounds on what one request may ask for.
    #[serde(default)]
    pub request_rules: Vec<RequestRules>,
}

/// The rules of the plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugins {
    /// How callers are identified.
    pub auth: Auth,
    /// The prompt log, if there is one.
    pub prompt_log: Option<Arc<PromptLogRules>>,
    /// The cache, if there is one.
    pub cache: Option<CacheRules>,
    /// The guard, if there is one.
    pub guard: Option<GuardRules>,
    /// Bounds on what one request may ask for.
    pub request_rules: Vec<RequestRules>,
}

impl Plugins {
    /// All that check requests, in the order in which they are called.
    pub fn checks(&self) -> Vec<Box<dyn RequestCheck>> {
        let lists = [checks::boxed(&self.request_rules)];
        lists.into_iter().flatten().collect()
    }
}

/// What the keys of plugins may refer to.
pub(super) struct Around<'r> {
    /// The pools.
    pub(super) pools: &'r [RawPool],
    /// The consumers.
    pub(super) consumers: &'r [RawConsumer],
    /// The names that rights and limits can refer to.
    pub(super) known: &'r Known<'r>,
    /// Directory for what must survive a restart.
    pub(super) state_dir: Option<&'r Path>,
}

/// Checks the keys of all plugins.
pub(super) fn read(raw: &RawPlugins, around: &Around<'_>, check: &mut Checker<'_>) -> Plugins {
    let consumers = around.consumers.iter().map(|consumer| consumer.name.as_str()).collect();
    let names = Names { models: &around.known.models, consumers };
    Plugins {
        auth: auth::read(raw.auth.as_ref(), around.consumers.is_empty(), around.known, check),
        prompt_log: prompt_log::read(raw.prompt_log.as_ref(), check),
        cache: cache::read(raw.cache.as_ref(), around.pools, around.state_dir, check),
        guard: guard::read(raw.guard.as_ref(), check),
        request_rules: checks::verified(&raw.request_rules, "plugins.request_rules", &names, check),
    }
}
