//! Start, run, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora::apps::http_app::HttpServer;
use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::admin::Admin;
use super::tls::Tls;
use super::{internal, listen};
use crate::backend::{health, resolve};
use crate::cache::{AnswerCache, CacheError};
use crate::clock::Clock;
use crate::config::tls::TlsError;
use crate::config::{Config, PromptLogRules};
use crate::internal::Internal;
use crate::ledger::{Ledger, LedgerError, LedgerRules};
use crate::limits::{Limits, NodeName, Past, Shared};
use crate::objects::Objects;
use crate::prompt_log::PromptLog;
use crate::proxy::{Gateway, Parts};
use crate::runtime::Runtime;
use crate::shared_memory::RedisError;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The access log can't be opened.
    #[error("can't open the access log: {0}")]
    AccessLog(std::io::Error),
    /// The runtime or a signal handler can't be had.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A defect: metrics clash.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The listeners' certificate files can't be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Redis can't be used.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// The ledger can't be used.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The cache can't be used.
    #[error("{0}")]
    Cache(#[from] CacheError),
    /// The prompt log can't be opened.
    #[error("plugins.prompt_log.path: can't open it: {0}")]
    PromptLog(std::io::Error),
    /// This node's name can't be kept.
    #[error("server.state_dir: can't keep this node's name there: {0}")]
    Node(std::io::Error),
}

/// A gateway that runs. Dropped, it goes on; see [`Running::stop`].
pub struct Running {
    /// What it shares; tests look into it.
    pub gateway: Gateway,
    /// The addresses that callers connect to, with the ports that were given for `:0`.
    pub listen: Vec<SocketAddr>,
    /// The admin listener's address.
    pub admin: SocketAddr,
    shutdown: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    accepting: Vec<JoinHandle<()>>,
    proxy: Arc<pingora::proxy::HttpProxy<Gateway>>,
}

/// Starts a gateway on the current Tokio runtime.
///
/// # Errors
/// [`StartError`], before anything was accepted.
pub async fn start(config: &Config, clock: Clock) -> Result<Running, StartError> {
    let mut listeners = Vec::new();
    for address in config.server.listen.iter().chain([&config.server.admin]) {
        let listener = listen::bind(*address).map_err(|source| StartError::Bind { address: *address, source })?;
        listeners.push(listener);
    }
    let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr()).collect::<Result<_, _>>()?;
    let metrics = Arc::new(Metrics::new()?);
    let access_log = AccessLog::start(&config.log.access, metrics.access_log_dropped.clone()).map_err(StartError::AccessLog)?;
    let tls = config.server.tls.clone().map(|files| Tls::new(files, Arc::clone(&metrics)).map(Arc::new)).transpose()?;
    let objects = Arc::new(Objects::new(&config.objects, config.redis.as_ref(), &metrics)?);
    let start_ledger = |rules: LedgerRules| Ledger::start(rules, clock.clone(), metrics.ledger.clone());
    let ledger = config.ledger.clone().map(start_ledger).transpose()?.map(Arc::new);
    let limits = Arc::new(limits(config, ledger.as_deref(), &metrics, &clock).await?);
    let runtime = Runtime::new(config, &limits, &metrics);
    let cache = config.cache.clone().map(|rules| AnswerCache::new(rules, config.redis.as_ref(), &clock, &metrics)).transpose()?;
    let start_log = |rules: &Arc<PromptLogRules>| PromptLog::start(Arc::clone(rules), clock.clone(), metrics.prompt_log.clone());
    let prompt_log = config.prompt_log.as_ref().map(start_log).transpose().map_err(StartError::PromptLog)?;
    let (internal, own_requests) = Internal::new();
    let parts = Parts { objects: Arc::clone(&objects), limits, ledger, cache, prompt_log, internal, metrics, access_log };
    let gateway = Gateway::new(config, clock, runtime, parts)?;
    let conf = ServerConf { threads: config.server.threads.unwrap_or(1), ..ServerConf::default() };
    let mut proxy = http_proxy(&Arc::new(conf), gateway.clone());
    // An idle HTTP/2 connection would live for ever. Header lists and streams keep Pingora's own
    // bounds as long as no options of ours replace them.
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(config.server.keepalive);
    proxy.server_options = Some(options);
    let proxy = Arc::new(proxy);
    let (shutdown, watch) = watch::channel(false);
    let ready = Arc::new(AtomicBool::new(true));
    let mut tasks = background(&gateway);
    tasks.push(tokio::spawn(objects.keep_shared()));
    tasks.extend(share(&gateway));
    tasks.extend(tls.clone().map(|tls| tokio::spawn(tls.keep_fresh())));
    wait_for_backends(&gateway).await;
    tasks.push(tokio::spawn(internal::accept(own_requests, Arc::clone(&proxy), watch.clone())));
    let mut accepting = Vec::new();
    if let Some(listener) = listeners.pop() {
        let admin = Admin { gateway: gateway.clone(), ready: Arc::clone(&ready) };
        tasks.push(tokio::spawn(serve_admin(listener, admin, watch.clone())));
    }
    for listener in listeners {
        accepting.push(tokio::spawn(listen::accept(listener, Arc::clone(&proxy), gateway.clone(), tls.clone(), watch.clone())));
    }
    let (admin, listen) =
        addresses.split_last().map(|(admin, listen)| (*admin, listen.to_vec())).unwrap_or((config.server.admin, Vec::new()));
    Ok(Running { gateway, listen, admin, shutdown, ready, tasks, accepting, proxy })
}

