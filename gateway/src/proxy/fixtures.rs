//! What tests of stages share: gateways, sessions and backends in memory. No socket is opened.

mod backend;

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::downstream::{PingoraSession, Session};
use serde_json::Value;
use spillway_plugins::api::Api;
use spillway_plugins::request::read_fields;
use spillway_testkit::client::Response;
use spillway_testkit::wire::{Head, Reader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc::Receiver;

use super::attempt::Attempt;
use super::ctx::RequestCtx;
use super::retry_state::{RetryState, pick};
use crate::audit::Audit;
use crate::callers::Caller;
use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::gateway::{Gateway, Parts};
use crate::issued_keys::IssuedKeys;
use crate::ledger::{Ledger, export};
use crate::limits::{Limits, UsageHistory};
use crate::objects::Objects;
use crate::request::{Attempts, BodyBuffer, Facts, InFlight, ModelRequest, RequestBody};
use crate::runtime::{Runtime, Surroundings};
use crate::self_request::Internal;
use crate::telemetry::metrics::Metrics;
pub(super) use backend::{Backend, DONE, Step, answer_own, chunked, content, events, plain, stop};

/// A chat that asks for the model `m`.
pub(super) const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
/// The same as a stream.
pub(super) const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// What a gateway is made from: lines of its config, and its clock. There are two backends, `a` and behind it `b`, in one
/// pool. Of `a` the price is known.
pub(super) struct Setup<'s> {
    /// Of `[server]`.
    pub(super) server: &'s str,
    /// Of the backend `a`.
    pub(super) backend: &'s str,
    /// The pool's members.
    pub(super) members: &'s str,
    /// Of the pool.
    pub(super) pool: &'s str,
    /// Whole tables behind these.
    pub(super) rest: &'s str,
    pub(super) clock: Clock,
}

/// `a`, and behind it `b`.
pub(super) const MEMBERS: &str = r#"{ backend = "a", priority = 1 }, { backend = "b", priority = 2 }"#;
/// The same with a mock as last resort, of which [`SORRY`] is the table.
pub(super) const AND_SORRY: &str =
    r#"{ backend = "a", priority = 1 }, { backend = "b", priority = 2 }, { backend = "sorry", priority = 9 }"#;
pub(super) const SORRY: &str = "[[backends]]\nname = \"sorry\"\nkind = \"mock\"\nreply = \"Back soon.\"\n";

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup { server: "", backend: "", members: MEMBERS, pool: "", rest: "", clock: Clock::standing() }
    }
}

impl Setup<'_> {
    pub(super) fn gateway(self) -> Gateway {
        from(&self.text(), self.clock)
    }

    pub(super) fn text(&self) -> String {
        let Setup { server, backend, members, pool, rest, .. } = self;
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nallow_literal_secrets = true\n{server}\n\
             [log]\naccess = \"off\"\n\
             [[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://a.test\"\nlocation = \"north\"\n\
             prices = {{ m = {{ input = 1.0, output = 10.0 }} }}\n{backend}\n\
             [[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"http://b.test\"\nlocation = \"south\"\n\
             [[pools]]\nname = \"pool\"\nmodels = [\"m\", \"n\"]\n\
             members = [{members}]\n{pool}\n{rest}\n"
        )
    }
}

/// A gateway with further tables.
pub(super) fn gateway(rest: &str) -> Gateway {
    Setup { rest, ..Setup::default() }.gateway()
}

/// A gateway with this config. All of its backends count as found.
pub(super) fn from(text: &str, clock: Clock) -> Gateway {
    with_own_requests(text, clock).0
}

