//! The switchboard: Pingora's phases, each handed to the stage that does the work.
//!
//! ```text
//! new_ctx                → ctx        a request has arrived
//! request_filter         → intake     framing, caller, call, rights, body, model, limits | refusal
//! proxy_upstream_filter  → attempts   pick → exchange → judge → deliver, looped | refusal, last resort
//! upstream_peer …        → tunnel     the same for WebSockets and large uploads
//! logging                → finish     what is still reserved, counters, access log
//! ```

mod cors;
pub mod ctx;
pub mod headers;
pub mod refusal;
mod request_id;
mod rescue;
pub mod respond;
mod responses_socket;
pub mod tunnel;
mod words;

mod admit;
mod ask;
mod asked;
mod attempt;
mod attempts;
mod body;
mod books;
mod bound;
mod cached;
mod deliver;
mod drain;
mod estimator;
mod exchange;
mod finish;
mod framing;
mod guarded;
mod identify;
mod intake;
mod last_resort;
mod last_word;
mod logged;
mod media;
mod metering;
mod offload;
mod own_fields;
mod own_usage;
mod patience;
mod progress;
mod query_key;
mod record;
mod step;
mod stored;
mod timer;
mod traced;
mod transformed;
mod upstream_request;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, ErrorType};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::connection_phase as connection;
use crate::internal::Internal;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::objects::Objects;
use crate::request::BufferBudget;
use crate::request::{End, InFlight};
use crate::runtime::Runtime;
use crate::shares::{Owner, Places};
use crate::telemetry::metrics::{Metrics, RequestMetrics};
use crate::telemetry::recent::RecentRequests;
use books::OwnAnswer;
use ctx::RequestCtx;
use estimator::Estimator;
use refusal::Refusal;

thread_local! {
    static RNG: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::new());
}

/// Runs `use_it` with this thread's source of randomness.
fn with_rng<T>(use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
    RNG.with(|rng| use_it(&mut rng.borrow_mut()))
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
    /// Connections to upstreams.
    connector: Arc<Connector>,
    /// Room for request bodies.
    buffered: Arc<BufferBudget>,
    /// Who may work on a long one.
    turns: Arc<offload::Turns>,
    /// Where stored things live.
    pub objects: Arc<Objects>,
    /// What may be used up.
    pub limits: Arc<Limits>,
    /// Who used what, if that is kept.
    pub ledger: Option<Arc<Ledger>>,
    /// Requests of the gateway to itself.
    pub internal: Internal,
    /// The latest requests.
    pub recent: RecentRequests,
    estimator: Estimator,
    /// Room for answers whose callers left.
    draining: Arc<Places<Owner>>,
    /// Tells them when the gateway stops.
    stopping: Notify,
    closing: AtomicBool,
    /// Tells sockets when it is about to stop.
    closed: Notify,
    /// Places for sockets of the Responses API, and how many of them have something to send.
    sockets: Arc<Places<Owner>>,
    busy_sockets: Arc<AtomicUsize>,
    unrouted: RequestMetrics,
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
}

/// Idle connections to upstreams that are kept, together.
const POOL_SIZE: usize = 1024;

