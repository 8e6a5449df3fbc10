//! The paths of the admin listener, and their answers.

use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actor::Role;
use super::answer::{AdminReply, Answer, answer, json_answer, problem};
use super::limits;
use super::page;
use super::state::Admin;
use crate::balance::snapshot::route_snapshot;
use crate::config::identifier;
use crate::ledger::{Reader, request};
use crate::server::reload::{By, Reloaded};
use crate::telemetry::logging;

/// The value of a parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
    let value = percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// Paths that only read. For a request with the wrong method.
const GET_PATHS: [&str; 10] = [
    "/metrics",
    "/api/status",
    "/api/events",
    "/api/usage",
    "/api/limits",
    "/api/keys",
    "/api/pools",
    "/api/config",
    "/api/requests",
    "/api/shadow",
];

/// Paths that change the gateway. For a request with the wrong method.
const POST_PATHS: [&str; 6] = ["/api/reload", "/api/upgrade", "/api/log", "/api/drain", "/api/undrain", "/api/reset"];

const PATHS: &str = "known paths: / (the status page), /metrics, /healthz, /readyz, /api/{status,events,pools,usage,limits,keys,config,requests,requests/ID,shadow}, \
     and POST /api/{drain,undrain,reset}?backend=NAME[&deployment=NAME], /api/reload, /api/upgrade, /api/log?level=LEVEL";

/// The least role that may use a path: to look is less than to change.
fn least_role(method: &Method, _path: &str) -> Role {
    if method == Method::GET { Role::Viewer } else { Role::Operator }
}

impl Admin {
    pub(super) async fn answer(&self, session: &mut ServerSession) -> AdminReply {
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let query = head.uri.query().unwrap_or("").to_owned();
        // Probes must work without a token, and the page asks its user for it.
        match path.as_str() {
            "/healthz" => return answer(StatusCode::OK, "text/plain", b"ok\n".to_vec()).into(),
            "/readyz" => return self.readiness().into(),
            "/" if method == Method::GET => return page::page().into(),
            _ => {}
        }
        let role = match self.actor(session) {
            Ok(actor) => actor.role(),
            Err(refusal) => return refusal.into(),
        };
        if role < least_role(&method, &path) {
            return problem(StatusCode::FORBIDDEN, "your role doesn't allow this").into();
        }
        let ok = |value: Value| AdminReply::Whole(json_answer(StatusCode::OK, &value));
        match (&method, path.as_str()) {
            (&Method::GET, "/metrics") => {
                let text = self.gateway.metrics.render(self.gateway.runtime.load().members(), self.gateway.clock.now());
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text).into()
            }
            (&Method::GET, "/api/status") => ok(self.status(&parameter(&query, "consumer").unwrap_or_default()).await),
            (&Method::GET, "/api/events") => AdminReply::Events,
            (&Method::GET, "/api/usage") => self.usage(&query).await.into(),
            (&Method::GET, "/api/limits") => ok(limits::of_all(&self.gateway)),
            (&Method::GET, "/api/keys") => ok(self.keys()),
            (&Method::GET, "/api/pools") => ok(self.pools()),
            (&Method::GET, "/api/config") => ok(self.config()),
            (&Method::GET, "/api/requests") => ok(json!({ "requests": self.gateway.recent.latest(LATEST) })),
            (&Method::GET, "/api/shadow") => self.shadowed().await.into(),
            (&Method::GET, path) if path.starts_with("/api/requests/") => self.request(&path["/api/requests/".len()..]).into(),
            (&Method::POST, "/api/reload") => self.reload().await.into(),
            (&Method::POST, "/api/upgrade") => self.upgrade().await.into(),
            (&Method::POST, "/api/log") => log_level(&query).into(),
            (&Method::POST, "/api/drain") => self.for_backend(&query, |target| target.set_drained(true)).into(),
            (&Method::POST, "/api/undrain") => self.for_backend(&query, |target| target.set_drained(false)).into(),
            (&Method::POST, "/api/reset") => self.for_backend(&query, |target| target.reset()).into(),
            (_, path) if GET_PATHS.contains(&path) => {
                problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes only GET: it shows state and changes nothing").into()
            }
            (_, path) if POST_PATHS.contains(&path) => {
                problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes only POST: it changes the gateway").into()
            }
            _ => problem(StatusCode::NOT_FOUND, PATHS).into(),
        }
    }

    /// Why a request went to a backend.
    fn request(&self, id: &str) -> Answer {
        match self.gateway.recent.find(id) {
            Some(request) => json_answer(StatusCode::OK, &json!(request)),
            None => problem(
                StatusCode::NOT_FOUND,
                "no such request: only the latest requests, about a thousand, are in memory; the access log has all of them",
            ),
        }
    }
    /// What this gateway would have decided for mirrored requests.
    async fn shadowed(&self) -> Answer {
        let Some(shadow) = &self.shadow else {
            return problem(StatusCode::NOT_FOUND, "there is no shadow: set [shadow] with 'listen'");
        };
        match shadow.figures().await {
            Some(figures) => json_answer(StatusCode::OK, &figures),
            None => problem(StatusCode::SERVICE_UNAVAILABLE, "too many mirrored requests wait; try again"),
        }
    }

    fn readiness(&self) -> Answer {
        match !self.gateway.is_closing() {
            true => answer(StatusCode::OK, "text/plain", b"ready\n".to_vec()),
            false => answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"stopping\n".to_vec()),
        }
    }

    /// The state of the config.
    pub(super) fn config(&self) -> Value {
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
            return problem(StatusCode::CONFLICT, "another upgrade is under way, or this process is stopping");
        }
        match answer.await {
            Ok(Ok(pid)) => json_answer(StatusCode::OK, &json!({ "result": "done", "pid": pid })),
            Ok(Err(reason)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &reason),
            Err(_) => problem(StatusCode::CONFLICT, "this process is stopping, or was not started as a service: it can't be upgraded"),
        }
    }

    /// The public part of all keys, and when each was last used since the start.
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

    /// Usage; see `ledger::request`.
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
                    .map(|model| json!({ "model": &*model.name, "members": route_snapshot(model.route.members(), now) }))
                    .collect();
                json!({ "name": &*pool.config.name, "models": models, "last_resort": pool.last_resort.as_ref().map(|mock| &*mock.backend) })
            })
            .collect();
        json!({ "pools": pools })
    }

    /// Calls `act` for all targets of `?backend=` (and `deployment=`).
    fn for_backend(&self, query: &str, act: impl Fn(&crate::balance::target::Target)) -> Answer {
        let Some(backend) = parameter(query, "backend") else {
            return problem(StatusCode::BAD_REQUEST, "the parameter ?backend=NAME is missing");
        };
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
        Some(_) => problem(
            StatusCode::BAD_REQUEST,
            "unknown level; use error, warn, info, debug, trace, or a filter such as 'info,spillway=debug'",
        ),
        None => problem(StatusCode::BAD_REQUEST, "a parameter such as ?level=debug is missing"),
    }
}