/// The same, and the connections that it makes to itself.
pub(super) fn with_own_requests(text: &str, clock: Clock) -> (Gateway, Receiver<DuplexStream>) {
    end_if_it_hangs();
    let config = Config::parse(text, Path::new("test.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let metrics = Arc::new(Metrics::new().unwrap());
    let ledger = config.ledger.clone().map(|rules| Arc::new(Ledger::start(rules, clock.clone(), metrics.ledger.clone()).unwrap()));
    let objects = Arc::new(Objects::new(&config.objects, None, &metrics).unwrap());
    let limits = Arc::new(Limits::new(UsageHistory::default(), None, Arc::clone(&metrics), clock.clone()));
    let keys = Arc::new(IssuedKeys::open(&config, clock.clone(), metrics.issued_keys.clone()).unwrap());
    let audit = Arc::new(Audit::new(config.server.state_dir.as_deref(), "node".to_owned(), clock.clone(), metrics.audit.clone()));
    let around = Surroundings { limits: &limits, metrics: &metrics, clock: &clock, keys: keys.live() };
    let runtime = Runtime::new(config, around, None).unwrap();
    for upstream in runtime.backends.iter().filter_map(|backend| backend.upstream.as_ref()) {
        upstream.resolved.set(true);
    }
    let (internal, own_requests) = Internal::new();
    (Gateway::new(clock, runtime, Parts { objects, limits, ledger, internal, metrics, keys, audit }).unwrap(), own_requests)
}

/// Ends the process, with the name of this thread's test, if the test takes minutes: it waits for something that doesn't come, such
/// as a retry at a later time of a clock that stands.
fn end_if_it_hangs() {
    thread_local!(static RUNNING: OnceCell<SyncSender<()>> = const { OnceCell::new() });
    let watch = || {
        let (running, ended) = sync_channel(0);
        let test = std::thread::current().name().unwrap_or("without a name").to_owned();
        std::thread::spawn(move || {
            if ended.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                #[expect(clippy::print_stderr, reason = "it is all that is left to be seen of the test")]
                let () = eprintln!("the test {test} hangs: does it wait on a clock that stands?");
                std::process::abort();
            }
        });
        running
    };
    RUNNING.with(|running| {
        running.get_or_init(watch);
    });
}

/// No test takes so long.
const HANGS: Duration = Duration::from_secs(180);

/// A consumer whose key is its name.
pub(super) fn consumer(name: &str, more: &str) -> String {
    format!("[[consumers]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{}\" }}]\n{more}\n", spillway_plugins::auth::digest(name.as_bytes()))
}

/// The lines that keep a ledger in this folder: of the server, and the table.
pub(super) fn ledger_in(folder: &Path) -> (String, &'static str) {
    (format!("state_dir = \"{}\"", folder.display()), "[ledger]\n")
}

/// The rows in a gateway's ledger, once all are written that were handed over.
pub(super) async fn booked(gateway: &Gateway) -> Vec<Value> {
    gateway.flush(Duration::from_secs(10)).await;
    let folder = gateway.runtime.load().config.server.state_dir.clone().unwrap();
    let mut text = Vec::new();
    export::export(&folder, 0, i64::MAX >> 20, export::Format::JsonLines, &mut text).unwrap();
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The value of a metric, by its name and all of its labels; 0 if it isn't there.
pub(super) fn metric(gateway: &Gateway, name: &str) -> f64 {
    let runtime = gateway.runtime.load();
    let text = String::from_utf8(gateway.metrics.render(runtime.members(), gateway.clock.now())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// What is known of a request that has arrived just now.
pub(super) fn facts(gateway: &Gateway) -> Facts {
    let mut facts = Facts::new(gateway.clock.now(), gateway.clock.wall(), gateway.runtime.load_full());
    facts.id = "the-id".to_owned();
    facts
}

/// The same of a consumer's.
pub(super) fn facts_of(gateway: &Gateway, name: &str) -> Facts {
    let mut facts = facts(gateway);
    let consumer = facts.runtime.callers.consumers.iter().find(|consumer| *consumer.name == *name).unwrap();
    facts.caller = Some(Caller { consumer: Arc::clone(consumer), grants: None, key: None });
    facts
}

/// What a body with a model asks.
pub(super) fn model_request(gateway: &Gateway, api: Api, body: &str) -> ModelRequest {
    let runtime = gateway.runtime.load();
    let fields = read_fields(body.as_bytes()).unwrap();
    let model = Arc::clone(runtime.model(fields.model.as_deref().unwrap_or("m")).unwrap());
    ModelRequest {
        api,
        part: None,
        pool: Arc::clone(&runtime.pools[model.pool]),
        model,
        fields,
        affinity_key: 0,
        object: None,
        elsewhere: None,
        stores: false,
        sealed: false,
    }
}

/// A body that is being collected.
pub(super) fn buffer(gateway: &Gateway, text: &str) -> BodyBuffer {
    let mut buffer = BodyBuffer::new(&gateway.buffered);
    assert!(buffer.push(text.to_owned().into(), None));
    buffer
}

/// A whole body.
pub(super) fn body(gateway: &Gateway, text: &str) -> RequestBody {
    RequestBody { kept: Some(buffer(gateway, text).finish()), bytes: text.len(), input_bound: None }
}

/// A request with these facts and this body, as the intake leaves it.
pub(super) fn context(gateway: &Gateway, facts: Facts, api: Api, text: &str) -> RequestCtx {
    let in_flight = InFlight::new(&gateway.metrics.requests.in_flight);
    let mut ctx = RequestCtx::new(facts.arrived, facts.arrived_at, Arc::clone(&facts.runtime), in_flight);
    ctx.facts = facts;
    ctx.facts.api = Some(api);
    ctx.facts.asked_for = Some("m".to_owned());
    ctx.body = body(gateway, text);
    ctx.model_request = Some(Box::new(model_request(gateway, api, text)));
    ctx
}

/// How far a request has come that was tried nowhere.
pub(super) fn retry_state(facts: &Facts, model_request: &ModelRequest) -> RetryState {
    RetryState::new(model_request, facts.runtime.callers.number_of(facts.consumer()), facts.arrived)
}

/// An attempt at the first usable member.
pub(super) fn attempt<'g>(
    gateway: &'g Gateway,
    facts: &Facts,
    attempts: &mut Attempts,
    model_request: &'g ModelRequest,
    retry_state: &mut RetryState,
) -> Attempt<'g> {
    let pick = pick(model_request, facts, attempts, retry_state, gateway.clock.now()).unwrap();
    Attempt::begin(gateway, facts, attempts, model_request, retry_state, pick, gateway.clock.now())
}

/// A request that is to be attempted, and its caller.
pub(super) struct Asking {
    pub(super) session: Session<'static>,
    pub(super) caller: CallerEnd,
    pub(super) ctx: RequestCtx,
    pub(super) asked: ModelRequest,
    pub(super) state: RetryState,
}

/// A request with this body that has been taken in.
pub(super) async fn asking(gateway: &Gateway, facts: Facts, api: Api, text: &str) -> Asking {
    let (session, caller) = session(post("/v1/chat/completions", &[], "")).await;
    let mut ctx = context(gateway, facts, api, text);
    let asked = ctx.model_request.take().unwrap();
    let state = retry_state(&ctx.facts, &asked);
    Asking { session, caller, ctx, asked: *asked, state }
}

/// The other end of a session.
pub(super) struct CallerEnd(Reader<DuplexStream>);

/// A session of which the head of this request is read.
pub(super) async fn session(request: impl AsRef<[u8]>) -> (Session<'static>, CallerEnd) {
    let (session, caller) = pingora_session(request).await;
    (Session::Pingora(PingoraSession::Owned(session)), caller)
}

/// The same as Pingora's phases get it.
pub(super) async fn pingora_session(request: impl AsRef<[u8]>) -> (Box<pingora::proxy::Session>, CallerEnd) {
    let (mut theirs, ours) = tokio::io::duplex(1 << 20);
    theirs.write_all(request.as_ref()).await.unwrap();
    let mut session = Box::new(pingora::proxy::Session::new_h1(Box::new(ours)));
    assert!(session.downstream_session.read_request().await.unwrap());
    (session, CallerEnd(Reader::new(theirs)))
}

/// A head with these fields and no body.
pub(super) fn get(target: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {target} HTTP/1.1\r\nhost: gateway\r\n{fields}\r\n")
}

/// A request with this JSON body.
pub(super) fn post(target: &str, fields: &[(&str, &str)], body: &str) -> String {
    let length = body.len().to_string();
    let fields: Vec<_> = [("content-type", "application/json"), ("content-length", &length)].iter().chain(fields).copied().collect();
    get(target, &fields).replacen("GET", "POST", 1) + body
}

impl CallerEnd {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer. One without a length is read until the session is dropped.
    pub(super) async fn answer(&mut self) -> Response {
        let head = self.head().await;
        self.rest(head).await
    }

    /// The answer, or `None` if nothing was written; the session must have been dropped.
    pub(super) async fn answer_if_any(mut self) -> Option<Response> {
        let head = self.0.head().await.unwrap()?;
        Some(self.rest(head).await)
    }

    async fn rest(&mut self, head: Head) -> Response {
        let status = head.line[1].parse().unwrap();
        let (body, ended) = self.0.body(&head, !matches!(status, 100..=199 | 204 | 304)).await.unwrap();
        Response { status, head, body, ended }
    }

    /// The head of the next answer.
    pub(super) async fn head(&mut self) -> Head {
        self.0.head().await.unwrap().expect("an answer")
    }

    /// The next message on a WebSocket: the first byte of its frame, and its text.
    pub(super) async fn message(&mut self) -> (u8, String) {
        let mut exactly = async |count: usize| self.0.exactly(count).await.unwrap().0;
        let head = exactly(2).await;
        let length = match head[1] {
            126 => exactly(2).await,
            127 => exactly(8).await,
            length => vec![length],
        };
        let length = length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        (head[0], String::from_utf8_lossy(&exactly(length).await).into_owned())
    }

    /// What was written, as it is; the session must have been dropped.
    pub(super) async fn bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.get_mut().read_to_end(&mut bytes).await.unwrap();
        bytes
    }
}
