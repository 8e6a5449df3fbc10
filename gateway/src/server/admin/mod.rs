//! The admin listener: metrics, health, the status page and its API.

mod events;
mod page;
mod rooms;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Response, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use spillway_plugins::limits::Kind;
use spillway_plugins::prices::Money;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use rooms::{Kind as Whose, Rooms, Waiting};
use status::Today;

use super::guard::{Guard, Phase};
use super::reload::{By, Reloaded, Reloader};
use super::socket::Socket;
use crate::balance::snapshot::route_snapshot;
use crate::config::identifier;
use crate::ledger::{Reader, request};
use crate::proxy::Gateway;
use crate::telemetry::logging;

/// Answers on the admin listener.
pub(super) struct Admin {
    gateway: Gateway,
    control: Control,
    /// This machine's name.
    node: String,
    /// When this process began to serve, in milliseconds since 1970.
    started: i64,
    today: Today,
    /// Answers under way, which a process that ends must not cut off.
    busy: Arc<AtomicUsize>,
    /// Pages that are kept up to date.
    pages: Arc<AtomicUsize>,
    rooms: Rooms,
}

impl Admin {
    pub(super) fn new(gateway: Gateway, control: Control) -> Self {
        let node = nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
        let started = gateway.clock.wall().timestamp_millis();
        Admin { gateway, control, node, started, today: Today::default(), busy: Arc::default(), pages: Arc::default(), rooms: Rooms::new() }
    }

    /// How many answers are under way.
    pub(super) fn busy(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.busy)
    }
}

/// Counts an answer for as long as it is under way.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who asks for an upgrade hears the new process's id, or why there is none.
pub(super) type UpgradeRequest = oneshot::Sender<Result<u32, String>>;

/// What can be done to the gateway as a whole.
pub(super) struct Control {
    reloader: Arc<Reloader>,
    upgrades: mpsc::Sender<UpgradeRequest>,
}

impl Control {
    /// Wishes for an upgrade come out at the receiver.
    pub(super) fn new(reloader: Arc<Reloader>) -> (Self, mpsc::Receiver<UpgradeRequest>) {
        let (upgrades, wishes) = mpsc::channel(1);
        (Control { reloader, upgrades }, wishes)
    }
}

/// Longest time for a write: whoever doesn't read is not waited for.
const WRITE: Duration = Duration::from_secs(10);

/// Serves the admin listener, for ever.
pub(super) async fn serve(listener: TcpListener, admin: Admin, shutdown: watch::Receiver<bool>) {
    let admin = Arc::new(admin);
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (admin, shutdown) = (Arc::clone(&admin), shutdown.clone());
        let place = admin.rooms.wait();
        tokio::spawn(async move { admin.connection(tcp, place, shutdown).await });
    }
}

type Answer = Response<Vec<u8>>;

fn answer(status: StatusCode, content_type: &str, body: Vec<u8>) -> Answer {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    if let Ok(value) = content_type.parse() {
        headers.insert(header::CONTENT_TYPE, value);
    }
    answer
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", value.to_string().into_bytes())
}

fn problem(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "error": { "message": message } }))
}

/// What a request gets.
enum Reply {
    /// An answer.
    Whole(Answer),
    /// The status again and again, as server-sent events.
    Events,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Reply::Whole(answer)
    }
}

impl Admin {
    /// Serves a connection to its end. The guard gives heads and idle connections their deadlines.
    async fn connection(&self, tcp: TcpStream, mut place: Waiting, shutdown: watch::Receiver<bool>) {
        let (clock, metrics) = (&self.gateway.clock, &self.gateway.metrics);
        let server = || {
            let server = &self.gateway.runtime.load().config.server;
            (server.header_timeout, server.keepalive)
        };
        let (head, _) = server();
        let phase = Phase::new(clock.now() + head);
        let guard = Guard::new(Socket::Plain(tcp), None, Arc::clone(&phase), clock.clone(), head, Arc::clone(metrics), false);
        let mut session = ServerSession::new_http1(Box::new(guard));
        loop {
            // No timer of Pingora's: the guard has them.
            session.set_keepalive(Some(0));
            let read = tokio::select! {
                read = session.read_request() => read,
                () = place.must_go() => return,
            };
            if !matches!(read, Ok(true)) {
                return;
            }
            phase.request_begins();
            drop(place);
            session.set_write_timeout(Some(WRITE));
            if *shutdown.borrow() || self.gateway.is_closing() {
                session.set_keepalive(None);
            }
            let Some(stream) = self.serve(session).await else { return };
            place = self.rooms.wait();
            phase.request_ends(clock.now() + server().1);
            session = ServerSession::new_http1(stream);
        }
    }

