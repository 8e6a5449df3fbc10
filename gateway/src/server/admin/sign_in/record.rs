//! What is recorded of persons who sign in and out, and of sessions that an administrator ends.

use std::net::SocketAddr;

use pingora::protocols::http::ServerSession;
use tracing::{debug, info, warn};

use super::super::actor::Actor;
use super::super::state::Admin;
use crate::config::Role;
use crate::sign_in::{Person, SignInError};

impl Admin {
    /// A person has signed in (`session.begin`) or out (`session.end`).
    pub(super) async fn record_session(&self, session: &ServerSession, what: &'static str, person: &Person, role: Role) {
        info!(what, subject = person.subject, role = role.label(), peer = ?peer(session), "a person signs in or out");
    }

    /// An administrator has ended sessions: of the person with this subject, or all of them.
    pub(super) async fn record_ended(&self, session: &ServerSession, by: &Actor, subject: Option<&str>, ended: usize) {
        info!(what = "sessions.end", %by, subject = subject.unwrap_or("everybody"), ended, peer = ?peer(session), "sessions are ended");
    }

    /// Somebody could not sign in. What strangers can cause as often as they like is only counted.
    pub(super) async fn record_failure(&self, session: &ServerSession, error: &SignInError) {
        let peer = peer(session);
        match error {
            SignInError::NoRole(token) => {
                warn!(what = "session.begin", subject = token.subject, ?peer, "a person without a role tried to sign in");
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
