//! What is recorded of persons who sign in and out, and of sessions that an administrator ends: in the log, which an
//! operator can turn off, and in the audit log.

use std::net::SocketAddr;

use pingora::protocols::http::ServerSession;
use serde_json::json;
use tracing::{debug, info, warn};

use super::super::acts::Who;
use super::super::actor::Actor;
use super::super::state::Admin;
use crate::audit::{Act, Outcome};
use crate::config::Role;
use crate::sign_in::{Person, SignInError};

impl Admin {
    /// A person has signed in (`session.begin`) or out (`session.end`, `session.end-all`).
    pub(super) async fn record_session(&self, session: &ServerSession, what: &'static str, person: &Person, role: Role) {
        let peer = peer(session);
        let too_many_groups = person.too_many_groups;
        info!(what, subject = person.subject, role = role.label(), too_many_groups, ?peer, "a person signs in or out");
        // Counted and logged if it fails.
        let _ = self.record(Act::new(person.to_string(), role.label(), peer, what, "")).await;
    }

    /// An administrator has ended sessions: of the person with this subject, or all of them.
    pub(super) async fn record_ended(&self, session: &ServerSession, by: &Actor, subject: Option<&str>, ended: usize) {
        let object = subject.unwrap_or("everybody");
        info!(what = "session.end-others", %by, subject = object, ended, peer = ?peer(session), "sessions are ended");
        let mut act = Who::of(by, session).act("session.end-others", object);
        act.after = json!({ "ended": ended });
        let _ = self.record(act).await;
    }

    /// Somebody could not sign in. What strangers can cause as often as they like is only counted.
    pub(super) async fn record_failure(&self, session: &ServerSession, error: &SignInError) {
        let peer = peer(session);
        match error {
            SignInError::NoRole(token) => {
                warn!(what = "session.begin", subject = token.subject, ?peer, "a person without a role tried to sign in");
                let who = format!("{} ({})", token.subject, token.name);
                let mut act = Act::new(who, "none", peer, "session.begin", "");
                act.outcome = Outcome::Failed(error.label().to_owned());
                let _ = self.record(act).await;
            }
            _ if error.is_strangers() => debug!(result = error.label(), %error, ?peer, "a sign-in failed"),
            _ => warn!(result = error.label(), %error, ?peer, "a sign-in failed"),
        }
    }
}

/// The address that sends a request: the proxy's, if there is one in front.
fn peer(session: &ServerSession) -> Option<SocketAddr> {
    session.client_addr().and_then(|address| address.as_inet()).copied()
}