/// The limits, where the ledger and the other nodes say that they stand.
async fn limits(config: &Config, ledger: Option<&Ledger>, metrics: &Arc<Metrics>, clock: &Clock) -> Result<Limits, StartError> {
    let required = config.ledger.as_ref().is_some_and(|rules| rules.required);
    let past = match ledger.map(|ledger| Past::read(ledger, config, clock.wall().timestamp())) {
        Some(Err(error)) if !required => {
            error!(%error, "the ledger can't be read: quotas and budgets begin anew");
            Past::default()
        }
        read => read.transpose()?.unwrap_or_default(),
    };
    let shared = match &config.redis {
        Some(redis) => {
            let node = NodeName::find(redis.node.as_deref(), config.server.state_dir.as_deref()).map_err(StartError::Node)?;
            Some(Arc::new(Shared::new(redis, node, metrics)?))
        }
        None => None,
    };
    let limits = Limits::new(past, shared, Arc::clone(metrics), clock.clone());
    if let Some(shared) = &limits.shared {
        shared.join(|| limits.now()).await;
    }
    Ok(limits)
}

/// Starts what keeps limits and throttles agreed on with other nodes, if there are any.
fn share(gateway: &Gateway) -> Vec<JoinHandle<()>> {
    let Some(shared) = gateway.limits.shared.clone() else { return Vec::new() };
    let targets: Vec<_> = gateway.runtime.load().targets.iter().cloned().collect();
    let (clock, throttles) = (gateway.clock.clone(), Arc::clone(&shared));
    vec![
        tokio::spawn(shared.keep_agreed(Arc::clone(&gateway.limits))),
        tokio::spawn(async move { throttles.keep_throttles(targets, &clock).await }),
    ]
}

/// Starts what keeps addresses and health up to date.
fn background(gateway: &Gateway) -> Vec<JoinHandle<()>> {
    let runtime = gateway.runtime.load();
    let mut tasks: Vec<JoinHandle<()>> =
        runtime.backends.iter().map(|backend| tokio::spawn(resolve::keep_resolved(Arc::clone(backend)))).collect();
    for identity in runtime.identities.iter() {
        tasks.push(tokio::spawn(Arc::clone(identity).keep_fresh(gateway.clock.clone())));
    }
    if let Some(tokens) = &runtime.callers.tokens {
        tasks.push(tokio::spawn(Arc::clone(&tokens.issuer).keep_fresh(gateway.clock.clone())));
    }
    for pool in &runtime.pools {
        let Some(rules) = &pool.config.health else { continue };
        for (member, up) in pool.config.members.iter().zip(&pool.health) {
            let backend = Arc::clone(&runtime.backends[member.backend]);
            tasks.push(tokio::spawn(health::keep_checked(
                backend,
                pool.config.name.clone(),
                rules.clone(),
                Arc::clone(up),
                gateway.clock.clone(),
            )));
        }
    }
    tasks
}

