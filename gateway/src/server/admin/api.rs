//! The paths of the admin listener, and their answers.

use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};

use super::actor::Role;
use super::acts::Who;
use super::answer::{AdminReply, Answer, answer, json_answer, problem};
use super::changes::BackendChange;
use super::limits;
use super::parameter::parameter;
use super::refusal::Refusal;
use super::state::Admin;
use super::surface::{self, Surface};
use super::{body, page};
use crate::balance::snapshot::route_snapshot;
use crate::ledger::{Reader, request};

/// Paths that only read. For a request with the wrong method.
const GET_PATHS: [&str; 11] = [
    "/metrics",
    "/api/status",
    "/api/events",
    "/api/usage",
    "/api/limits",
    "/api/audit",
    "/api/pools",
    "/api/config",
    "/api/requests",
    "/api/shadow",
    "/api/sessions",
];

/// Paths that change the gateway. For a request with the wrong method.
const POST_PATHS: [&str; 7] = ["/api/reload", "/api/upgrade", "/api/log", "/api/drain", "/api/undrain", "/api/reset", "/api/sessions/end"];

const PATHS: &str = "known paths: / (the status page), /metrics, /healthz, /readyz, /api/{status,events,pools,usage,limits,keys,audit,config,requests,requests/ID,shadow,session,sessions}, \
     and POST /api/{drain,undrain,reset}?backend=NAME[&deployment=NAME], /api/reload, /api/upgrade, /api/log?level=LEVEL, \
     /api/sessions/end?subject=SUBJECT (or ?all=true), /api/keys, /api/keys/ID/rotate, and DELETE /api/keys/ID";

/// The least role that may use a path: to look is less than to change, and to change the process or what others may do is
/// more.
fn least_role(method: &Method, path: &str) -> Role {
    let is_below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let reads = method == Method::GET;
    match path {
        _ if is_below("/api/me") => Role::Member,
        _ if is_below("/api/audit") || is_below("/api/sessions") || is_below("/api/upgrade") => Role::Administrator,
        _ if is_below("/api/keys") && !reads => Role::Administrator,
        _ if reads => Role::Viewer,
        _ => Role::Operator,
    }
}

/// The id in `/api/keys/ID`, and what follows it.
fn key_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/api/keys/")?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

