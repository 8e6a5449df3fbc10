//! `GET /api/me`: who somebody is, and everything that is theirs.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::actor::Role;
use super::super::answer::{Answer, json_answer};
use super::super::state::Admin;
use super::super::surface::Surface;
use super::{Asker, left, models};
use crate::callers::LiveConsumer;
use crate::config::PersonNames;
use crate::issued_keys::KeyRecord;
use crate::runtime::Runtime;

/// Most consumers in one answer.
const CONSUMERS: usize = 100;

impl Admin {
    /// Who asks, and the consumers that they own, with what is left, used and allowed; never anything of another consumer.
    pub(super) async fn overview(&self, asker: &Asker<'_>, surface: Surface) -> Answer {
        let runtime = self.gateway.runtime.load_full();
        let is_owned = |index: &usize| runtime.config.owns_consumer(&asker.names, *index);
        let owned: Vec<usize> = (0..runtime.config.consumers.len()).filter(is_owned).collect();
        let keys = self.gateway.keys.list();
        let mut shown = Vec::new();
        for consumer in owned.iter().take(CONSUMERS).filter_map(|index| runtime.callers.consumers.get(*index)) {
            shown.push(self.consumer(&runtime, &asker.names, consumer, &keys).await);
        }
        let sees_status = surface == Surface::Whole && asker.role >= Role::Viewer;
        let person = json!({ "subject": asker.names.subject, "name": asker.name, "email": asker.names.names.first(), "role": asker.role });
        let all_nodes = runtime.config.ledger.as_ref().is_some_and(|ledger| ledger.ship.is_some());
        let me = json!({
            "person": person, "now": self.gateway.clock.wall().timestamp(), "sees_status": sees_status,
            "gateway_url": self.gateway_url(&runtime), "contact": runtime.config.server.portal.contact, "count": owned.len(),
            "all_nodes": all_nodes,
            "consumers": shown,
        });
        json_answer(StatusCode::OK, &me)
    }

    async fn consumer(&self, runtime: &Arc<Runtime>, person: &PersonNames<'_>, consumer: &Arc<LiveConsumer>, keys: &[KeyRecord]) -> Value {
        let config = &runtime.config;
        let (usage, problem) = match self.used.of(&self.gateway, &consumer.name).await {
            Ok(usage) => (usage, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (keys, making) = self.keys_shown(runtime, consumer, keys);
        let apis = consumer.rights.apis.as_ref().map(|apis| apis.iter().map(|api| api.label()).collect::<Vec<_>>());
        json!({
            "name": &*consumer.name,
            "group": consumer.group.and_then(|index| config.groups.get(index)).map(|group| &*group.name),
            "models": models::models(runtime, consumer),
            "apis": apis,
            "limits": left::limits(config, person, consumer, self.gateway.limits.now()),
            "usage": usage.as_deref(),
            "usage_problem": problem,
            "keys": keys,
            "making": making,
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
