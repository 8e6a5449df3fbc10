//! Issues, revokes and rotates keys, and records it.
//!
//! A key is recorded before it is handed out: one that can't be is revoked at once, and nobody gets it. A revocation
//! doesn't wait for the record: access must end even if the disk is full.

use std::time::Duration;

use serde_json::{Value, json};

use super::acts::Who;
use super::state::Admin;
use crate::audit::{AuditError, Outcome};
use crate::issued_keys::{IssueError, Issued, KeyRecord, NewKey};

/// Why a key is not issued or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyActError {
    /// The key.
    #[error("{0}")]
    Key(#[from] IssueError),
    /// It can't be recorded.
    #[error("no key is issued: {0}")]
    Unrecorded(#[from] AuditError),
}

/// What the audit log says of a key.
fn shown(key: &KeyRecord) -> Value {
    json!({
        "consumer": &*key.consumer, "label": key.label, "owner": key.owner, "models": key.models.as_deref(), "hint": key.hint,
        "not_before": key.not_before, "expires": key.expires, "revoked": key.revoked,
    })
}

/// The id of a key, for the record. One that is unknown isn't repeated: somebody may have sent the key itself.
fn known_id(key: Option<&KeyRecord>) -> String {
    key.map_or_else(|| "(unknown)".to_owned(), |key| key.id.to_string())
}

impl Admin {
    /// Issues a key.
    pub(super) async fn issue_key(&self, who: &Who, new: NewKey) -> Result<Issued, KeyActError> {
        let keys = &self.gateway.keys;
        let asked = json!({ "consumer": &*new.consumer, "label": new.label, "owner": new.owner, "models": new.models });
        let issued = keys.issue(new, &who.name).await;
        self.recorded(who, "key.issue", None, asked, issued).await
    }

    /// Issues a key in the place of another one, which is valid for another `grace`.
    pub(super) async fn rotate_key(&self, who: &Who, id: &str, grace: Duration) -> Result<Issued, KeyActError> {
        let keys = &self.gateway.keys;
        let before = keys.find(id);
        let issued = keys.rotate(id, grace, &who.name).await;
        let old = before.as_ref().map_or(Value::Null, shown);
        self.recorded(who, "key.rotate", Some(&known_id(before.as_ref())), old, issued).await
    }

    /// Records that a key was issued, in the place of another one (`old`) or not; if that isn't possible, revokes it.
    async fn recorded(
        &self,
        who: &Who,
        what: &'static str,
        old: Option<&str>,
        before: Value,
        issued: Result<Issued, IssueError>,
    ) -> Result<Issued, KeyActError> {
        let keys = &self.gateway.keys;
        let id = issued.as_ref().ok().map(|issued| issued.id.clone());
        let mut act = who.act(what, old.or(id.as_deref()).unwrap_or_default());
        act.outcome = Outcome::from(&issued);
        match &issued {
            Ok(issued) => {
                act.after = keys.find(&issued.id).as_ref().map_or(Value::Null, shown);
                if let Some(old) = old {
                    act.before = before;
                    act.after["id"] = json!(issued.id);
                    act.after["old_expires"] = json!(keys.find(old).and_then(|old| old.expires));
                }
            }
            // What was asked for.
            Err(_) => act.after = before,
        }
        let recorded = self.record(act).await;
        match (issued, recorded) {
            (Ok(issued), Ok(())) => Ok(issued),
            (Ok(issued), Err(error)) => {
                // Nobody has seen it yet. If it can't be stored that it is revoked, it is still a key that nobody has.
                let _ = keys.revoke(&issued.id, "audit log").await;
                Err(error.into())
            }
            // Nothing has happened: it is enough that the record is counted as lost.
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Revokes a key. It is revoked even if that can't be recorded.
    pub(super) async fn revoke_key(&self, who: &Who, id: &str) -> Result<KeyRecord, KeyActError> {
        let keys = &self.gateway.keys;
        let before = keys.find(id);
        let revoked = keys.revoke(id, &who.name).await;
        let mut act = who.act("key.revoke", known_id(before.as_ref()));
        act.before = before.as_ref().map_or(Value::Null, shown);
        let after = keys.find(id);
        act.after = after.as_ref().map_or(Value::Null, shown);
        act.outcome = Outcome::from(&revoked);
        // It may be revoked although that can't be stored.
        act.has_effect = Some(act.before != act.after);
        if let Some(key) = after.filter(|key| key.revoked.is_some()) {
            act.after["last_use"] = json!(key.last_use);
        }
        // Counted and logged if it fails.
        let _ = self.record(act).await;
        Ok(revoked?)
    }
}
