//! Changes of the gateway, and of what belongs to others, need a fresh sign-in: a session alone shows only that a browser was
//! left open (OWASP ASVS 5.0, 7.5).

use http::{Method, StatusCode};
use serde_json::json;

use super::actor::{Actor, Role, SignedIn};
use super::answer::json_answer;
use super::refusal::{Reason, Refusal};
use super::state::Admin;

/// Where the browser signs in afresh.
const PATH: &str = "/sign-in?fresh=true";

/// Whether a request that needs at least this role needs a fresh sign-in: what members do is theirs, and looking changes
/// nothing.
fn is_needed(method: &Method, least: Role) -> bool {
    *method != Method::GET && least >= Role::Operator
}

impl Admin {
    /// Why a request is refused whose sender must sign in afresh first; `None` if not. Tokens are sent anew with each request.
    pub(super) fn stale(&self, actor: &Actor, method: &Method, least: Role) -> Option<Box<Refusal>> {
        let Actor::Person(SignedIn { session, .. }) = actor else { return None };
        let sign_in = self.gateway.runtime.load().sign_in.clone().filter(|_| is_needed(method, least))?;
        let most = sign_in.rules.reauthenticate_after?;
        if !sign_in.fresh_for(session, self.gateway.clock.now())?.is_zero() {
            return None;
        }
        let message = format!(
            "this needs a sign-in that is at most {} minutes ago: open {PATH} in the browser, then do it again",
            most.as_secs() / 60
        );
        let answer =
            json_answer(StatusCode::FORBIDDEN, &json!({ "error": { "message": message, "code": "fresh_sign_in", "sign_in": PATH } }));
        Some(Box::new(Refusal { reason: Reason::Stale, answer, known: Some(actor.clone()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_operators_and_administrators_need_it() {
        assert!(is_needed(&Method::POST, Role::Operator) && is_needed(&Method::DELETE, Role::Administrator));
        assert!(!is_needed(&Method::GET, Role::Administrator) && !is_needed(&Method::POST, Role::Member));
    }
}
