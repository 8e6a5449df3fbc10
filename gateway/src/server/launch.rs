//! Starts a gateway: prepares everything, takes over from another process if there is one, and then accepts connections.

use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

use super::admin::{self, Admin, Control};
use super::background::{Upkeep, wait_for_backends};
use super::handover::reachable::Reachable;
use super::handover::successor::Successor;
use super::inherited_sockets::Sockets;
use super::listeners::Listeners;
use super::own_names::audit_name;
use super::reload::{By, Reloader, Source};
use super::running::Running;
use super::service::Service;
use super::start_error::StartError;
use super::start_ledger::start_ledger;
use super::state_lock::StateLock;
use super::{listen, self_listener, shadow_listener, sharing};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::{Gateway, Parts};
use crate::issued_keys::IssuedKeys;
use crate::ledger::Ledger;
use crate::limits::{Limits, NodeName, SharedLimits, UsageHistory};
use crate::objects::Objects;
use crate::ptu_file::PtuFile;
use crate::runtime::{Runtime, Surroundings};
use crate::self_request::Internal;
use crate::telemetry::metrics::Metrics;

/// How long a process that takes over waits for what the old one has, and it lacks. The old one waits for a minute in all.
const INHERITED: Duration = Duration::from_secs(40);

/// What a gateway is started with.
#[derive(Debug)]
pub struct Launch {
    /// The config.
    pub config: Config,
    /// The source of the config.
    pub source: Source,
    /// The clock.
    pub clock: Clock,
    /// Listening sockets that were passed to this process.
    pub sockets: Sockets,
    /// The stream to the old process, if this one takes over.
    pub successor: Option<Successor>,
}

/// A gateway that is prepared, but accepts nothing yet.
struct Prepared {
    gateway: Gateway,
    listeners: Listeners,
    own_requests: mpsc::Receiver<DuplexStream>,
    upkeep: Upkeep,
    source: Source,
    by: By,
    ptu_file: Option<PtuFile>,
    state_lock: Option<StateLock>,
}

/// Starts a gateway on the current Tokio runtime, with a config that is not from a file.
///
/// # Errors
/// [`StartError`], before any connection is accepted.
pub async fn start(config: &Config, clock: Clock) -> Result<Running, StartError> {
    let config = config.clone();
    launch(Launch { config, source: Source::none(), clock, sockets: Sockets::default(), successor: None }).await
}

/// Starts a gateway on the current Tokio runtime.
///
/// # Errors
/// [`StartError`], before any connection is accepted; the old process, if there is one, has been notified.
pub async fn launch(launch: Launch) -> Result<Running, StartError> {
    let Launch { config, source, clock, mut sockets, successor } = launch;
    let by = if successor.is_some() { By::Upgrade } else { By::Start };
    let prepared = match prepare(config, source, clock, &mut sockets, (by, successor.as_ref())).await {
        Ok(prepared) => prepared,
        Err(error) => {
            successor.into_iter().for_each(|successor| successor.fail(&error.to_string()));
            return Err(error);
        }
    };
    for address in sockets.unused() {
        warn!(%address, "a listening socket was passed to this process, but its address is not in the config: it is not used");
    }
    let Some(successor) = successor else { return prepared.accept() };
    let mut heir = successor.take_over(&prepared.gateway).await.map_err(StartError::TakeOver)?;
    prepared.gateway.keys.catch_up().await;
    let mut running = prepared.accept()?;
    heir.ready().await.map_err(StartError::TakeOver)?;
    running.predecessor = Some(tokio::spawn(heir.listen(running.gateway.clone())));
    Ok(running)
}

async fn prepare(
    config: Config,
    source: Source,
    clock: Clock,
    sockets: &mut Sockets,
    (by, successor): (By, Option<&Successor>),
) -> Result<Prepared, StartError> {
    let (reachable, leaves_limits) = match successor {
        Some(successor) => successor.greeting().await.map_err(StartError::TakeOver)?,
        None => (Reachable::default(), false),
    };
    let listeners = Listeners::bind(&config, sockets)?;
    let metrics = Arc::new(Metrics::new()?);
    if let Some(folder) = &config.server.state_dir {
        metrics.watch_state(folder)?;
    }
    let objects = Arc::new(Objects::new(&config.objects, config.redis.as_ref(), &metrics)?);
    let ledger = config.ledger.clone().map(|rules| start_ledger(rules, &config, &metrics, &clock)).transpose()?.map(Arc::new);
    let state_lock = config.server.state_dir.as_deref().map(|folder| StateLock::take(folder, by));
    let limits = Arc::new(limits(&config, ledger.as_deref(), &metrics, &clock, by).await?);
    if leaves_limits {
        limits.await_predecessor();
    }
    let keys = Arc::new(IssuedKeys::open(&config, clock.clone(), metrics.issued_keys.clone())?);
    keys.join().await;
    let audit = Arc::new(Audit::new(
        config.server.state_dir.as_deref(),
        audit_name(&config).map_err(StartError::Node)?,
        clock.clone(),
        metrics.audit.clone(),
    ));
    let around = Surroundings { limits: &limits, metrics: &metrics, clock: &clock, keys: keys.live() };
    let runtime = Runtime::new(config, around, None)?;
    let ptu_file = runtime.config.server.state_dir.as_deref().map(PtuFile::new);
    if let Some(file) = &ptu_file {
        file.restore(runtime.targets.iter(), clock.now());
    }
    reachable.give_to(&runtime);
    let (internal, own_requests) = Internal::new();
    let mut upkeep = Upkeep::default();
    upkeep.start(&runtime, &clock);
    let gateway = Gateway::new(clock, runtime, Parts { objects, limits, ledger, internal, metrics, keys, audit })?;
    let runtime = gateway.runtime.load_full();
    let ((), has_it) = tokio::join!(wait_for_backends(&runtime), reachable.wait_for(&runtime, INHERITED));
    has_it?;
    Ok(Prepared { gateway, listeners, own_requests, upkeep, source, by, ptu_file, state_lock })
}

