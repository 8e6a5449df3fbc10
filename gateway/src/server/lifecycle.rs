//! Start, run, stop, and hand over.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::admin::{self, Admin, Control, UpgradeRequest};
use super::background::{Upkeep, wait_for_backends};
use super::handover::predecessor::{HandoverError, Program, TakenOver, hand_over};
use super::handover::successor::Successor;
use super::inherited_sockets::Sockets;
use super::listeners::Listeners;
use super::reload::{By, Reloader, Source};
use super::service::Service;
use super::signals::{Signal, Signals};
use super::start_error::StartError;
use super::start_ledger::start_ledger;
use super::systemd::Manager;
use super::{listen, self_listener, shadow_listener, sharing, unattended};
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

/// How long idle connections stay open when the gateway stops, so that a client that is about to use one gets an answer
/// that says it closes, and no request is sent on a connection that was just closed.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// The same if another process has taken over: then nothing waits for this one.
const IDLE_GRACE_HANDED_OVER: Duration = Duration::from_secs(10);

/// How long a process that ends waits for answers on the admin listener. Each act waits for the disk before it is answered,
/// and does so for ten seconds.
const ANSWERS: Duration = Duration::from_secs(15);
/// How long a start waits for the keys that other nodes have issued.
const KEYS: Duration = Duration::from_millis(600);

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
}

/// A running gateway. It goes on when this is dropped; see [`Running::stop`].
pub struct Running {
    /// Its shared state, also for tests.
    pub gateway: Gateway,
    /// The addresses that callers connect to, with the ports that were given for `:0`.
    pub listen: Vec<SocketAddr>,
    /// The admin listener's address.
    pub admin: SocketAddr,
    /// The address of the listener for people, if there is one.
    pub portal: Option<SocketAddr>,
    /// The addresses of the listeners for mirrored requests.
    pub mirrors: Vec<SocketAddr>,
    /// Reloads the config.
    pub reloader: Arc<Reloader>,
    pub(super) sockets: Vec<OwnedFd>,
    shutdown: watch::Sender<bool>,
    /// Ends idle connections.
    idle_end: watch::Sender<bool>,
    /// Accepts on the admin listener, so that operators can watch a gateway that stops.
    administration: JoinHandle<()>,
    /// Answers on the admin listener that are under way.
    busy: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
    /// Tasks that exchange state with other nodes.
    sharing: Vec<JoinHandle<()>>,
    accepting: Vec<JoinHandle<()>>,
    proxy: Arc<HttpProxy<Gateway>>,
    /// Upgrade requests.
    upgrades: mpsc::Receiver<UpgradeRequest>,
    /// What was learned of provisioned throughput.
    ptu_file: Option<PtuFile>,
}

/// Why a gateway ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// It was stopped.
    Stop,
    /// Another process has taken over.
    HandedOver(TakenOver),
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
    let prepared = match prepare(config, source, clock, &mut sockets, by).await {
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
    let mut running = prepared.accept()?;
    heir.ready().await.map_err(StartError::TakeOver)?;
    running.tasks.push(tokio::spawn(heir.listen(running.gateway.clone())));
    Ok(running)
}

async fn prepare(config: Config, source: Source, clock: Clock, sockets: &mut Sockets, by: By) -> Result<Prepared, StartError> {
    let listeners = Listeners::bind(&config, sockets)?;
    let metrics = Arc::new(Metrics::new()?);
    if let Some(folder) = &config.server.state_dir {
        metrics.watch_state(folder)?;
    }
    let objects = Arc::new(Objects::new(&config.objects, config.redis.as_ref(), &metrics)?);
    let ledger = config.ledger.clone().map(|rules| start_ledger(rules, &config, &metrics, &clock)).transpose()?.map(Arc::new);
    let limits = Arc::new(limits(&config, ledger.as_deref(), &metrics, &clock, by).await?);
    let keys = Arc::new(IssuedKeys::open(&config, clock.clone(), metrics.issued_keys.clone())?);
    keys.join(KEYS).await;
    let audit = Arc::new(Audit::new(config.server.state_dir.as_deref(), clock.clone(), metrics.audit.clone()));
    let around = Surroundings { limits: &limits, metrics: &metrics, clock: &clock, keys: keys.live() };
    let runtime = Runtime::new(config, around, None)?;
    let ptu_file = runtime.config.server.state_dir.as_deref().map(PtuFile::new);
    if let Some(file) = &ptu_file {
        file.restore(runtime.targets.iter(), clock.now());
    }
    let (internal, own_requests) = Internal::new();
    let mut upkeep = Upkeep::default();
    upkeep.start(&runtime, &clock);
    let gateway = Gateway::new(clock, runtime, Parts { objects, limits, ledger, internal, metrics, keys, audit })?;
    wait_for_backends(&gateway.runtime.load_full()).await;
    Ok(Prepared { gateway, listeners, own_requests, upkeep, source, by, ptu_file })
}

