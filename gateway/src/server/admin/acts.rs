//! Records administrative acts.

use std::net::SocketAddr;

use http::StatusCode;
use pingora::protocols::http::ServerSession;
use serde_json::Value;

use super::actor::Actor;
use super::answer::Answer;
use super::state::Admin;
use crate::audit::{Act, AuditError, Outcome};

/// Who does something, as the audit log names it.
#[derive(Debug, Clone)]
pub(super) struct Who {
    /// A person, or `admin token`, or `local`.
    pub(super) name: String,
    role: &'static str,
    peer: Option<SocketAddr>,
}

impl Who {
    /// The sender of a request.
    pub(super) fn of(actor: &Actor, session: &ServerSession) -> Self {
        let peer = session.client_addr().and_then(|peer| peer.as_inet().copied());
        Who { name: actor.to_string(), role: actor.role().label(), peer }
    }

    /// Something that it does.
    pub(super) fn act(&self, what: &'static str, object: impl Into<String>) -> Act {
        Act::new(self.name.clone(), self.role, self.peer, what, object)
    }
}

/// How an act with this answer ended.
pub(super) fn outcome(answer: &Answer) -> Outcome {
    if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
        return Outcome::Done;
    }
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    Outcome::Failed(body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

impl Admin {
    /// Records an act. If that isn't possible, it is counted and logged.
    ///
    /// # Errors
    /// [`AuditError`], for acts that must not happen unrecorded.
    pub(super) async fn record(&self, act: Act) -> Result<(), AuditError> {
        self.gateway.record(&act).await
    }
}