impl Admin {
    pub(super) async fn answer(&self, session: &mut ServerSession, surface: Surface) -> AdminReply {
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let query = head.uri.query().unwrap_or("").to_owned();
        if let Some(answer) = surface.other_answer(head) {
            return answer.into();
        }
        if let Some(refusal) = surface.refusal(head) {
            return self.refused(session, refusal).await.into();
        }
        // Probes must work without a token, and the page asks its user for it.
        match path.as_str() {
            surface::PAGE if method == Method::GET => return self.own_page().into(),
            "/healthz" => return answer(StatusCode::OK, "text/plain", b"ok\n".to_vec()).into(),
            "/readyz" => return self.readiness().into(),
            "/" if method == Method::GET => return page::page().into(),
            _ => {}
        }
        if let Some(answer) = self.sign_in_answer(session, surface, |name| parameter(&query, name)).await {
            return answer.into();
        }
        if let Some(answer) = self.issuer_logout(session, &method, &path, |name| parameter(&query, name)).await {
            return answer.into();
        }
        let actor = match self.actor(session) {
            Ok(actor) => actor,
            Err(refusal) => return self.not_let_in(session, refusal).await.into(),
        };
        let least = least_role(&method, &path);
        if actor.role() < least {
            return self.refused(session, Refusal::role(&actor, least)).await.into();
        }
        if let Some(refusal) = self.stale(&actor, &method, least) {
            return self.refused(session, refusal).await.into();
        }
        let who = Who::of(&actor, session);
        if surface::is_own_api(&path) {
            return self.own(session, &actor, &who, surface).await.into();
        }
        if let Some(refusal) = self.refusal_if_frozen(&method, &path) {
            return refusal.into();
        }
        let ok = |value: Value| AdminReply::Whole(json_answer(StatusCode::OK, &value));
        match (&method, path.as_str()) {
            (&Method::GET, "/metrics") => {
                self.count_sessions();
                let text = self.gateway.metrics.render(self.gateway.runtime.load().members(), self.gateway.clock.now());
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text).into()
            }
            (&Method::GET, "/api/status") => ok(self.status(&parameter(&query, "consumer").unwrap_or_default()).await),
            (&Method::GET, "/api/events") => AdminReply::Events(actor),
            (&Method::GET, "/api/usage") => self.usage(&query).await.into(),
            (&Method::GET, "/api/limits") => self.limits(&query).into(),
            (&Method::GET, "/api/keys") => ok(self.keys(actor.role())),
            (&Method::GET, "/api/pools") => ok(self.pools()),
            (&Method::GET, "/api/config") => ok(self.config()),
            (&Method::GET, "/api/requests") => ok(json!({ "requests": self.gateway.recent.latest(LATEST) })),
            (&Method::GET, "/api/shadow") => self.shadowed().await.into(),
            (&Method::GET, "/api/sessions") => self.sessions().into(),
            (&Method::POST, "/api/sessions/end") => match (parameter(&query, "subject"), parameter(&query, "all")) {
                (Some(subject), None) => self.end_sessions(session, &actor, Some(&subject)).await.into(),
                (None, Some(all)) if all == "true" => self.end_sessions(session, &actor, None).await.into(),
                _ => problem(StatusCode::BAD_REQUEST, "name whose sessions end: ?subject=SUBJECT, or ?all=true").into(),
            },
            (&Method::GET, path) if path.starts_with("/api/requests/") => self.request(&path["/api/requests/".len()..]).into(),
            (&Method::GET, "/api/audit") => self.audit(&query).await.into(),
            (&Method::POST, "/api/reload") => self.reload(&who).await.into(),
            (&Method::POST, "/api/upgrade") => self.upgrade(&who).await.into(),
            (&Method::POST, "/api/log") => self.log_level(&who, &query).await.into(),
            (&Method::POST, "/api/drain") => self.for_backend(&who, &query, BackendChange::Drain).await.into(),
            (&Method::POST, "/api/undrain") => self.for_backend(&who, &query, BackendChange::Undrain).await.into(),
            (&Method::POST, "/api/reset") => self.for_backend(&who, &query, BackendChange::Reset).await.into(),
            (_, path) if path == "/api/keys" || key_path(path).is_some() => self.change_keys(&who, session, &method, path).await.into(),
            (_, path) if GET_PATHS.contains(&path) => {
                problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes only GET: it shows state and changes nothing").into()
            }
            (_, path) if POST_PATHS.contains(&path) => {
                problem(StatusCode::METHOD_NOT_ALLOWED, "this path takes only POST: it changes the gateway").into()
            }
            _ => problem(StatusCode::NOT_FOUND, PATHS).into(),
        }
    }

    /// The use of all limits; with `?rows=` or `?search=` of the fullest ones.
    fn limits(&self, query: &str) -> Answer {
        let search = parameter(query, "search");
        let rows = match (parameter(query, "rows"), &search) {
            (Some(rows), _) => rows.parse(),
            (None, Some(_)) => Ok(limits::MOST_ROWS),
            (None, None) => return json_answer(StatusCode::OK, &limits::of_all(&self.gateway)),
        };
        match rows {
            Ok(rows @ 1..=limits::MOST_ROWS) => {
                json_answer(StatusCode::OK, &limits::fullest(&self.gateway, &search.unwrap_or_default(), rows))
            }
            _ => problem(StatusCode::BAD_REQUEST, "'rows' must be a number from 1 to 100"),
        }
    }

    /// Issues, rotates or revokes a key.
    async fn change_keys(&self, who: &Who, session: &mut ServerSession, method: &Method, path: &str) -> Answer {
        match (method, key_path(path)) {
            (&Method::DELETE, Some((id, ""))) => self.delete_key(who, id).await,
            (&Method::POST, None | Some((_, "rotate"))) => {
                let body = match body::read(session, &self.gateway.clock).await {
                    Ok(body) => body,
                    Err(refusal) => return refusal,
                };
                match key_path(path) {
                    Some((id, _)) => self.post_rotation(who, id, &body).await,
                    None => self.post_key(who, &body).await,
                }
            }
            _ => problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "keys take GET /api/keys, POST /api/keys, POST /api/keys/ID/rotate and DELETE /api/keys/ID",
            ),
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

    /// Usage; see `ledger::request`.
    async fn usage(&self, query: &str) -> Answer {
        let Some(ledger) = self.gateway.ledger.clone() else {
            return problem(StatusCode::NOT_FOUND, "there is no ledger: set server.state_dir");
        };
        let now = self.gateway.clock.wall_millis();
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
}

/// Requests in one answer.
const LATEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_needs_a_role_also_one_that_is_added_later() {
        for (method, path, role) in [
            (Method::GET, "/api/me", Role::Member),
            (Method::POST, "/api/me/keys", Role::Member),
            (Method::GET, "/api/meta", Role::Viewer),
            (Method::GET, "/api/status", Role::Viewer),
            (Method::GET, "/api/keys", Role::Viewer),
            (Method::POST, "/api/keys", Role::Administrator),
            (Method::DELETE, "/api/keys/id", Role::Administrator),
            (Method::GET, "/api/audit", Role::Administrator),
            (Method::GET, "/api/sessions", Role::Administrator),
            (Method::POST, "/api/sessions/end", Role::Administrator),
            (Method::POST, "/api/upgrade", Role::Administrator),
            (Method::POST, "/api/upgrade/now", Role::Administrator),
            (Method::POST, "/api/drain", Role::Operator),
            (Method::POST, "/api/something", Role::Operator),
            (Method::DELETE, "/", Role::Operator),
            (Method::HEAD, "/api/status", Role::Operator),
        ] {
            assert_eq!(least_role(&method, path), role, "{method} {path}");
        }
    }
}
