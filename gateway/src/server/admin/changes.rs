//! Changes of the gateway itself: a new config, a new program, the log level, drained deployments. Each is recorded.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::acts::{Who, outcome};
use super::answer::{Answer, json_answer, problem};
use super::parameter::parameter;
use super::state::Admin;
use crate::audit::Act;
use crate::balance::snapshot::target_state;
use crate::balance::target::Target;
use crate::config::LogFilter;
use crate::server::reload::{By, Reloaded};
use crate::telemetry::logging;

/// What is done to the deployments of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendChange {
    /// No new requests.
    Drain,
    /// New requests again.
    Undrain,
    /// Throttle, circuit and outage are cleared.
    Reset,
}

impl BackendChange {
    fn label(self) -> &'static str {
        match self {
            BackendChange::Drain => "backend.drain",
            BackendChange::Undrain => "backend.undrain",
            BackendChange::Reset => "backend.reset",
        }
    }

    fn apply(self, target: &Target) {
        match self {
            BackendChange::Drain => target.set_drained(true),
            BackendChange::Undrain => target.set_drained(false),
            BackendChange::Reset => target.reset(),
        }
    }
}

/// Another process gets this one's state, or has it: a change would be lost.
fn too_late() -> Answer {
    problem(StatusCode::SERVICE_UNAVAILABLE, "another process is taking over: send the request again, on a new connection")
}

impl Admin {
    /// The answer to a change that would be lost, because another process gets this one's state, or has it. Keys are in a file
    /// that both processes use.
    pub(super) fn refusal_if_frozen(&self, method: &Method, path: &str) -> Option<Answer> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let is_kept = path == "/api/upgrade" || (self.gateway.keys.has_file() && (path == "/api/keys" || path.starts_with("/api/keys/")));
        (!reads && !is_kept && self.gateway.is_frozen()).then(too_late)
    }

    /// Records a change with its answer, and returns that. Changes of the gateway happen even if they can't be recorded.
    async fn changed(&self, who: &Who, what: &'static str, object: String, [before, after]: [Value; 2], answer: Answer) -> Answer {
        let mut act = who.act(what, object);
        (act.before, act.after) = (before, after);
        self.changed_by(act, answer).await
    }

    async fn changed_by(&self, mut act: Act, answer: Answer) -> Answer {
        act.outcome = outcome(&answer);
        // Counted and logged if it fails.
        let _ = self.record(act).await;
        answer
    }

    /// `POST /api/reload`
    pub(super) async fn reload(&self, who: &Who) -> Answer {
        let hash = || json!({ "hash": self.control.reloader.status().source.hash });
        let mut act = who.act("config.reload", "");
        act.before = hash();
        let answer = match self.control.reloader.reload(By::Api).await {
            Ok(Reloaded { changed, hash, needs_restart }) => {
                // The hash is the text's: a secret in another file may have changed.
                act.has_effect = Some(changed);
                let result = if changed { "applied" } else { "unchanged" };
                json_answer(StatusCode::OK, &json!({ "result": result, "hash": hash, "needs_restart": needs_restart }))
            }
            Err(error) => problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        };
        act.after = hash();
        self.changed_by(act, answer).await
    }

    /// `POST /api/upgrade`
    pub(super) async fn upgrade(&self, who: &Who) -> Answer {
        let (reply, answer) = oneshot::channel();
        let mut after = Value::Null;
        let answer = if self.control.upgrades.try_send(reply).is_err() {
            problem(StatusCode::CONFLICT, "another upgrade is under way, or this process is stopping")
        } else {
            match answer.await {
                Ok(Ok(pid)) => {
                    after = json!({ "pid": pid });
                    json_answer(StatusCode::OK, &json!({ "result": "done", "pid": pid }))
                }
                Ok(Err(reason)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &reason),
                Err(_) => problem(StatusCode::CONFLICT, "this process is stopping, or was not started as a service: it can't be upgraded"),
            }
        };
        self.changed(who, "upgrade", String::new(), [json!({ "pid": std::process::id() }), after], answer).await
    }

    /// `POST /api/log`
    pub(super) async fn log_level(&self, who: &Who, query: &str) -> Answer {
        let before = logging::current();
        let answer = match parameter(query, "level").map(|level| (LogFilter::parse(&level), level)) {
            Some((Ok(filter), level)) if logging::set(&filter) => json_answer(StatusCode::OK, &json!({ "level": level })),
            Some((Ok(_), _)) => problem(StatusCode::SERVICE_UNAVAILABLE, "this process has no log whose level could be set"),
            Some((Err(error), _)) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
            None => problem(StatusCode::BAD_REQUEST, "a parameter such as ?level=debug is missing"),
        };
        let level = |level: Option<String>| json!({ "level": level });
        self.changed(who, "log.level", String::new(), [level(before), level(logging::current())], answer).await
    }

    /// `POST /api/drain` and the like: for all deployments of `?backend=`, or that of `deployment=`.
    pub(super) async fn for_backend(&self, who: &Who, query: &str, change: BackendChange) -> Answer {
        let backend = parameter(query, "backend").unwrap_or_default();
        let deployment = parameter(query, "deployment");
        let is_meant = |target: &&Arc<Target>| {
            *target.id.backend == *backend && deployment.as_ref().is_none_or(|name| **name == *target.id.deployment)
        };
        let targets: Vec<Arc<Target>> = self.gateway.runtime.load().targets.iter().filter(is_meant).cloned().collect();
        let states = || {
            let now = self.gateway.clock.now();
            let all: serde_json::Map<String, Value> = targets
                .iter()
                .map(|target| {
                    let state = target_state(target, now).label();
                    (target.id.to_string(), json!({ "drained": target.is_drained(), "state": state }))
                })
                .collect();
            if all.is_empty() { Value::Null } else { Value::Object(all) }
        };
        let before = states();
        // While another process gets the state, a change would be in it or not by chance.
        if self.gateway.change(|| targets.iter().for_each(|target| change.apply(target))).is_none() {
            return too_late();
        }
        let names: Vec<String> = targets.iter().map(|target| target.id.to_string()).collect();
        let answer = match (backend.is_empty(), names.is_empty()) {
            (true, _) => problem(StatusCode::BAD_REQUEST, "the parameter ?backend=NAME is missing"),
            (_, true) => problem(StatusCode::NOT_FOUND, "no such backend or deployment; GET /api/pools lists them"),
            _ => json_answer(StatusCode::OK, &json!({ "targets": names })),
        };
        let object = match names.is_empty() {
            // What came from outside isn't repeated: it may be anything.
            true => "(unknown)".to_owned(),
            false => deployment.map_or_else(|| backend.clone(), |deployment| format!("{backend}/{deployment}")),
        };
        self.changed(who, change.label(), object, [before, states()], answer).await
    }
}
