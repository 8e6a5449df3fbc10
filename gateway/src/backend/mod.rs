//! A configured backend, ready for requests: addresses, URLs, credentials, health.

pub mod auth;
pub mod health;
pub mod peer;
pub mod resolve;
mod trust;
pub mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::balance::provisioned::PtuConfig;
use crate::balance::quota_pool::QuotaPool;
use crate::balance::route::HealthFlag;
use crate::balance::target::{Target, TargetId};
use crate::clock::Tick;
use crate::config;
use crate::telemetry::metrics::Metrics;
use auth::{Authoriser, Identities, TokenSource};
use peer::Peers;

/// One upstream resource, ready for requests.
#[derive(Debug)]
pub struct Backend {
    /// Its config.
    pub config: config::BackendConfig,
    /// How to reach it; `None` for a mock, which answers in the gateway.
    pub upstream: Option<Upstream>,
}

/// How to reach a backend.
#[derive(Debug)]
pub struct Upstream {
    /// Where it is.
    pub endpoint: config::Endpoint,
    /// Its addresses, kept up to date in the background.
    pub peers: Arc<Peers>,
    /// Whether any address is known.
    pub resolved: Arc<HealthFlag>,
    /// Adds the gateway's credential to requests.
    pub auth: Box<dyn Authoriser>,
    /// Whether there is a credential to add.
    pub credential: Arc<HealthFlag>,
}

impl Backend {
    /// Prepares a backend. It has no address until the resolver has run.
    pub fn new(config: config::BackendConfig, identities: &mut Identities, metrics: &Metrics) -> Self {
        let upstream = config.endpoint.clone().map(|endpoint| {
            let resolved = Arc::new(HealthFlag::default());
            resolved.set(false);
            let auth = auth::build(&config, identities, metrics);
            let credential = auth.token().map_or_else(Arc::default, |source| Arc::clone(&source.usable));
            Upstream { peers: Arc::new(Peers::new(&endpoint, &config.name, &config.ca)), endpoint, resolved, auth, credential }
        });
        Backend { config, upstream }
    }

    /// The source of its tokens, if it uses tokens.
    pub fn token(&self) -> Option<&Arc<TokenSource>> {
        self.upstream.as_ref()?.auth.token()
    }
}

/// All targets, one per (backend, deployment), shared by the pools that have them.
#[derive(Debug, Default)]
pub struct Targets {
    all: BTreeMap<TargetId, Arc<Target>>,
    /// The targets of the config before, with the configs of their backends.
    before: BTreeMap<TargetId, (Arc<Target>, config::BackendConfig)>,
    /// Changes to targets that were kept, applied once requests use this config.
    changes: BTreeMap<TargetId, Change>,
    now: Tick,
    /// The quotas that targets share.
    quotas: Vec<Arc<QuotaPool>>,
    /// The quota of each target that shares one.
    quota_of: BTreeMap<TargetId, Arc<QuotaPool>>,
}

/// A change to a target.
#[derive(Debug, Clone)]
struct Change {
    max_concurrent: Option<u32>,
    ptu: Option<PtuConfig>,
    /// Its credentials have changed: an outage because of the old ones ends.
    forgiven: bool,
}

impl Targets {
    /// No targets yet; [`Targets::get`] takes those of the config before with their state.
    pub fn after(before: Option<(&Targets, &[Arc<Backend>])>, now: Tick) -> Self {
        let known = before.into_iter().flat_map(|(targets, backends)| {
            let of = |target: &Target| backends.iter().find(|backend| backend.config.name == target.id.backend);
            targets.iter().filter_map(move |target| Some((target.id.clone(), (Arc::clone(target), of(target)?.config.clone()))))
        });
        Targets { before: known.collect(), now, ..Targets::default() }
    }

    /// The target for `model` at `backend`, made at its first use.
    pub fn get(&mut self, backend: &config::BackendConfig, model: &str) -> Arc<Target> {
        let id = TargetId { backend: backend.name.clone(), deployment: backend.deployment(model).into() };
        let ptu = backend.ptu.get(&*id.deployment).cloned();
        let known = self.before.get(&id);
        let make = || match known {
            // A different address is a different resource.
            Some((target, config)) if config.endpoint == backend.endpoint && config.kind == backend.kind => {
                let change = Change { max_concurrent: backend.max_concurrent, ptu, forgiven: config.auth != backend.auth };
                self.changes.insert(id.clone(), change);
                Arc::clone(target)
            }
            _ => {
                let target = Target::new(id.clone(), backend.max_concurrent);
                target.provisioned.configure(ptu, self.now);
                Arc::new(target)
            }
        };
        Arc::clone(self.all.entry(id.clone()).or_insert_with(make))
    }

    /// All targets are made: those with the same label share a quota. Quotas of the config before keep their state.
    pub fn share_quotas(&mut self, labels: &BTreeMap<TargetId, Arc<str>>, before: Option<&Targets>) {
        let labels = labels.iter().filter(|(id, _)| self.all.contains_key(id));
        for (id, label) in labels {
            let same = |quota: &&Arc<QuotaPool>| quota.name == *label;
            let quota = self.quotas.iter().find(same).cloned().unwrap_or_else(|| {
                let known = before.and_then(|before| before.quotas.iter().find(same)).cloned();
                let quota = known.unwrap_or_else(|| Arc::new(QuotaPool::new(Arc::clone(label))));
                self.quotas.push(Arc::clone(&quota));
                quota
            });
            self.quota_of.insert(id.clone(), quota);
        }
        // Requests under the config before may still use the other targets.
        for (id, target) in self.all.iter().filter(|(id, _)| !self.changes.contains_key(id)) {
            target.set_quota(self.quota_of.get(id).cloned());
        }
    }

    /// All targets are made: drops the config before, with its secrets.
    pub fn forget_before(&mut self) {
        self.before.clear();
    }

    /// Requests use this config from now on: applies the changes.
    pub fn settle(&self, now: Tick) {
        for (id, change) in &self.changes {
            let Some(target) = self.all.get(id) else { continue };
            target.set_max_concurrent(change.max_concurrent);
            target.provisioned.configure(change.ptu.clone(), now);
            target.set_quota(self.quota_of.get(id).cloned());
            if change.forgiven {
                target.clear_outage();
            }
        }
    }

    /// Every quota that targets share.
    pub fn quotas(&self) -> &[Arc<QuotaPool>] {
        &self.quotas
    }

    /// Every target, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.all.values()
    }
}
