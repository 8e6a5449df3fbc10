//! Administrative acts that no request asks for: signals, and a config file that has changed. They are recorded like others.

use serde_json::{Value, json};

use super::handover::predecessor::{HandoverError, TakenOver};
use crate::audit::{Act, Outcome};
use crate::gateway::Gateway;

/// The role of such acts.
const ROLE: &str = "system";

/// `who` has made the gateway re-read its config. Its text had the hash `before`, and has the hash `after` now; `changed` says
/// whether anything has changed.
pub(super) async fn reloaded(gateway: &Gateway, who: &str, [before, after]: [&str; 2], outcome: Outcome, changed: bool) {
    let mut act = Act::new(who, ROLE, None, "config.reload", "");
    act.has_effect = Some(changed);
    (act.before, act.after, act.outcome) = (json!({ "hash": before }), json!({ "hash": after }), outcome);
    // Counted and logged if it fails.
    let _ = gateway.record(&act).await;
}

/// A signal has asked for an upgrade.
pub(super) async fn upgraded(gateway: &Gateway, result: &Result<TakenOver, HandoverError>) {
    let mut act = Act::new("SIGUSR2", ROLE, None, "upgrade", "");
    act.before = json!({ "pid": std::process::id() });
    act.after = result.as_ref().map_or(Value::Null, |taken| json!({ "pid": taken.pid }));
    act.outcome = Outcome::from(result);
    let _ = gateway.record(&act).await;
}
