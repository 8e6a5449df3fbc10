//! `GET /api/session`: who is signed in, and how somebody can sign in. And the sessions of all, for administrators.

use http::StatusCode;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};

use super::super::answer::{Answer, json_answer, problem};
use super::super::refusal::Reason;
use super::{Actor, Admin, MISSING, cookies};
use crate::clock::millis;
use crate::sign_in::Sessions;

impl Admin {
    /// Who sends this request. Somebody who is not known learns how to sign in.
    pub(super) async fn who(&self, session: &ServerSession) -> Answer {
        let runtime = self.gateway.runtime.load();
        let server = &runtime.config.server;
        let mut who = match self.actor(session) {
            Ok(Actor::Local) => json!({ "actor": "local", "name": null, "role": Actor::Local.role() }),
            Ok(token @ Actor::Token(_)) => json!({ "actor": "token", "name": null, "role": token.role() }),
            Ok(Actor::Person(signed_in)) => {
                let found = &signed_in.session;
                let csrf = cookies::session(session.req_header()).map(Sessions::csrf_of);
                let now = self.gateway.clock.now();
                let fresh_for = runtime.sign_in.as_ref().and_then(|sign_in| sign_in.fresh_for(found, now)).map(millis);
                json!({
                    "actor": "person", "name": found.person.name, "subject": found.person.subject, "role": signed_in.role,
                    "too_many_groups": found.person.too_many_groups, "csrf": csrf, "ends_in_ms": millis(found.ends.since(now)),
                    "fresh_for_ms": fresh_for,
                })
            }
            Err(refusal) if refusal.reason == Reason::Session && refusal.answer.status() == StatusCode::UNAUTHORIZED => {
                json!({ "actor": null, "name": null, "role": null })
            }
            // A wrong token is counted; how to sign in is said all the same.
            Err(refusal) if refusal.reason == Reason::Token => {
                self.refused(session, refusal).await;
                json!({ "actor": null, "name": null, "role": null })
            }
            Err(refusal) => return self.refused(session, refusal).await,
        };
        who["sign_in"] = json!(server.sign_in.is_some());
        who["token"] = json!(server.admin_token.is_some());
        json_answer(StatusCode::OK, &who)
    }

    /// Shows in metrics how many sessions are live.
    pub(in crate::server::admin) fn count_sessions(&self) {
        let sign_in = self.gateway.runtime.load().sign_in.clone();
        let live = sign_in.map_or(0, |sign_in| sign_in.sessions(&self.gateway.sign_in, self.gateway.clock.now()).len());
        self.gateway.metrics.sign_in.sessions.set(i64::try_from(live).unwrap_or(i64::MAX));
    }

    /// All live sessions.
    pub(in crate::server::admin) fn sessions(&self) -> Answer {
        let Some(sign_in) = self.gateway.runtime.load().sign_in.clone() else { return problem(StatusCode::NOT_FOUND, MISSING) };
        let sessions = sign_in.sessions(&self.gateway.sign_in, self.gateway.clock.now());
        let shown: Vec<Value> = sessions
            .iter()
            .map(|session| {
                let (age, idle) = (session.age.as_secs(), session.idle.as_secs());
                json!({ "subject": session.person.subject, "name": session.person.name, "age_s": age, "idle_s": idle })
            })
            .collect();
        json_answer(StatusCode::OK, &json!({ "sessions": shown }))
    }

    /// Ends the sessions of a person, or of everybody.
    pub(in crate::server::admin) async fn end_sessions(&self, session: &ServerSession, by: &Actor, subject: Option<&str>) -> Answer {
        let ended = self.gateway.sign_in.sessions.end_all(subject);
        self.record_ended(session, by, subject, ended).await;
        json_answer(StatusCode::OK, &json!({ "sessions": ended }))
    }
}
