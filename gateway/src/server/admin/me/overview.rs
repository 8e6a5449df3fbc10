//! `GET /api/me`: who somebody is, and everything that is theirs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::state::Admin;
use super::{left, models};
use crate::callers::LiveConsumer;
use crate::config::PersonNames;
use crate::runtime::Runtime;

/// Most consumers in one answer.
const CONSUMERS: usize = 100;

impl Admin {
    /// The consumers that a person owns, with what is left, used and allowed; never anything of another consumer.
    pub(super) async fn owned(&self, runtime: &Arc<Runtime>, person: &PersonNames<'_>) -> Value {
        let owned: Vec<usize> = (0..runtime.config.consumers.len()).filter(|index| runtime.config.owns_consumer(person, *index)).collect();
        let mut shown = Vec::new();
        for consumer in owned.iter().take(CONSUMERS).filter_map(|index| runtime.callers.consumers.get(*index)) {
            shown.push(self.consumer(runtime, person, consumer).await);
        }
        json!({ "count": owned.len(), "consumers": shown })
    }

    async fn consumer(&self, runtime: &Arc<Runtime>, person: &PersonNames<'_>, consumer: &Arc<LiveConsumer>) -> Value {
        let config = &runtime.config;
        let (usage, problem) = match self.used.of(&self.gateway, &consumer.name).await {
            Ok(usage) => (usage, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let apis = consumer.rights.apis.as_ref().map(|apis| apis.iter().map(|api| api.label()).collect::<Vec<_>>());
        json!({
            "name": &*consumer.name,
            "group": consumer.group.and_then(|index| config.groups.get(index)).map(|group| &*group.name),
            "models": models::models(runtime, consumer),
            "apis": apis,
            "limits": left::limits(config, person, consumer, self.gateway.limits.now()),
            "usage": usage.as_deref(),
            "usage_problem": problem,
        })
    }

    /// The gateway's address for programs: as configured, else the first address for callers.
    pub(super) fn gateway_url(&self, runtime: &Runtime) -> String {
        let server = &runtime.config.server;
        if let Some(url) = &server.portal.gateway_url {
            return url.clone();
        }
        let scheme = if server.tls.is_some() { "https" } else { "http" };
        match server.listen.first() {
            Some(address) if address.ip().is_unspecified() => format!("{scheme}://{}:{}", self.node, address.port()),
            Some(address) => format!("{scheme}://{address}"),
            None => format!("{scheme}://{}", self.node),
        }
    }
}
