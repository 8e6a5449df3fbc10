//! What is recorded of persons who sign in and out, and of sessions that an administrator ends: in the log, which an
//! operator can turn off, and in the audit log.

use std::net::SocketAddr;

use pingora::protocols::http::ServerSession;
use serde_json::json;
use tracing::{debug, info, warn};

use super::super::actor::Actor;
use super::super::state::Admin;
use crate::audit::{Act, Outcome};
use crate::causes::causes;
use crate::config::Role;
use crate::sign_in::{Person, SignInError};

impl Admin {
    /// A person has signed in (`session.begin`) or out (`session.end`, `session.end-all`).
    pub(super) async fn record_session(&self, session: &ServerSession, what: &'static str, person: &Person, role: Role) {
        let too_many_groups = person.too_many_groups;
        info!(what, subject = person.subject, role = role.label(), too_many_groups, peer = ?peer(session), "a person signs in or out");
        let mut act = Act::new(named(&person.subject, &person.name), role.label(), peer(session), what, "");
        // At a bounded pace: nobody can push out what others have done by signing in again and again.
        act.has_effect = Some(false);
        // Counted and logged if it fails.
        let _ = self.record(act).await;
    }

    /// An administrator has ended sessions: of the person with this subject, or all of them.
    pub(super) async fn record_ended(&self, session: &ServerSession, by: &Actor, subject: Option<&str>, ended: usize) {
        info!(what = "sessions.end", %by, subject = subject.unwrap_or("everybody"), ended, peer = ?peer(session), "sessions are ended");
        let mut act = Act::new(by.to_string(), by.role().label(), peer(session), "sessions.end", subject.unwrap_or("everybody"));
        act.after = json!({ "sessions": ended });
        act.has_effect = Some(ended > 0);
        let _ = self.record(act).await;
    }

    /// Somebody could not sign in. What strangers can cause as often as they like is only counted.
    pub(super) async fn record_failure(&self, session: &ServerSession, error: &SignInError) {
        let peer = peer(session);
        match error {
            SignInError::NoRole(token) => {
                warn!(what = "session.begin", subject = token.subject, ?peer, "a person without a role tried to sign in");
                let mut act = Act::new(named(&token.subject, &token.name), "none", peer, "session.begin", "");
                act.outcome = Outcome::Failed(error.to_string());
                let _ = self.record(act).await;
            }
            _ if error.is_strangers() => debug!(result = error.label(), %error, ?peer, "a sign-in failed"),
            _ => warn!(result = error.label(), error = %causes(error), ?peer, "a sign-in failed"),
        }
    }
}

/// The issuer has ended a session of a person.
pub(super) fn by_issuer(session: &ServerSession, person: &Person, channel: &'static str) -> Act {
    let mut act = Act::new("issuer", "system", peer(session), "session.end-by-issuer", named(&person.subject, &person.name));
    act.after = json!({ "channel": channel });
    act
}

/// A person's name in the audit log.
fn named(subject: &str, name: &str) -> String {
    format!("{subject} ({name})")
}

/// The address that sends a request: the proxy's, if there is one in front.
fn peer(session: &ServerSession) -> Option<SocketAddr> {
    session.client_addr().and_then(|address| address.as_inet()).copied()
}