impl Prepared {
    /// Accepts connections from now on.
    fn accept(self) -> Result<Running, StartError> {
        let Prepared { gateway, listeners, own_requests, upkeep, source, by, ptu_file } = self;
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

impl Running {
    /// Answers "not ready", waits for load balancers to notice, closes the listeners, and lets requests in flight
    /// finish. Returns early once nothing is in flight, or when `hurry` ends.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.end(Ending::Stop, hurry).await;
    }

    /// Starts the program again and lets it take over; this process then only finishes its requests.
    async fn hand_over(&self, program: &Program) -> Result<TakenOver, HandoverError> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
        let taken = hand_over(program, sockets, &self.gateway).await;
        let metrics = &self.gateway.metrics.upgrades;
        match &taken {
            Ok(taken) => {
                metrics.done.inc();
                info!(pid = taken.pid, "another process has taken over; requests in flight finish here");
            }
            Err(error) => {
                metrics.failed.inc();
                error!(%error, "the upgrade failed: this process continues");
            }
        }
        taken
    }

    pub(super) async fn end(self, ending: Ending, hurry: impl Future<Output = ()>) {
        let gateway = self.gateway.clone();
        let server = gateway.runtime.load().config.server.clone();
        if matches!(ending, Ending::HandedOver(_)) {
            gateway.hand_over();
        }
        gateway.close();
        let (lb_delay, idle_grace) = match &ending {
            Ending::Stop => (server.lb_delay, IDLE_GRACE),
            // Other nodes communicate with the new process, which has all of this one's state.
            Ending::HandedOver(_) => (Duration::ZERO, IDLE_GRACE_HANDED_OVER),
        };
        let idle_grace = idle_grace.min(server.drain_timeout);
        let (over, is_over) = watch::channel(false);
        let handed_over = matches!(ending, Ending::HandedOver(_));
        gateway.ledger.iter().filter(|_| handed_over).for_each(|ledger| ledger.leave_prices());
        let telling = match ending {
            Ending::Stop => None,
            Ending::HandedOver(taken) => {
                self.sharing.iter().for_each(JoinHandle::abort);
                gateway.limits.shared.iter().for_each(|shared| shared.retire());
                Some(tokio::spawn(taken.keep_sending(gateway.clone(), is_over)))
            }
        };
        let down = async {
            tokio::time::sleep(lb_delay).await;
            let _ = self.shutdown.send(true);
            drop(self.sockets);
            for task in self.accepting {
                let _ = task.await;
            }
            let none_left = async |connections: bool| {
                let metrics = &gateway.metrics;
                while metrics.requests.in_flight.get() > 0
                    || gateway.busy_sockets() > 0
                    || (connections && metrics.listeners.connections.get() > 0)
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = tokio::time::timeout(idle_grace, none_left(true)).await;
            use pingora::apps::HttpServerApp as _;
            self.proxy.http_cleanup().await;
            let _ = self.idle_end.send(true);
            // Few requests are left, and there may be long ones: no connection to a backend waits for others.
            gateway.idle.close();
            if tokio::time::timeout(server.drain_timeout.saturating_sub(idle_grace), none_left(false)).await.is_err() {
                warn!(in_flight = gateway.metrics.requests.in_flight.get(), "drain_timeout is over, requests are cut off");
            }
        };
        tokio::select! {
            () = down => {}
            () = hurry => warn!("stopping at once: requests in flight are cut off"),
        }
        // After an upgrade the other process writes it.
        if let Some(file) = self.ptu_file.filter(|_| !handed_over)
            && let Err(error) = file.write(gateway.runtime.load().targets.iter(), gateway.clock.now())
        {
            warn!(%error, "what was learned of provisioned throughput can't be stored");
        }
        gateway.objects.flush(Duration::from_secs(1)).await;
        gateway.flush(Duration::from_secs(5)).await;
        // Everything is settled: the last report.
        let _ = over.send(true);
        if let Some(telling) = telling {
            let _ = tokio::time::timeout(Duration::from_secs(5), telling).await;
        }
        let announced = async {
            while self.busy.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(ANSWERS, announced).await;
        self.reloader.stop().await;
        self.administration.abort();
        self.tasks.iter().chain(&self.sharing).for_each(JoinHandle::abort);
        if let Some(shared) = gateway.limits.shared.as_ref().filter(|_| !handed_over) {
            let _ = tokio::time::timeout(Duration::from_secs(1), shared.leave(&gateway.limits)).await;
        }
    }

    /// Serves until a signal stops the process, or another one has taken over.
    pub(super) async fn serve(mut self, mut signals: Signals, program: &Program) {
        let manager = Manager::default();
        let watchdog = tokio::spawn(manager.clone().keep_watchdog());
        // After an upgrade the old process has already reported this one as the service.
        if self.reloader.status().loaded_by != By::Upgrade {
            manager.ready(&format!("serving {} models", self.gateway.runtime.load().model_names.len()));
        }
        let ending = loop {
            let reply = tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break Ending::Stop,
                    Signal::Reload => {
                        let reloader = Arc::clone(&self.reloader);
                        // The reloader logs the result.
                        tokio::spawn(async move { drop(reloader.reload(By::Signal).await) });
                        continue;
                    }
                    Signal::Upgrade => None,
                },
                Some(request) = self.upgrades.recv() => Some(request),
            };
            // A stop signal during an upgrade also ends the process that is just starting.
            let taken = tokio::select! {
                taken = self.hand_over(program) => taken,
                () = stopped(&mut signals) => break Ending::Stop,
            };
            if reply.is_none() {
                unattended::upgraded(&self.gateway, &taken).await;
            }
            if taken.is_ok() {
                // The next admin request must reach the new process.
                self.administration.abort();
                self.upgrades.close();
            }
            let result = taken.as_ref().map(|taken| taken.pid).map_err(ToString::to_string);
            if let Ok(pid) = result {
                manager.is_now(pid);
            }
            // The client may be gone; further upgrade requests get the same answer.
            let mut replies: Vec<UpgradeRequest> = reply.into_iter().collect();
            replies.extend(std::iter::from_fn(|| self.upgrades.try_recv().ok()));
            replies.into_iter().for_each(|reply| drop(reply.send(result.clone())));
            if let Ok(taken) = taken {
                break Ending::HandedOver(taken);
            }
        };
        let server = self.gateway.runtime.load().config.server.clone();
        let in_flight = self.gateway.metrics.requests.in_flight.get();
        match &ending {
            Ending::Stop => {
                info!(in_flight, "stopping; a second signal cuts off requests in flight");
                manager.stopping(server.lb_delay + server.drain_timeout + Duration::from_secs(30));
            }
            Ending::HandedOver(_) => {
                // The service manager may stop both processes: the first signal changes nothing.
                info!(in_flight, "finishing; two signals cut off requests in flight");
            }
        }
        let spare = usize::from(matches!(ending, Ending::HandedOver(_)));
        let hurry = async {
            for _ in 0..=spare {
                stopped(&mut signals).await;
            }
        };
        self.end(ending, hurry).await;
        watchdog.abort();
    }
}

/// Waits for the next signal to stop.
async fn stopped(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// Runs a gateway until a signal stops it, or another process has taken over.
///
/// # Errors
/// [`StartError`]
pub fn run(config: Config, source: Source, successor: Option<Successor>) -> Result<(), StartError> {
    let program = Program::own()?;
    let sockets = Sockets::from_environment()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.server.threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.thread_name("worker").enable_all().build()?;
    let outcome = runtime.block_on(async {
        // Before anything else: without a handler SIGHUP would end the process.
        let signals = Signals::new()?;
        let running = launch(Launch { config, source, clock: Clock::new(), sockets, successor }).await?;
        count_panics(&running.gateway);
        info!(listen = ?running.listen, admin = %running.admin, portal = running.portal.map(tracing::field::display), version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "ready");
        running.serve(signals, &program).await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// A panic ends only its request's task; it must be counted.
fn count_panics(gateway: &Gateway) {
    let panics = gateway.metrics.requests.panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        before(info);
    }));
}