/// Gives the first look-ups and tokens a moment, so that the first request doesn't come too early.
/// A name that can't be resolved, or a token that doesn't come, doesn't hold up the start.
async fn wait_for_backends(gateway: &Gateway) {
    let runtime = gateway.runtime.load_full();
    let upstreams = || runtime.backends.iter().filter_map(|backend| backend.upstream.as_ref());
    let wait = async |limit: u64, ready: &dyn Fn() -> bool| {
        let all = async {
            while !ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(limit), all).await;
    };
    wait(2, &|| upstreams().all(|upstream| upstream.resolved.get())).await;
    let known = || runtime.callers.tokens.as_ref().is_none_or(|tokens| tokens.issuer.is_ready());
    wait(5, &|| known() && runtime.identities.iter().all(|identity| identity.usable.get())).await;
}

async fn serve_admin(listener: tokio::net::TcpListener, admin: Admin, shutdown: watch::Receiver<bool>) {
    let app = Arc::new(HttpServer::new_app(admin));
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let stream = L4Stream::from(tcp);
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        tokio::spawn(async move {
            app.process_new(Box::new(stream), &shutdown).await;
        });
    }
}

impl Running {
    /// Says "not ready", waits for load balancers to notice, closes the listeners, and lets
    /// requests in flight finish. Returns early once nothing is in flight, or when hurried.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        let server = self.gateway.server.clone();
        self.ready.store(false, Ordering::Relaxed);
        let down = async {
            tokio::time::sleep(server.lb_delay).await;
            let _ = self.shutdown.send(true);
            for task in self.accepting {
                let _ = task.await;
            }
            use pingora::apps::HttpServerApp as _;
            self.proxy.http_cleanup().await;
            let idle = async {
                while self.gateway.metrics.in_flight.get() > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if tokio::time::timeout(server.drain_timeout, idle).await.is_err() {
                warn!(in_flight = self.gateway.metrics.in_flight.get(), "drain_timeout is over, requests are cut off");
            }
        };
        tokio::select! {
            () = down => {}
            () = hurry => warn!("hurried: requests in flight are cut off"),
        }
        self.gateway.objects.flush(Duration::from_secs(1)).await;
        self.gateway.flush(Duration::from_secs(5)).await;
        for task in self.tasks {
            task.abort();
        }
        if let Some(shared) = &self.gateway.limits.shared {
            let _ = tokio::time::timeout(Duration::from_secs(1), shared.leave(&self.gateway.limits)).await;
        }
    }
}

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// [`StartError`]
pub fn run(config: &Config) -> Result<(), StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.server.threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.thread_name("worker").enable_all().build()?;
    let outcome = runtime.block_on(async {
        // Before anything else: an unhandled SIGHUP would end the process.
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = start(config, Clock::new()).await?;
        count_panics(&running.gateway);
        info!(listen = ?running.listen, admin = %running.admin, version = env!("CARGO_PKG_VERSION"), "ready");
        loop {
            tokio::select! {
                _ = hangup.recv() => warn!("reload is not available yet: restart to use a new config"),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        info!(in_flight = running.gateway.metrics.in_flight.get(), "stopping; a second signal hurries");
        running
            .stop(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// A panic ends its request's task only; it must not go unseen.
fn count_panics(gateway: &Gateway) {
    let panics = gateway.metrics.panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        before(info);
    }));
}
