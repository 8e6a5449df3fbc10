//! What requests run on: a validated config made live. One [`Runtime`] per loaded config; a
//! request keeps the one it began with.

use std::collections::HashMap;
use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::limits::{Rank, Scope};

use crate::backend::auth::Identities;
use crate::backend::{Backend, Targets, url};
use crate::balance::budget::RetryBudget;
use crate::balance::route::{Flags, Member, Route, Up};
use crate::balance::waiting::Waiting;
use crate::callers::Callers;
use crate::config::{self, BackendKind, Config, DeploymentPrice, Prices};
use crate::guard::Guard;
use crate::ledger::Place;
use crate::limits::{Limits, pool_name};
use crate::telemetry::metrics::{MemberMetrics, Metrics, RequestMetrics};

/// A live config.
#[derive(Debug)]
pub struct Runtime {
    /// Backends by the index they have in the config.
    pub backends: Vec<Arc<Backend>>,
    /// The tokens of the identities that the backends are asked with.
    pub identities: Identities,
    /// All targets.
    pub targets: Targets,
    /// Pools by the index they have in the config.
    pub pools: Vec<Arc<Pool>>,
    models: HashMap<Arc<str>, Arc<Model>>,
    /// Models in the order of the config, for `GET /v1/models`.
    pub model_names: Vec<String>,
    /// Who may call.
    pub callers: Callers,
    /// What may be asked and answered, if that is looked at.
    pub guard: Option<Guard>,
}

/// What answers when no target can.
#[derive(Debug, Clone)]
pub struct LastResort {
    /// The mock's name.
    pub backend: Arc<str>,
    /// What it says.
    pub reply: Arc<str>,
}

/// A live pool.
#[derive(Debug)]
pub struct Pool {
    /// Its config.
    pub config: config::Pool,
    /// What its callers use up together, if that is limited.
    pub scope: Option<Arc<Scope>>,
    /// How many retries it may still make.
    pub budget: RetryBudget,
    /// Requests that wait for it to reopen.
    pub waiting: Waiting,
    /// Its last resort's answer, if it has one.
    pub last_resort: Option<LastResort>,
    /// Health flags by member, in the order of the config; mocks have none that ever changes.
    pub health: Vec<Arc<Up>>,
    models: Vec<Arc<Model>>,
    requests: Vec<RequestMetrics>,
}

impl Pool {
    /// The models and their routes.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// The counters for requests of `api`.
    pub fn requests(&self, api: Api) -> Option<&RequestMetrics> {
        self.requests.get(api as usize)
    }
}

/// One model: where its requests can go.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// Index of its pool.
    pub pool: usize,
    /// Its members and tiers.
    pub route: Route,
    /// Counters by member.
    pub metrics: Vec<MemberMetrics>,
    /// What each member costs, as far as that is known.
    pub prices: Vec<Option<DeploymentPrice>>,
    /// Each member, as the ledger names it.
    pub places: Vec<Arc<Place>>,
    /// The cache, as the ledger names it.
    pub cache_place: Arc<Place>,
    /// Members that can't serve an API, by API: they count as tried from the start.
    excluded: Vec<Vec<usize>>,
}

