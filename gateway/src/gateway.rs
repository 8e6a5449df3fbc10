//! What all requests share. No stage is named here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::audit::{Act, Audit, AuditError};
use crate::clock::Clock;
use crate::estimator::Estimator;
use crate::http1::idle::IdleConnections;
use crate::issued_keys::IssuedKeys;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::objects::Objects;
use crate::request::BufferBudget;
use crate::runtime::Runtime;
use crate::self_request::Internal;
use crate::shares::{FairSlots, Owner};
use crate::sign_in::SignInState;
use crate::telemetry::metrics::{Metrics, RequestMetrics};
use crate::telemetry::recent::RecentRequests;
use crate::tokenizers::Tokenizers;

/// Answers of callers that left that are read on at once.
const READ_ON: usize = 256;

/// The turns of this machine: one for each processor. One caller never has all of them.
pub(crate) fn turns() -> Arc<FairSlots<Owner>> {
    let processors = std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2));
    FairSlots::new(processors, processors - 1)
}

/// What all requests share.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl std::ops::Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The shared state behind [`Gateway`].
pub struct Shared {
    /// The live config.
    pub runtime: ArcSwap<Runtime>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
    /// Connections to backends that wait for the next request.
    pub(crate) idle: Arc<IdleConnections>,
    /// Room for request bodies.
    pub(crate) buffered: Arc<BufferBudget>,
    /// Who may work on a long one.
    pub(crate) turns: Arc<FairSlots<Owner>>,
    /// Where stored things live.
    pub objects: Arc<Objects>,
    /// What may be used up.
    pub limits: Arc<Limits>,
    /// Who used what, if that is kept.
    pub ledger: Option<Arc<Ledger>>,
    /// Requests of the gateway to itself.
    pub internal: Internal,
    /// Keys that were issued at run time.
    pub keys: Arc<IssuedKeys>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// Who is signed in on the admin listener.
    pub(crate) sign_in: SignInState,
    /// The latest requests.
    pub recent: RecentRequests,
    pub(crate) estimator: Estimator,
    pub(crate) tokenizers: Arc<Tokenizers>,
    /// Room for answers whose callers left.
    pub(crate) draining: Arc<FairSlots<Owner>>,
    /// Tells them when the gateway stops.
    pub(crate) stopping: Notify,
    closing: AtomicBool,
    handed_over: AtomicBool,
    /// Whether another process has this one's state, or is getting it. Changes of that state hold it.
    frozen: RwLock<bool>,
    /// Tells sockets when it is about to stop.
    pub(crate) closed: Notify,
    /// FairSlots for sockets of the Responses API, and how many of them have something to send.
    pub(crate) sockets: Arc<FairSlots<Owner>>,
    pub(crate) busy_sockets: Arc<AtomicUsize>,
    pub(crate) unrouted: RequestMetrics,
}

/// What a gateway is put together from.
pub struct Parts {
    /// Where stored things live.
    pub objects: Arc<Objects>,
    /// What may be used up.
    pub limits: Arc<Limits>,
    /// Who used what, if that is kept.
    pub ledger: Option<Arc<Ledger>>,
    /// Requests of the gateway to itself.
    pub internal: Internal,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Keys that were issued at run time.
    pub keys: Arc<IssuedKeys>,
    /// The audit log.
    pub audit: Arc<Audit>,
}

/// Idle connections to backends that are kept, together.
const POOL_SIZE: usize = 1024;