    /// Answers a request; the connection, if it goes on.
    async fn serve(&self, mut session: ServerSession) -> Option<Stream> {
        let busy = Busy::new(&self.busy);
        let room = self.rooms.enter(self.kind(&session));
        let reply = match &room {
            Some(_) => self.answer(&mut session).await,
            None => problem(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again").into(),
        };
        let answer = match reply {
            Reply::Whole(answer) => answer,
            Reply::Events => {
                // They have a bound of their own.
                drop((busy, room));
                events::send(self, session).await;
                return None;
            }
        };
        let (head, body) = answer.into_parts();
        session.write_response_header(Box::new(head.into())).await.ok()?;
        session.write_response_body(body.into(), true).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings).consume().0)
    }

    /// Whose room a request takes.
    fn kind(&self, session: &ServerSession) -> Whose {
        let refused = || self.refusal(session).is_some();
        match session.req_header().uri.path() {
            "/healthz" | "/readyz" => Whose::Probe,
            "/" => Whose::Stranger,
            _ if refused() => Whose::Stranger,
            "/metrics" => Whose::Probe,
            _ => Whose::Operator,
        }
    }
}

/// The value of a parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
    let value = percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// Paths that take another method.
const KNOWN: [&str; 15] = [
    "/metrics",
    "/api/status",
    "/api/events",
    "/api/usage",
    "/api/limits",
    "/api/keys",
    "/api/pools",
    "/api/config",
    "/api/requests",
    "/api/reload",
    "/api/upgrade",
    "/api/log",
    "/api/drain",
    "/api/undrain",
    "/api/reset",
];

const PATHS: &str = "there is / (the status page), /metrics, /healthz, /readyz, /api/{status,events,pools,usage,limits,keys,config,requests,requests/ID}, \
     and POST /api/{drain,undrain,reset}?backend=NAME[&deployment=NAME], /api/reload, /api/upgrade, /api/log?level=LEVEL";

