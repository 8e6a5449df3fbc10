//! The admin listener: metrics, health, and the state of the pools.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::ServerApp as _;
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use serde_json::{Value, json};
use spillway_plugins::limits::Kind;
use spillway_plugins::prices::Money;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::reload::{By, Reloaded, Reloader};
use crate::balance::snapshot::route_snapshot;
use crate::config::identifier;
use crate::ledger::request;
use crate::proxy::Gateway;

/// Answers on the admin listener.
pub(super) struct Admin {
    pub(super) gateway: Gateway,
    pub(super) control: Control,
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

/// Serves the admin listener, for ever.
pub(super) async fn serve(listener: TcpListener, admin: Admin, shutdown: watch::Receiver<bool>) {
    let app = Arc::new(HttpServer::new_app(admin));
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let stream = Stream::from(tcp);
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        tokio::spawn(async move {
            app.process_new(Box::new(stream), &shutdown).await;
        });
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

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Answer {
        session.set_keepalive(Some(60));
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let query = head.uri.query().unwrap_or("").to_owned();
        // Probes must work without a token.
        match path.as_str() {
            "/healthz" => return answer(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            "/readyz" => return self.readiness(),
            _ => {}
        }
        if !self.is_allowed(session) {
            return problem(StatusCode::UNAUTHORIZED, "send the admin token as 'Authorization: Bearer'");
        }
        // A page in a browser must not be able to change anything here.
        if method == Method::POST && session.req_header().headers.contains_key(header::ORIGIN) {
            return problem(StatusCode::FORBIDDEN, "cross-origin requests are not allowed");
        }
        match (&method, path.as_str()) {
            (&Method::GET, "/metrics") => {
                let text = self.gateway.metrics.render(self.gateway.runtime.load().members(), self.gateway.clock.now());
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            (&Method::GET, "/api/usage") => self.usage(&query).await,
            (&Method::GET, "/api/limits") => json_answer(StatusCode::OK, &self.limits()),
            (&Method::GET, "/api/keys") => json_answer(StatusCode::OK, &self.keys()),
            (&Method::GET, "/api/pools") => json_answer(StatusCode::OK, &self.pools()),
            (&Method::GET, "/api/config") => json_answer(StatusCode::OK, &self.config()),
            (&Method::POST, "/api/reload") => self.reload().await,
            (&Method::POST, "/api/upgrade") => self.upgrade().await,
            (&Method::POST, "/api/drain") => self.for_backend(&query, |target| target.set_drained(true)),
            (&Method::POST, "/api/undrain") => self.for_backend(&query, |target| target.set_drained(false)),
            (&Method::POST, "/api/reset") => self.for_backend(&query, |target| target.reset()),
            (
                _,
                "/metrics" | "/api/config" | "/api/reload" | "/api/upgrade" | "/api/keys" | "/api/pools" | "/api/usage" | "/api/limits"
                | "/api/drain" | "/api/undrain" | "/api/reset",
            ) => problem(StatusCode::METHOD_NOT_ALLOWED, "GET reads, POST changes"),
            _ => problem(
                StatusCode::NOT_FOUND,
                "there is /metrics, /healthz, /readyz, /api/pools, /api/usage, /api/limits, /api/keys, and POST /api/{drain,undrain,reset}?backend=NAME[&deployment=NAME]",
            ),
        }
    }
}

impl Admin {
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
        match ledger.report(query).await {
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
        let parameter =
            |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty());
        let Some(backend) = parameter("backend") else { return problem(StatusCode::BAD_REQUEST, "say which with ?backend=NAME") };
        let deployment = parameter("deployment");
        let runtime = self.gateway.runtime.load();
        let mut names = Vec::new();
        for target in runtime
            .targets
            .iter()
            .filter(|target| &*target.id.backend == backend && deployment.is_none_or(|name| name == &*target.id.deployment))
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