impl Model {
    /// Indices of the members that can't serve `api`.
    pub fn excluded(&self, api: Api) -> &[usize] {
        self.excluded.get(api as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether any member can serve `api`.
    pub fn serves(&self, api: Api) -> bool {
        self.excluded(api).len() < self.route.members().len()
    }
}

impl Runtime {
    /// Makes a config live. Nothing is started: addresses and health are kept by background tasks.
    pub fn new(config: &Config, limits: &Arc<Limits>, metrics: &Metrics) -> Self {
        let mut identities = Identities::default();
        let backends: Vec<Arc<Backend>> =
            config.backends.iter().map(|backend| Arc::new(Backend::new(backend.clone(), &mut identities, metrics))).collect();
        let guard = config.guard.clone().map(|rules| Guard::new(rules, &mut identities, metrics));
        let mut targets = Targets::default();
        let mut pools = Vec::new();
        let mut models = HashMap::new();
        for (index, pool) in config.pools.iter().enumerate() {
            let scope = limits.scope(Rank::Pool, pool_name(&pool.name), &pool.limits);
            let live = live_pool(index, pool, scope, &config.prices, &backends, &mut targets, metrics);
            models.extend(live.models.iter().map(|model| (Arc::clone(&model.name), Arc::clone(model))));
            pools.push(Arc::new(live));
        }
        Runtime {
            backends,
            identities,
            targets,
            pools,
            model_names: config.pools.iter().flat_map(|pool| pool.models.iter().cloned()).collect(),
            models,
            callers: Callers::new(config, limits, metrics),
            guard,
        }
    }

    /// Every member of every model with its pool's name, a target as often as it serves one.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        let models = self.pools.iter().flat_map(|pool| pool.models.iter().map(|model| (&*pool.config.name, model)));
        models.flat_map(|(pool, model)| model.route.members().iter().map(move |member| (pool, member)))
    }

    /// A model that a backend serves, of a pool that `allowed` lets through.
    pub fn model_at(&self, backend: &str, allowed: impl Fn(&config::Pool) -> bool) -> Option<&Arc<Model>> {
        let serves = |model: &&Arc<Model>| model.route.members().iter().any(|member| *member.target.id.backend == *backend);
        self.pools.iter().filter(|pool| allowed(&pool.config)).flat_map(|pool| pool.models.iter()).find(serves)
    }

    /// The model of this name.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }
}

fn live_pool(
    index: usize,
    pool: &config::Pool,
    scope: Option<Arc<Scope>>,
    prices: &Prices,
    backends: &[Arc<Backend>],
    targets: &mut Targets,
    metrics: &Metrics,
) -> Pool {
    let health: Vec<Arc<Up>> = pool.members.iter().map(|_| Arc::new(Up::default())).collect();
    let models =
        pool.models.iter().map(|name| Arc::new(live_model(index, name, pool, prices, backends, &health, targets, metrics))).collect();
    let last_resort = pool.members.iter().find_map(|member| match &backends[member.backend].config.kind {
        BackendKind::Mock { reply } if member.weight > 0 => {
            Some(LastResort { backend: backends[member.backend].config.name.clone(), reply: reply.as_str().into() })
        }
        _ => None,
    });
    Pool {
        config: pool.clone(),
        scope,
        budget: RetryBudget::default(),
        waiting: Waiting::default(),
        last_resort,
        health,
        models,
        requests: Api::ALL.into_iter().map(|api| metrics.request(&pool.name, Some(api))).collect(),
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, of one thing's parts")]
fn live_model(
    pool_index: usize,
    name: &str,
    pool: &config::Pool,
    prices: &Prices,
    backends: &[Arc<Backend>],
    health: &[Arc<Up>],
    targets: &mut Targets,
    metrics: &Metrics,
) -> Model {
    let mut members = Vec::new();
    for (member, health) in pool.members.iter().zip(health) {
        let backend = &backends[member.backend];
        // A mock is no target: it answers when no target can.
        let Some(upstream) = &backend.upstream else { continue };
        members.push(Member {
            target: targets.get(&backend.config, name),
            priority: member.priority,
            weight: member.weight,
            location: backend.config.location.clone(),
            backend: member.backend,
            up: Flags {
                healthy: Arc::clone(health),
                resolved: Arc::clone(&upstream.resolved),
                credential: Arc::clone(&upstream.credential),
            },
        });
    }
    let excluded = Api::ALL
        .into_iter()
        .map(|api| (0..members.len()).filter(|i| !url::serves(&backends[members[*i].backend].config.kind, api)).collect())
        .collect();
    let counters = members.iter().map(|m| metrics.member(&pool.name, &m.target.id.backend, &m.target.id.deployment, m.priority)).collect();
    let prices = members.iter().map(|member| prices.of(&backends[member.backend].config, name)).collect();
    let (name, pool_name): (Arc<str>, Arc<str>) = (name.into(), pool.name.clone());
    let place = |member: &Member| Place {
        model: Arc::clone(&name),
        pool: Arc::clone(&pool_name),
        backend: Arc::clone(&member.target.id.backend),
        deployment: Arc::clone(&member.target.id.deployment),
        tier: member.priority,
    };
    let cache_place = Arc::new(Place {
        model: Arc::clone(&name),
        pool: Arc::clone(&pool_name),
        backend: "cache".into(),
        deployment: "cache".into(),
        tier: 0,
    });
    let places = members.iter().map(|member| Arc::new(place(member))).collect();
    Model { name, pool: pool_index, route: Route::new(members, pool.policy), metrics: counters, prices, places, cache_place, excluded }
}
