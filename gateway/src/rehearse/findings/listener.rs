//! Callers who are not identified.

use super::view::{View, refuses};
use crate::rehearse::finding::{Finding, Severity};

/// Listeners that other machines reach, and callers without a credential.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let Some(at) = view.config.server.listen.iter().position(|address| !address.ip().is_loopback()) else { return bypassed(view) };
    if view.config.plugins.auth.required {
        return Vec::new();
    }
    let text = "Anybody who reaches this address is served, without a credential and without a limit of their own: one caller can use up every \
                quota.";
    let key = view.written(&["plugins.auth.required".to_owned(), format!("server.listen[{at}]")]).to_owned();
    let remedy = "List consumers and set plugins.auth.required = true, or listen on loopback.";
    vec![view.finding("callers-not-identified", Severity::Warning, &key, text, remedy)]
}

/// Limits of consumers that a caller escapes who sends no key.
fn bypassed(view: &View<'_>) -> Vec<Finding> {
    let limited = view.callers().iter().any(|caller| refuses(&caller.limits.rules));
    if view.config.plugins.auth.required || !limited {
        return Vec::new();
    }
    let text = "A request without a key is served, too, and no consumer's limit applies to it.";
    let key = "plugins.auth.required";
    vec![view.finding("callers-not-identified", Severity::Warning, key, text, "Set plugins.auth.required = true.")]
}