impl Gateway {
    /// Puts a gateway together. Nothing is started.
    ///
    /// # Errors
    /// If its thread can't be had.
    pub fn new(clock: Clock, runtime: Runtime, parts: Parts) -> std::io::Result<Self> {
        let Parts { objects, limits, ledger, internal, metrics, keys, audit } = parts;
        let buffered = Arc::new(BufferBudget::new(runtime.config.server.max_buffered, metrics.requests.buffered.clone()));
        let unrouted = metrics.requests.of("none", None);
        // The other connections are for requests.
        let sockets = (runtime.config.server.max_connections / 2).max(1);
        let tokenizers = Arc::new(Tokenizers::new(clock.clone()));
        if let Some(ledger) = &ledger {
            ledger.divide_by_share(&runtime.config.prices_by_share);
        }
        let idle = IdleConnections::new(POOL_SIZE).counting(metrics.members.stray_answers.clone());
        Ok(Gateway(Arc::new(Shared {
            runtime: ArcSwap::from_pointee(runtime),
            metrics,
            clock,
            idle: Arc::new(idle),
            buffered,
            turns: turns(),
            objects,
            limits,
            ledger,
            internal,
            keys,
            audit,
            sign_in: SignInState::new().map_err(|_| std::io::Error::other("the system has no random numbers"))?,
            recent: RecentRequests::default(),
            estimator: Estimator::start(Arc::clone(&tokenizers))?,
            tokenizers,
            draining: FairSlots::new(READ_ON, READ_ON),
            stopping: Notify::new(),
            closing: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            frozen: RwLock::new(false),
            closed: Notify::new(),
            sockets: FairSlots::new(sockets, sockets),
            busy_sockets: Arc::default(),
            unrouted,
        })))
    }

    /// The gateway stops: waits until everything that was used is booked and kept, a few times `limit` at most.
    pub async fn flush(&self, limit: Duration) {
        self.stopping.notify_waiters();
        let _ = tokio::time::timeout(limit, self.draining.empty()).await;
        self.estimator.flush(limit).await;
        if let Some(ledger) = &self.ledger {
            ledger.flush(limit).await;
            ledger.ship_now(limit).await;
        }
        let runtime = self.runtime.load_full();
        runtime.access_log.flush(limit).await;
        if let Some(cache) = &runtime.cache {
            cache.flush(limit).await;
        }
        if let Some(log) = &runtime.prompt_log {
            log.flush(limit).await;
        }
        if let Some(traces) = &runtime.traces {
            traces.flush(limit).await;
        }
    }

    /// Requests that begin from now on run on this config.
    pub fn switch(&self, runtime: Runtime) {
        self.buffered.set_limit(runtime.config.server.max_buffered);
        self.keys.follow(&runtime.config);
        if let Some(ledger) = &self.ledger {
            ledger.divide_by_share(&runtime.config.prices_by_share);
        }
        if runtime.sign_in.is_none() {
            // They must not come back with a later config.
            self.sign_in.sessions.end_all(None);
        }
        self.runtime.store(Arc::new(runtime));
    }

    /// Records an administrative act, in the access log and in the audit log. When this returns, it is on the disk.
    ///
    /// # Errors
    /// [`AuditError`], if the audit log can't be written.
    pub async fn record(&self, act: &Act) -> Result<(), AuditError> {
        let mut recorded = Ok(());
        for act in self.audit.admit(act.cleaned()) {
            let line = self.audit.line_of(&act);
            self.runtime.load().access_log.note(&line, &act);
            recorded = self.audit.record(line).await;
        }
        recorded
    }

    /// The gateway is about to stop: whoever is answered from now on hears that its connection closes.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.closed.notify_waiters();
        self.metrics.stopping.set(1);
    }

    /// Another process accepts connections now, and knows of sessions what this one doesn't.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// Another process gets this one's state: from now on [`Gateway::change`] does nothing. `false`: it doesn't take over.
    pub fn freeze(&self, frozen: bool) {
        *self.frozen.write() = frozen;
    }

    /// Whether another process has this one's state, or is getting it.
    pub fn is_frozen(&self) -> bool {
        *self.frozen.read()
    }

    /// Changes state that another process gets when it takes over. `None` if it is too late: then nothing has changed.
    pub fn change<T>(&self, change: impl FnOnce() -> T) -> Option<T> {
        let frozen = self.frozen.read();
        (!*frozen).then(change)
    }

    /// Whether another process has taken over.
    pub fn has_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// Whether it is about to stop.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Sockets that have something to send, though no request is in flight for them.
    pub fn busy_sockets(&self) -> usize {
        self.busy_sockets.load(Ordering::Relaxed)
    }

    /// Requests in flight, this one included.
    pub(crate) fn in_flight_now(&self) -> usize {
        usize::try_from(self.metrics.requests.in_flight.get()).unwrap_or(0)
    }
}
