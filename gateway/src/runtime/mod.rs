//! Everything that requests run on, made from a validated config. One [`Runtime`] per loaded config; a request keeps
//! the one that it began with. A reload keeps what hasn't changed.

mod model;
mod pool;

use std::collections::HashMap;
use std::sync::Arc;

use spillway_plugins::checks::RequestCheck;
use spillway_plugins::limits::Rank;

pub use model::{LastResort, Model, Pool, Spilled};

use crate::backend::auth::Identities;
use crate::backend::{Backend, Targets};
use crate::balance::route::Member;
use crate::cache::{AnswerCache, CacheError};
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::tls::TlsError;
use crate::config::{self, CacheRules, Config, PromptLogRules, ServerTls, TraceRules, pool_name};
use crate::guardrails::Guard;
use crate::issued_keys::LiveKeys;
use crate::limits::Limits;
use crate::listener_tls::Tls;
use crate::prompt_log::PromptLog;
use crate::sign_in::{SignIn, SignInError};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;

/// Why a valid config can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The access log can't be opened.
    #[error("log.access: can't open it: {0}")]
    AccessLog(std::io::Error),
    /// The listeners' certificate files can't be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The cache can't be used.
    #[error("{0}")]
    Cache(#[from] CacheError),
    /// The prompt log can't be opened.
    #[error("plugins.prompt_log.path: can't open it: {0}")]
    PromptLog(std::io::Error),
}

/// What exists independently of a runtime.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// All limits.
    pub limits: &'a Arc<Limits>,
    /// Metrics.
    pub metrics: &'a Arc<Metrics>,
    /// The clock.
    pub clock: &'a Clock,
    /// Keys that were issued at run time.
    pub keys: &'a Arc<LiveKeys>,
}

/// A config in use.
#[derive(Debug)]
pub struct Runtime {
    /// The config that it was made from.
    pub config: Config,
    /// Backends, with the same indices as in the config.
    pub backends: Vec<Arc<Backend>>,
    /// The tokens of the backends' identities.
    pub identities: Identities,
    /// All targets.
    pub targets: Targets,
    /// Pools, with the same indices as in the config.
    pub pools: Vec<Arc<Pool>>,
    models: HashMap<Arc<str>, Arc<Model>>,
    /// Models in the order of the config, for `GET /v1/models`.
    pub model_names: Vec<String>,
    /// The known callers.
    pub callers: Callers,
    /// Sign-in on the admin listener, if it is configured.
    pub sign_in: Option<Arc<SignIn>>,
    /// The plugins that check requests.
    pub checks: Vec<Box<dyn RequestCheck>>,
    /// The guard, if there is one.
    pub guard: Option<Arc<Guard>>,
    /// The cache, if there is one.
    pub cache: Option<Arc<AnswerCache>>,
    /// The prompt log, if there is one.
    pub prompt_log: Option<Arc<PromptLog>>,
    /// The access log.
    pub access_log: AccessLog,
    /// The exporter of spans, if there are traces.
    pub traces: Option<Arc<Traces>>,
    /// TLS on the listeners.
    pub tls: Option<Arc<Tls>>,
}

impl Runtime {
    /// Puts a config to use, and keeps what `before` has of the same: health, circuits, throttles, tokens, caches.
    /// Background tasks keep addresses and health up to date; they are not started here.
    ///
    /// # Errors
    /// [`RuntimeError`]; then nothing has changed.
    pub fn new(config: Config, around: Surroundings<'_>, before: Option<&Runtime>) -> Result<Self, RuntimeError> {
        let Surroundings { limits, metrics, keys, .. } = around;
        let access_log =
            AccessLog::start(&config.log, metrics.requests.access_log_dropped.clone(), before.map(|before| &before.access_log))
                .map_err(RuntimeError::AccessLog)?;
        let tls = config.server.tls.clone().map(|files| tls(files, metrics, before)).transpose()?;
        let cache = config.plugins.cache.clone().map(|rules| cache(rules, &config, around, before)).transpose()?;
        let prompt_log = config.plugins.prompt_log.clone().map(|rules| prompt_log(rules, around, before)).transpose();
        let prompt_log = prompt_log.map_err(RuntimeError::PromptLog)?;
        let traces = config.traces.clone().map(|rules| traces(rules, around, before));
        let mut identities = Identities::after(before.map(|before| &before.identities));
        let mut backends = Vec::with_capacity(config.backends.len());
        for backend in &config.backends {
            let same = before.and_then(|before| before.backends.iter().find(|known| known.config == *backend));
            backends.push(match same {
                Some(same) => {
                    same.token().into_iter().for_each(|source| identities.keep(source));
                    Arc::clone(same)
                }
                None => Arc::new(Backend::new(backend.clone(), &mut identities, metrics)),
            });
        }
        let guard = config.plugins.guard.clone().map(|rules| {
            let known = before.and_then(|before| before.guard.clone()).filter(|guard| guard.rules == rules);
            known.iter().filter_map(|guard| guard.token()).for_each(|source| identities.keep(source));
            known.unwrap_or_else(|| Arc::new(Guard::new(rules, &mut identities, metrics)))
        });
        let mut targets = Targets::after(before.map(|before| (&before.targets, &*before.backends)), around.clock.now());
        let mut pools = Vec::new();
        let mut models = HashMap::new();
        for (index, pool) in config.pools.iter().enumerate() {
            let scope = limits.scope(Rank::Pool, pool_name(&pool.name), &pool.limits);
            let known = before.and_then(|before| before.pools.iter().find(|known| known.config.name == pool.name));
            let health = pool::health(pool, &backends, known.zip(before).map(|(known, before)| (&**known, &*before.backends)));
            let live = pool::live(index, pool, scope, &config.prices, &backends, health, &mut targets, metrics);
            models.extend(live.models.iter().map(|model| (Arc::clone(&model.name), Arc::clone(model))));
            pools.push(Arc::new(live));
        }
        targets.share_quotas(&config.quota_pools, before.map(|before| &before.targets));
        targets.forget_before();
        identities.forget_before();
        Ok(Runtime {
            backends,
            identities,
            targets,
            pools,
            model_names: config.pools.iter().flat_map(|pool| pool.models.iter().cloned()).collect(),
            models,
            callers: Callers::new(&config, limits, metrics, keys, before.map(|before| &before.callers)),
            sign_in: sign_in(&config, metrics, before),
            checks: config.plugins.checks(),
            guard,
            cache,
            prompt_log,
            access_log,
            traces,
            tls,
            config,
        })
    }