impl Prepared {
    /// Accepts connections from now on.
    fn accept(self) -> Result<Running, StartError> {
        let Prepared { gateway, listeners, own_requests, upkeep, source, by, ptu_file, state_lock } = self;
        let (addresses, sockets) = (listeners.addresses()?, listeners.copies()?);
        let server = gateway.runtime.load().config.server.clone();
        let conf = ServerConf { threads: server.threads.unwrap_or(1), ..ServerConf::default() };
        let mut proxy = http_proxy(&Arc::new(conf), gateway.clone());
        // An idle HTTP/2 connection would stay open for ever. Pingora's own bounds for header lists and streams apply
        // as long as we set no options for them.
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(server.keepalive);
        proxy.server_options = Some(options);
        let proxy = Arc::new(proxy);
        let (shutdown, watch) = watch::channel(false);
        let reloader = Arc::new(Reloader::new(gateway.clone(), upkeep, source, by));
        let mut tasks = vec![tokio::spawn(Arc::clone(&gateway.objects).keep_shared()), tokio::spawn(Arc::clone(&reloader).watch())];
        tasks.push(tokio::spawn(Arc::clone(&gateway.idle).keep_swept()));
        tasks.push(tokio::spawn(Arc::clone(&gateway.keys).keep_saved()));
        if let Some(file) = ptu_file.clone() {
            let other = gateway.clone();
            let targets = move || other.runtime.load().targets.iter().cloned().collect();
            tasks.push(tokio::spawn(file.keep_written(targets, gateway.clock.clone())));
        }
        tasks.push(tokio::spawn(self_listener::accept(own_requests, Arc::clone(&proxy), watch.clone())));
        let (control, upgrades) = Control::new(Arc::clone(&reloader));
        let (shadow, mirroring) = shadow_listener::start(&gateway, listeners.mirrors, &watch)?;
        let api = Admin::new(gateway.clone(), control, shadow);
        let busy = api.busy();
        let administration = tokio::spawn(admin::serve(listeners.admin, listeners.portal, api, watch.clone()));
        let (idle_end, ends) = watch::channel(false);
        let service = Service { proxy: Arc::clone(&proxy), gateway: gateway.clone(), shutdown: watch, idle_end: ends };
        let accept = |listener: TcpListener| tokio::spawn(listen::accept(listener, service.clone()));
        let accepting = listeners.callers.into_iter().map(accept).chain(mirroring).collect();
        let sharing = sharing::start(&gateway);
        Ok(Running {
            gateway,
            listen: addresses.callers,
            admin: addresses.admin,
            portal: addresses.portal,
            mirrors: addresses.mirrors,
            reloader,
            sockets,
            shutdown,
            idle_end,
            administration,
            busy,
            tasks,
            sharing,
            accepting,
            proxy,
            upgrades,
            ptu_file,
            _state_lock: state_lock,
            predecessor: None,
        })
    }
}

/// The limits, with the usage in the ledger and at the other nodes.
async fn limits(config: &Config, ledger: Option<&Ledger>, metrics: &Arc<Metrics>, clock: &Clock, by: By) -> Result<Limits, StartError> {
    let required = config.ledger.as_ref().is_some_and(|rules| rules.required);
    let past = match ledger.map(|ledger| UsageHistory::read(ledger, config, clock.wall().timestamp())) {
        Some(Err(error)) if !required => {
            error!(%error, "the ledger can't be read: quotas and budgets start at zero");
            UsageHistory::default()
        }
        read => read.transpose()?.unwrap_or_default(),
    };
    let shared = match &config.redis {
        Some(redis) => {
            let node = NodeName::find(redis.node.as_deref(), config.server.state_dir.as_deref()).map_err(StartError::Node)?;
            Some(Arc::new(SharedLimits::new(redis, node, metrics, by == By::Upgrade)?))
        }
        None => None,
    };
    let limits = Limits::new(past, shared, Arc::clone(metrics), clock.clone());
    if let Some(shared) = &limits.shared {
        shared.join(|| limits.now()).await;
    }
    Ok(limits)
}