impl Admin {
    async fn answer(&self, session: &mut ServerSession) -> Reply {
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let query = head.uri.query().unwrap_or("").to_owned();
        // Probes must work without a token, and the page asks for it.
        match path.as_str() {
            "/healthz" => return answer(StatusCode::OK, "text/plain", b"ok\n".to_vec()).into(),
            "/readyz" => return self.readiness().into(),
            "/" if method == Method::GET => return page::page().into(),
            _ => {}
        }
        if let Some(refusal) = self.refusal(session) {
            return refusal.into();
        }
        let ok = |value: Value| Reply::Whole(json_answer(StatusCode::OK, &value));
        match (&method, path.as_str()) {
            (&Method::GET, "/metrics") => {
                let text = self.gateway.metrics.render(self.gateway.runtime.load().members(), self.gateway.clock.now());
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text).into()
            }
            (&Method::GET, "/api/status") => ok(self.status(&parameter(&query, "consumer").unwrap_or_default()).await),
            (&Method::GET, "/api/events") => Reply::Events,
            (&Method::GET, "/api/usage") => self.usage(&query).await.into(),
            (&Method::GET, "/api/limits") => ok(self.limits()),
            (&Method::GET, "/api/keys") => ok(self.keys()),
            (&Method::GET, "/api/pools") => ok(self.pools()),
            (&Method::GET, "/api/config") => ok(self.config()),
            (&Method::GET, "/api/requests") => ok(json!({ "requests": self.gateway.recent.latest(LATEST) })),
            (&Method::GET, path) if path.starts_with("/api/requests/") => self.request(&path["/api/requests/".len()..]).into(),
            (&Method::POST, "/api/reload") => self.reload().await.into(),
            (&Method::POST, "/api/upgrade") => self.upgrade().await.into(),
            (&Method::POST, "/api/log") => log_level(&query).into(),
            (&Method::POST, "/api/drain") => self.for_backend(&query, |target| target.set_drained(true)).into(),
            (&Method::POST, "/api/undrain") => self.for_backend(&query, |target| target.set_drained(false)).into(),
            (&Method::POST, "/api/reset") => self.for_backend(&query, |target| target.reset()).into(),
            (_, path) if KNOWN.contains(&path) => problem(StatusCode::METHOD_NOT_ALLOWED, "GET reads, POST changes").into(),
            _ => problem(StatusCode::NOT_FOUND, PATHS).into(),
        }
    }

    /// Why a request gets nothing.
    fn refusal(&self, session: &ServerSession) -> Option<Answer> {
        if !self.is_allowed(session) {
            return Some(problem(StatusCode::UNAUTHORIZED, "send the admin token as 'Authorization: Bearer'"));
        }
        let head = session.req_header();
        let has_token = self.gateway.runtime.load().config.server.admin_token.is_some();
        if !has_token && !names_an_address(head) {
            let told = "without server.admin_token this listener answers only to an IP address or 'localhost', so that no page whose name was made to mean this machine can ask here";
            return Some(problem(StatusCode::FORBIDDEN, told));
        }
        is_foreign(head).then(|| problem(StatusCode::FORBIDDEN, "a page of another origin can't ask here"))
    }

    /// Why a request went where it went.
    fn request(&self, id: &str) -> Answer {
        match self.gateway.recent.find(id) {
            Some(request) => json_answer(StatusCode::OK, &json!(request)),
            None => problem(StatusCode::NOT_FOUND, "no such request: the latest thousand are remembered, and the access log has all"),
        }
    }
    fn readiness(&self) -> Answer {
        match !self.gateway.is_closing() {
            true => answer(StatusCode::OK, "text/plain", b"ready\n".to_vec()),
            false => answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"draining\n".to_vec()),
        }
    }

    /// What is known of the config.
    fn config(&self) -> Value {
        let status = self.control.reloader.status();
        let rejected = status.rejected.map(|rejected| json!({ "at": rejected.at, "by": rejected.by.label(), "reason": rejected.reason }));
        json!({
            "file": status.source.path, "hash": status.source.hash, "loaded_at": status.loaded_at,
            "loaded_by": status.loaded_by.label(), "needs_restart": status.needs_restart, "rejected": rejected,
        })
    }

    async fn reload(&self) -> Answer {
        match self.control.reloader.reload(By::Api).await {
            Ok(Reloaded { changed, hash, needs_restart }) => {
                let result = if changed { "applied" } else { "unchanged" };
                json_answer(StatusCode::OK, &json!({ "result": result, "hash": hash, "needs_restart": needs_restart }))
            }
            Err(error) => problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        }
    }

    async fn upgrade(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        if self.control.upgrades.try_send(reply).is_err() {
            return problem(StatusCode::CONFLICT, "another process is just taking over, or this one stops");
        }
        match answer.await {
            Ok(Ok(pid)) => json_answer(StatusCode::OK, &json!({ "result": "done", "pid": pid })),
            Ok(Err(reason)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &reason),
            Err(_) => problem(StatusCode::CONFLICT, "this process stops, or was not started as a service: it can't be upgraded"),
        }
    }

    fn is_allowed(&self, session: &ServerSession) -> bool {
        let runtime = self.gateway.runtime.load();
        let Some(token) = &runtime.config.server.admin_token else { return true };
        let given = session.req_header().headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let wanted = spillway_plugins::auth::digest(format!("Bearer {}", token.expose()).as_bytes());
        given.is_some_and(|given| spillway_plugins::auth::digest(given).equals(&wanted))
    }

    /// What may be shown of the keys, and when each was last used since the start.
    fn keys(&self) -> Value {
        let runtime = self.gateway.runtime.load();
        let callers = &runtime.callers;
        let keys: Vec<Value> = callers
            .consumers
            .iter()
            .flat_map(|consumer| consumer.keys.iter().map(move |key| (consumer, key)))
            .map(|(consumer, key)| {
                json!({
                    "consumer": &*consumer.name, "id": identifier(&key.stored), "hint": key.hint, "created": key.created,
                    "not_before": key.validity.not_before, "expires": key.validity.expires, "last_use": callers.keys.last_use(&key.stored),
                })
            })
            .collect();
        json!({ "keys": keys })
    }

    /// What was used; see `ledger::request`.
    async fn usage(&self, query: &str) -> Answer {
        let Some(ledger) = self.gateway.ledger.clone() else {
            return problem(StatusCode::NOT_FOUND, "there is no ledger: set server.state_dir");
        };
        let now = self.gateway.clock.wall().timestamp_millis();
        let query = match request::query(query, now) {
            Ok(query) => query,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match ledger.report(Reader::Operator, query).await {
            Ok(rows) => json_answer(StatusCode::OK, &request::body(&rows)),
            Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }

    /// What is used of every limit now.
    fn limits(&self) -> Value {
        let now = self.gateway.limits.now();
        let scopes: Vec<Value> = self
            .gateway
            .limits
            .all()
            .iter()
            .map(|scope| {
                let snapshot = scope.snapshot(now);
                let limits: serde_json::Map<String, Value> = Kind::ALL
                    .into_iter()
                    .filter_map(|kind| {
                        let (limit, used) = (snapshot.limits[kind as usize]?, snapshot.used[kind as usize]);
                        let told = match kind {
                            Kind::Budget => json!({ "limit": Money(limit).usd(), "used": Money(used).usd() }),
                            _ => json!({ "limit": limit, "used": used }),
                        };
                        Some((kind.label().to_owned(), told))
                    })
                    .collect();
                json!({ "scope": scope.name, "shadow": scope.rules.shadow, "limits": limits })
            })
            .collect();
        json!({ "scopes": scopes })
    }

    fn pools(&self) -> Value {
        let runtime = self.gateway.runtime.load();
        let now = self.gateway.clock.now();
        let pools: Vec<Value> = runtime
            .pools
            .iter()
            .map(|pool| {
                let models: Vec<Value> = pool
                    .models()
                    .iter()
                    .map(|model| json!({ "model": &*model.name, "members": route_snapshot(&model.route, now) }))
                    .collect();
                json!({ "name": &*pool.config.name, "models": models, "last_resort": pool.last_resort.as_ref().map(|mock| &*mock.backend) })
            })
            .collect();
        json!({ "pools": pools })
    }

    /// Does something to all targets of `?backend=` (and `deployment=`).
    fn for_backend(&self, query: &str, act: impl Fn(&crate::balance::target::Target)) -> Answer {
        let Some(backend) = parameter(query, "backend") else { return problem(StatusCode::BAD_REQUEST, "say which with ?backend=NAME") };
        let deployment = parameter(query, "deployment");
        let runtime = self.gateway.runtime.load();
        let mut names = Vec::new();
        for target in runtime
            .targets
            .iter()
            .filter(|target| *target.id.backend == *backend && deployment.as_ref().is_none_or(|name| **name == *target.id.deployment))
        {
            act(target);
            names.push(target.id.to_string());
        }
        match names.is_empty() {
            true => problem(StatusCode::NOT_FOUND, "no such backend or deployment; GET /api/pools lists them"),
            false => json_answer(StatusCode::OK, &json!({ "targets": names })),
        }
    }
}

/// Requests in one answer.
const LATEST: usize = 200;

fn log_level(query: &str) -> Answer {
    match parameter(query, "level") {
        Some(level) if logging::set(&level) => json_answer(StatusCode::OK, &json!({ "level": level })),
        Some(_) => {
            problem(StatusCode::BAD_REQUEST, "no such level: error, warn, info, debug, trace, or a filter such as 'info,spillway=debug'")
        }
        None => problem(StatusCode::BAD_REQUEST, "say which with ?level=debug"),
    }
}

/// Whether the host that is asked for is an address, or `localhost`.
fn names_an_address(head: &RequestHeader) -> bool {
    let host = head.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let name =
        host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or_else(|| host.split(':').next().unwrap_or(""), |(name, _)| name);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

/// Whether a page of another origin asks. Only the status page itself can send the header that changes need.
fn is_foreign(head: &RequestHeader) -> bool {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    // What loads images and the like sends no origin, but says where it is from.
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    if !head.headers.contains_key(header::ORIGIN) {
        return false;
    }
    let (Some(origin), Some(host)) = (text("origin"), text("host")) else { return true };
    let same = origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    let marked = head.method == Method::GET || head.headers.contains_key("x-spillway-admin");
    !(same && marked)
}