    /// Every member of every model with its pool's name; a target is repeated for each of its models.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        let models = self.pools.iter().flat_map(|pool| pool.models.iter().map(|model| (&*pool.config.name, model)));
        models.flat_map(|(pool, model)| model.route.members().iter().map(move |member| (pool, member)))
    }

    /// A model that a backend serves, in a pool for which `allowed` is true.
    pub fn model_at(&self, backend: &str, allowed: impl Fn(&config::PoolConfig) -> bool) -> Option<&Arc<Model>> {
        let serves = |model: &&Arc<Model>| model.route.members().iter().any(|member| *member.target.id.backend == *backend);
        self.pools.iter().filter(|pool| allowed(&pool.config)).flat_map(|pool| pool.models.iter()).find(serves)
    }

    /// The model of this name.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }
}

fn sign_in(config: &Config, metrics: &Metrics, before: Option<&Runtime>) -> Option<Arc<SignIn>> {
    let rules = config.server.sign_in.clone()?;
    metrics.sign_in.expose(SignInError::labels().into_iter().chain(["ok"]));
    let known = before.and_then(|before| before.sign_in.clone());
    match known.as_ref().filter(|known| known.rules == rules) {
        Some(same) => Some(Arc::clone(same)),
        None => Some(Arc::new(SignIn::new(rules, metrics.sign_in.issuer(), known.as_deref()))),
    }
}

fn tls(files: ServerTls, metrics: &Arc<Metrics>, before: Option<&Runtime>) -> Result<Arc<Tls>, TlsError> {
    match before.and_then(|before| before.tls.clone()).filter(|tls| tls.is_of(&files)) {
        Some(known) => Ok(known),
        None => Tls::new(files, Arc::clone(metrics)).map(Arc::new),
    }
}

fn cache(rules: CacheRules, config: &Config, around: Surroundings<'_>, before: Option<&Runtime>) -> Result<Arc<AnswerCache>, CacheError> {
    let known = before.and_then(|before| before.cache.as_ref());
    match known.filter(|known| known.has_rules(&rules)) {
        Some(same) => Ok(Arc::clone(same)),
        None => {
            let (redis, threads) = (config.redis.as_ref(), config.server.threads);
            AnswerCache::new(rules, redis, threads, around.clock, around.metrics, known.map(|known| &**known)).map(Arc::new)
        }
    }
}

fn traces(rules: TraceRules, around: Surroundings<'_>, before: Option<&Runtime>) -> Arc<Traces> {
    match before.and_then(|before| before.traces.clone()).filter(|traces| traces.rules == rules) {
        Some(known) => known,
        None => {
            // The instance name stays the same when the rules change.
            let known = before.and_then(|before| before.traces.as_ref()).map(|traces| traces.instance.clone());
            let shared = || around.limits.shared.as_ref().map(|shared| shared.process().to_owned());
            let instance = known.or_else(shared).unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
            Arc::new(Traces::start(rules, instance, around.clock.clone(), around.metrics.traces.clone()))
        }
    }
}

fn prompt_log(rules: Arc<PromptLogRules>, around: Surroundings<'_>, before: Option<&Runtime>) -> std::io::Result<Arc<PromptLog>> {
    match before.and_then(|before| before.prompt_log.clone()).filter(|log| log.rules == rules) {
        Some(known) => Ok(known),
        None => PromptLog::start(rules, around.clock.clone(), around.metrics.prompt_log.clone()).map(Arc::new),
    }
}
