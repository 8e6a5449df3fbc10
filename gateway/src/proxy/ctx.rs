//! What is known of a request under way. Each field is written by one stage, which its comment
//! names; everything that is held is given back when this is dropped, a panic included.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prometheus::IntGauge;
use smallvec::SmallVec;
use spillway_plugins::api::{Api, Dialect, Part};
use spillway_plugins::limits::{Class, Now, Permit, Remaining};
use spillway_plugins::request::RequestFields;
use spillway_plugins::tokens::{Metered, OutputMeter, Reported};
use spillway_plugins::trace::{SpanId, Trace};

use super::cached::Cached;
use super::drain::Reading;
use super::logged::Logged;
use super::replay::ReplayBody;
use super::rescue::Rescue;
use super::tunnel::Tunnel;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::route::PassedOver;
use crate::balance::target::Target;
use crate::callers::{Caller, Holding, LiveConsumer, OneOf};
use crate::clock::Tick;
use crate::runtime::{Model, Pool, Runtime};
use crate::shares::Owner;

/// Counts a request in flight for as long as it lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    /// Counts one more.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        InFlight(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is asked, once the body is read. Written by `intake`.
#[derive(Debug)]
pub struct Inquiry {
    /// The operation.
    pub api: Api,
    /// What of it, if it is not the answer itself.
    pub part: Option<Part>,
    /// The model's route and counters.
    pub model: Arc<Model>,
    /// The model's pool.
    pub pool: Arc<Pool>,
    /// What the body says.
    pub fields: RequestFields,
    /// Equal for requests that should meet the same member.
    pub affinity_key: u64,
    /// For a request about what is stored: the path below the API's root.
    pub object: Option<String>,
    /// Members that can't serve it because what it refers to is stored elsewhere.
    pub elsewhere: Option<Vec<usize>>,
    /// Whether its answer names what is stored from now on.
    pub stores: bool,
    /// It brings something sealed, and refers to nothing stored: where that can't be read, others may be asked.
    pub sealed: bool,
}

impl Inquiry {
    /// Members that can't serve it at all.
    pub fn excluded(&self) -> &[usize] {
        self.elsewhere.as_deref().unwrap_or_else(|| self.model.excluded(self.api))
    }

    /// Whether it costs nothing.
    pub fn is_free(&self) -> bool {
        self.part.is_some_and(Part::is_free)
    }

    /// Whether its answer is thought about for a while before it begins.
    pub fn thinks(&self) -> bool {
        self.fields.reasoning.unwrap_or(self.model.reasons)
    }

    /// Whether it must go where something is stored.
    pub fn is_pinned(&self) -> bool {
        self.elsewhere.is_some()
    }
}

/// One attempt, for the log. Written by `attempts` and `tunnel`.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// Where.
    pub target: Arc<Target>,
    /// Index of the member in its route.
    pub member: usize,
    /// How it went.
    pub outcome: AttemptOutcome,
    /// The upstream's status.
    pub status: Option<u16>,
    /// When it began.
    pub began: Tick,
    /// How long it took.
    pub took: Duration,
    /// How long the request had waited for a target before.
    pub waited: Duration,
    /// Its span, where there are traces.
    pub span: Option<SpanId>,
    /// What the upstream said of its failure, cut and redacted.
    pub said: Option<Arc<str>>,
    /// The connection from the pool turned out to be closed: the request was sent once more, on a fresh one.
    pub stale: bool,
}

/// How a request ended. Written by whoever ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It hasn't, or nobody noticed: the caller's connection died.
    #[default]
    CallerLeft,
    /// The caller got a whole answer.
    Complete,
    /// The gateway answered by itself.
    Refused(&'static str),
    /// The last resort answered.
    LastResort,
    /// The answer broke after its first byte, and the caller was told.
    Cut,
}

