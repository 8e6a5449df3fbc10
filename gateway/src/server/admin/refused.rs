//! What is done with a request that is refused: it is counted by reason, logged at most once a second for each reason, and
//! recorded in the audit log if it is known who sent it.

use pingora::protocols::http::ServerSession;
use tracing::warn;

use super::acts::Who;
use super::answer::Answer;
use super::refusal::{Reason, Refusal};
use super::state::Admin;
use crate::audit::Outcome;

impl Admin {
    /// Counts, logs and records a refusal. Returns the answer.
    pub(super) async fn refused(&self, session: &ServerSession, refusal: Box<Refusal>) -> Answer {
        let Refusal { reason, answer, known } = *refusal;
        self.gateway.metrics.admin.refused(reason.label());
        let head = session.req_header();
        let path: String = head.uri.path().chars().take(100).collect();
        let who = known.as_ref().map(|actor| Who::of(actor, session));
        // A request without a session is how everybody begins.
        if reason != Reason::Session && self.refusals.admits(reason, self.gateway.clock.now()) {
            let peer = session.client_addr().and_then(|address| address.as_inet()).copied();
            let who = who.as_ref().map_or("unknown", |who| &who.name);
            warn!(reason = reason.label(), who, ?peer, method = %head.method, path, "the admin listener has refused a request");
        }
        if let Some(who) = who {
            let mut act = who.act("request.refuse", format!("{} {path}", head.method));
            act.outcome = Outcome::Failed(reason.label().to_owned());
            // Counted and logged if it fails.
            let _ = self.record(act).await;
        }
        answer
    }
}