impl Gateway {
    /// Puts a gateway together. Nothing is started.
    ///
    /// # Errors
    /// If its thread can't be had.
    pub fn new(clock: Clock, runtime: Runtime, parts: Parts) -> std::io::Result<Self> {
        let Parts { objects, limits, ledger, internal, metrics } = parts;
        let buffered = Arc::new(BufferBudget::new(runtime.config.server.max_buffered, metrics.buffered.clone()));
        let unrouted = metrics.request("none", None);
        // The other connections are for requests.
        let sockets = (runtime.config.server.max_connections / 2).max(1);
        let connector = Arc::new(Connector::new(Some(ConnectorOptions::new(POOL_SIZE))));
        Ok(Gateway(Arc::new(Shared {
            runtime: ArcSwap::from_pointee(runtime),
            metrics,
            clock,
            connector,
            buffered,
            turns: offload::turns(),
            objects,
            limits,
            ledger,
            internal,
            recent: RecentRequests::default(),
            estimator: Estimator::start()?,
            draining: Places::new(drain::AT_ONCE, drain::AT_ONCE),
            stopping: Notify::new(),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            sockets: Places::new(sockets, sockets),
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
        self.runtime.store(Arc::new(runtime));
    }

    /// The gateway is about to stop: whoever is answered from now on hears that its connection closes.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.closed.notify_waiters();
        self.metrics.stopping.set(1);
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
    fn in_flight_now(&self) -> usize {
        usize::try_from(self.metrics.in_flight.get()).unwrap_or(0)
    }

    /// Answers with a refusal.
    async fn refuse(&self, session: &mut Session, own: OwnAnswer<'_>, refusal: &Refusal) -> pingora::Result<()> {
        let shape = refusal.shape();
        self.metrics.rejection(shape.code);
        own.reply.end = End::Refused(shape.code);
        own.reply.status = Some(shape.status.as_u16());
        own.timing.note_first(own.facts.arrived, self.clock.now());
        let complete = |head: &mut ResponseHeader| {
            headers::rate_limits(head, &refusal.remaining().unwrap_or(own.remaining));
            own_fields::describe(own.facts, own.timing, own.copies, head, None, own.attempts.made.len());
        };
        own.reply.bytes_out = respond::refuse(&mut session.downstream_session, refusal, own.facts.dialect, &own.facts.id, complete).await?;
        Ok(())
    }
}

/// An error that says "the caller has what it gets": nothing more is written.
fn told() -> BError {
    Error::explain(ErrorType::ConnectionClosed, "the transfer was left unfinished").into_down()
}

#[async_trait]
impl ProxyHttp for Gateway {
    // On the heap: Pingora moves it, and what waits with it, several times.
    type CTX = Box<RequestCtx>;

    fn new_ctx(&self) -> Box<RequestCtx> {
        connection::request_begins();
        let in_flight = InFlight::new(&self.metrics.in_flight);
        Box::new(RequestCtx::new(self.clock.now(), self.clock.wall(), self.runtime.load_full(), in_flight))
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        Ok(intake::take_in(self, session, ctx).await? == step::Next::Answered)
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        if ctx.tunnel.is_some() {
            return Ok(true);
        }
        ctx.reply.end = attempts::run(self, session, ctx).await;
        match ctx.reply.end {
            End::CallerLeft | End::Cut => Err(told()),
            End::Complete | End::Refused(_) | End::LastResort => Ok(false),
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        tunnel::peer(self, ctx.tunnelled()).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        ctx.tunnelled().map_or(Ok(()), |tunnelled| tunnel::request(self, session, request, tunnelled))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        match ctx.tunnelled() {
            Some(tunnelled) => tunnel::body(self, session, body, end, tunnelled).await,
            None => Ok(()),
        }
    }

    async fn upstream_response_filter(&self, _: &mut Session, head: &mut ResponseHeader, ctx: &mut Self::CTX) -> pingora::Result<()> {
        ctx.tunnelled().map_or(Ok(()), |tunnelled| tunnel::judge_head(self, head, tunnelled))
    }

    async fn response_filter(&self, session: &mut Session, head: &mut ResponseHeader, ctx: &mut Self::CTX) -> pingora::Result<()> {
        ctx.tunnelled().map_or(Ok(()), |tunnelled| tunnel::response(session, head, &tunnelled))
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(tunnelled) = ctx.tunnelled() {
            tunnel::answer(self, session, body, end, tunnelled)?;
        }
        ctx.reply.bytes_out += body.as_ref().map_or(0, Bytes::len);
        Ok(None)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Self::CTX, error: BError) -> BError {
        tunnel::broke(self, ctx.tunnelled(), error, true)
    }

    fn error_while_proxy(&self, _: &HttpPeer, _: &mut Session, error: BError, ctx: &mut Self::CTX, _: bool) -> BError {
        tunnel::broke(self, ctx.tunnelled(), error, false)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        let nothing = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let downstream = *error.esource() == pingora::ErrorSource::Downstream;
        // A 100 Continue is no answer yet.
        if session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101) {
            // A part must not look like the whole.
            session.downstream_session.shutdown().await;
            return nothing;
        }
        let refusal = match error.etype() {
            ErrorType::ReadTimedout if downstream => Refusal::BodyTimeout,
            _ if downstream && body::is_broken_framing(error) => tunnel::refusal(self, ctx.tunnelled()).unwrap_or(body::BROKEN_FRAMING),
            _ if downstream => return nothing,
            _ => tunnel::refusal(self, ctx.tunnelled()).unwrap_or(Refusal::Internal),
        };
        match self.refuse(session, ctx.own_answer(), &refusal).await {
            Ok(()) => FailToProxy { error_code: refusal.shape().status.as_u16(), can_reuse_downstream: !refusal.closes() },
            Err(_) => nothing,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        if let Some(tunnelled) = ctx.tunnelled() {
            tunnel::finish(self, tunnelled, error);
        }
        metering::settle(self, &ctx.facts, &mut ctx.metering);
        finish::finish(self, session, ctx);
    }
}