/// A request under way.
pub struct RequestCtx {
    /// When its head was read. Written at the start.
    pub arrived: Tick,
    /// The same by the wall clock. Written at the start.
    pub arrived_at: DateTime<Utc>,
    /// The config it runs on. Written at the start.
    pub runtime: Arc<Runtime>,
    /// Its id. Written by `intake`.
    pub id: String,
    /// Where it stands in a trace, where there are traces. Written by `intake`.
    pub trace: Option<Box<Trace>>,
    /// The dialect for errors. Written by `intake`.
    pub dialect: Dialect,
    /// The caller, if known. Written by `identify`.
    pub caller: Option<Caller>,
    /// A request of the gateway's own, made for this caller: what is asked was allowed already. Written by `identify`.
    pub internal: bool,
    /// The operation, once the path is read. Written by `intake`.
    pub api: Option<Api>,
    /// The model's name as asked for, whether it exists or not. Written by `intake`.
    pub asked_for: Option<String>,
    /// What is asked, once the model is found. Written by `intake`.
    pub inquiry: Option<Inquiry>,
    /// The whole body. Written by `intake`, dropped by `deliver` once no attempt can need it any more, unless it is
    /// short: an estimate may need it.
    pub body: Option<ReplayBody>,
    /// Bytes of the body. Written by `intake`.
    pub bytes_in: usize,
    /// A request on Pingora's own loop. Written by `intake`, kept by `tunnel`.
    pub tunnel: Option<Box<Tunnel>>,
    /// Every attempt. Written by `attempts` and `tunnel`.
    pub attempts: SmallVec<[AttemptRecord; 2]>,
    /// Members that it could not go to. Written by `progress`.
    pub passed_over: Vec<PassedOver>,
    /// For how many attempts that is noted. Written by `progress`.
    pub(super) noted_attempts: usize,
    /// Time spent waiting for the caller or for upstreams. Written by whoever waits.
    pub waited: Duration,
    /// Time from arrival to the first output. Written by `deliver`.
    pub first: Option<Duration>,
    /// The gateway's own time until then. Written by `deliver`.
    pub overhead: Option<Duration>,
    /// Whether the answer is streamed. Written by `deliver`.
    pub streamed: bool,
    /// The configured tag headers, as a JSON object. Written by `intake`.
    pub tags: Option<Arc<str>>,
    /// What is reserved within its limits. Written by `admit`, settled by `metering`.
    pub permit: Option<Permit>,
    /// What the caller has left of its rates. Written by `admit`.
    pub remaining: Remaining,
    /// About how many tokens its prompt has, where that was asked for. Written by `admit`.
    pub input_bound: Option<u64>,
    /// How it stands with the cache, where there is one. Written by `cached`.
    pub cached: Option<Box<Cached>>,
    /// What the prompt log gets of it, where there is one. Written by `logged`.
    pub logged: Option<Box<Logged>>,
    /// The text of a streamed answer, measured. Written by `deliver`.
    pub output: OutputMeter,
    /// What a stream that isn't whole has told. Written by `deliver`.
    pub so_far: Reported,
    /// A plain answer that doesn't say what it used. Written by `deliver`.
    pub answer: Option<Bytes>,
    /// What the answer used, as its backend reports it. Written by `deliver`, `tunnel` and `metering`.
    pub usage: Option<Metered>,
    /// Whether the answer came to its end. Written by `deliver`.
    pub whole: bool,
    /// What was reading an answer when its caller left. Written by `deliver`.
    pub(super) reading: Option<Reading>,
    /// How it stands with being continued after a break. Written by `deliver` and `rescue`.
    pub(super) rescue: Option<Rescue>,
    /// What came of that. Written by `rescue`.
    pub rescued: Option<&'static str>,
    /// Whether the attempt whose answer the caller gets is booked. Written by `metering`.
    pub booked: bool,
    /// The status that the caller got. Written with the head.
    pub status: Option<u16>,
    /// Bytes of the answer's body. Written by `deliver`.
    pub bytes_out: usize,
    /// How it ended.
    pub end: End,
    /// Counts it among those in flight. Written at the start.
    pub in_flight: Option<InFlight>,
    /// Counts it among its consumer's. Written by `intake`.
    pub one_of: Option<OneOf>,
}

impl RequestCtx {
    /// A request that has just arrived.
    pub fn new(arrived: Tick, arrived_at: DateTime<Utc>, runtime: Arc<Runtime>, in_flight: InFlight) -> Self {
        RequestCtx {
            arrived,
            arrived_at,
            runtime,
            id: String::new(),
            trace: None,
            dialect: Dialect::OpenAi,
            caller: None,
            internal: false,
            api: None,
            asked_for: None,
            inquiry: None,
            body: None,
            bytes_in: 0,
            tunnel: None,
            attempts: SmallVec::new(),
            passed_over: Vec::new(),
            noted_attempts: 0,
            waited: Duration::ZERO,
            first: None,
            overhead: None,
            streamed: false,
            tags: None,
            permit: None,
            remaining: Remaining::default(),
            input_bound: None,
            cached: None,
            logged: None,
            output: OutputMeter::default(),
            so_far: Reported::default(),
            answer: None,
            usage: None,
            whole: false,
            reading: None,
            rescue: None,
            rescued: None,
            booked: false,
            status: None,
            bytes_out: 0,
            end: End::CallerLeft,
            in_flight: Some(in_flight),
            one_of: None,
        }
    }

    /// It is no request in flight any more.
    pub fn leave_flight(&mut self) {
        self.in_flight = None;
        self.one_of = None;
    }

    /// Whom the request belongs to, if known.
    pub fn consumer(&self) -> Option<&LiveConsumer> {
        self.caller.as_ref().map(|caller| &*caller.consumer)
    }

    /// Headers that are withheld from backends, but not the caller's.
    pub fn allowed_headers(&self) -> &[http::HeaderName] {
        self.consumer().map_or(&[], |consumer| &consumer.headers)
    }

    /// Whose share it takes of what all share.
    pub fn owner(&self) -> Owner {
        self.consumer().map(|consumer| Arc::clone(&consumer.name))
    }

    /// What counts what its consumer holds of what all share, where there are several consumers.
    pub fn holding(&self) -> Option<&Arc<Holding>> {
        self.runtime.callers.holding_of(self.consumer()).filter(|_| !self.internal)
    }

    /// What counts the bytes that its consumer's bodies take, where there are several consumers.
    pub fn buffered(&self) -> Option<Arc<AtomicUsize>> {
        Some(Arc::clone(&self.holding()?.buffered))
    }

    /// The moment `now` on both clocks, without asking the second one: the calendar's is taken when a request
    /// arrives.
    pub fn moment(&self, now: Tick) -> Now {
        let since = i64::try_from(now.since(self.arrived).as_secs()).unwrap_or(0);
        Now { monotonic: Duration::from_nanos(now.0), unix: self.arrived_at.timestamp().saturating_add(since) }
    }

    /// How urgent it is where room is short.
    pub fn class(&self) -> Class {
        self.consumer().map_or(Class::default(), |consumer| consumer.class)
    }

    /// Notes the moment of the first output, and what of the time until then was our own.
    pub fn note_first(&mut self, now: Tick) {
        let since = now.since(self.arrived);
        self.first.get_or_insert(since);
        self.overhead.get_or_insert(since.saturating_sub(self.waited));
    }
}
