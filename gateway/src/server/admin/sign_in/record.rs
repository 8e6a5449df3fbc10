//! What is recorded of sign-ins: in the log, and through here in whatever else records administrative acts.

use pingora::protocols::http::ServerSession;
use tracing::{debug, info, warn};

use super::super::state::Admin;
use crate::config::Role;
use crate::sign_in::{Person, SignInError};

/// A person signs in or out, or an administrator ends sessions.
pub(super) struct SignInAct<'a> {
    /// Its name.
    pub(super) what: &'static str,
    /// Who does it.
    pub(super) who: &'a Person,
    /// What the person may do; `None` for a person without a role.
    pub(super) role: Option<Role>,
    /// `ok`, or why it failed: a label of [`SignInError`].
    pub(super) result: &'static str,
}

impl Admin {
    /// Records that a person signs in or out.
    pub(super) fn record_sign_in(&self, session: &ServerSession, act: &SignInAct<'_>) {
        let role = act.role.map_or("none", Role::label);
        info!(what = act.what, subject = act.who.subject, role, result = act.result, peer = peer(session), "sign-in");
    }

    /// Records that somebody could not sign in.
    pub(super) fn record_failure(&self, session: &ServerSession, error: &SignInError) {
        let peer = peer(session);
        match error {
            SignInError::NoRole(token) => {
                warn!(result = error.label(), subject = token.subject, peer, "a person without a role tried to sign in");
            }
            // Anybody can cause these as often as it likes.
            _ if error.is_strangers() => debug!(result = error.label(), %error, peer, "a sign-in failed"),
            _ => warn!(result = error.label(), %error, peer, "a sign-in failed"),
        }
    }
}

/// The address that sends a request: the proxy's, if there is one in front.
fn peer(session: &ServerSession) -> String {
    session.client_addr().map_or_else(|| "unknown".to_owned(), ToString::to_string)
}
