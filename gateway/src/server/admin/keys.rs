//! `/api/keys`: lists the keys of the config and those that were issued, issues, revokes and rotates keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Value, json};
use spillway_plugins::auth::Validity;

use super::actor::Role;
use super::acts::Who;
use super::answer::{Answer, json_answer};
use super::body::{FieldError, Fields, field_problem};
use super::key_acts::KeyActError;
use super::state::Admin;
use crate::config::identifier;
use crate::config::scalar::DurationText;
use crate::issued_keys::{IssueError, Issued, KeyRecord, NewKey, state, when};

/// How long a rotated key is still valid, unless the request says so.
const GRACE: Duration = Duration::from_secs(86_400);
/// The longest such time.
const LONGEST_GRACE: Duration = Duration::from_secs(90 * 86_400);

/// Leaves out who owns, made and revoked a key: that is for administrators.
fn without_persons(mut key: Value) -> Value {
    for name in ["owner", "by", "revoked_by"] {
        key[name] = Value::Null;
    }
    key
}

/// An issued key, as it is shown.
fn shown(key: &KeyRecord, now: i64) -> Value {
    let validity = Validity { not_before: key.not_before, expires: key.expires };
    json!({
        "source": "issued", "consumer": &*key.consumer, "id": &*key.id, "hint": key.hint, "label": key.label, "owner": key.owner,
        "models": key.models.as_deref(), "created": key.created, "by": key.by, "not_before": key.not_before, "expires": key.expires,
        "revoked": key.revoked, "revoked_by": key.revoked_by, "last_use": key.last_use,
        "state": state(validity, key.revoked.is_some(), key.has_consumer, now),
    })
}

/// A key that was just issued: the only answer that has the key itself.
pub(super) fn issued_answer(issued: &Issued, consumer: Option<&str>) -> Answer {
    let Issued { id, key, hint, expires } = issued;
    let value = json!({ "id": id, "key": key.expose(), "hint": hint, "consumer": consumer, "expires": expires });
    json_answer(StatusCode::CREATED, &value)
}

/// The answer to a request for a key that could not be fulfilled.
pub(super) fn refused(error: &KeyActError) -> Answer {
    let status = match error {
        KeyActError::Key(IssueError::NoFolder | IssueError::UnknownKey) => StatusCode::NOT_FOUND,
        KeyActError::Key(IssueError::Ended { .. } | IssueError::Replaced { .. } | IssueError::Full { .. }) => StatusCode::CONFLICT,
        KeyActError::Key(
            IssueError::UnknownConsumer { .. }
            | IssueError::UnknownModel { .. }
            | IssueError::Models { .. }
            | IssueError::Text { .. }
            | IssueError::NeverValid,
        ) => StatusCode::UNPROCESSABLE_ENTITY,
        KeyActError::Key(
            IssueError::NoRandomNumbers | IssueError::NotStored(_) | IssueError::RevokedButNotStored(_) | IssueError::Stopping,
        )
        | KeyActError::Unrecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let field = if let KeyActError::Key(error) = error { error.field() } else { None };
    field_problem(status, field, &error.to_string())
}

/// A time in a body, in seconds since 1970.
pub(super) fn time(fields: &mut Fields, name: &'static str, now: DateTime<Utc>) -> Result<Option<i64>, FieldError> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let wrong = || FieldError::new(name, format!("'{name}' must be a duration such as 90d, or a date such as 2027-01-31"));
    when(&text, now).map(|at| Some(at.timestamp())).ok_or_else(wrong)
}

/// The key that a body asks for.
pub(super) fn new_key(body: &[u8], now: DateTime<Utc>) -> Result<NewKey, FieldError> {
    let mut fields = Fields::parse(body)?;
    let consumer = fields.text("consumer")?.ok_or_else(|| FieldError::new("consumer", "'consumer' is missing: whose key is it?"))?;
    let new = NewKey {
        consumer: consumer.into(),
        label: fields.text("label")?,
        owner: fields.text("owner")?,
        not_before: time(&mut fields, "not_before", now)?,
        expires: time(&mut fields, "expires", now)?,
        models: fields.texts("models")?,
    };
    fields.end("consumer, label, owner, not_before, expires, models")?;
    Ok(new)
}

/// How long the old key is still valid, by the body of a rotation.
pub(super) fn grace(body: &[u8]) -> Result<Duration, FieldError> {
    let mut fields = Fields::parse(body)?;
    let grace = fields.text("grace")?.map(|text| text.parse::<DurationText>().map(|grace| grace.0));
    fields.end("grace")?;
    match grace {
        None => Ok(GRACE),
        Some(Ok(grace)) if grace <= LONGEST_GRACE => Ok(grace),
        Some(_) => Err(FieldError::new("grace", "'grace' must be a duration from 0s to 90d, such as 24h")),
    }
}

impl Admin {
    /// The public part of all keys, and when each was last used since the start. Only administrators see the persons.
    pub(super) fn keys(&self, role: Role) -> Value {
        let runtime = self.gateway.runtime.load();
        let now = self.gateway.clock.wall().timestamp();
        let callers = &runtime.callers;
        let of_config = callers.consumers.iter().flat_map(|consumer| consumer.keys.iter().map(move |key| (consumer, key)));
        let of_config = of_config.map(|(consumer, key)| {
            json!({
                "source": "config", "consumer": &*consumer.name, "id": identifier(&key.stored), "hint": key.hint, "label": null,
                "owner": null, "models": null, "created": key.created, "by": null, "not_before": key.validity.not_before,
                "expires": key.validity.expires, "revoked": null, "revoked_by": null,
                "last_use": callers.keys.last_use(&key.stored), "state": state(key.validity, false, true, now),
            })
        });
        let mut keys: Vec<Value> = of_config.collect();
        keys.extend(self.gateway.keys.list().iter().map(|key| shown(key, now)));
        if role < Role::Administrator {
            keys = keys.into_iter().map(without_persons).collect();
        }
        json!({ "keys": keys })
    }

    /// `POST /api/keys`
    pub(super) async fn post_key(&self, who: &Who, body: &[u8]) -> Answer {
        let new = match new_key(body, self.gateway.clock.wall()) {
            Ok(new) => new,
            Err(error) => return error.answer(StatusCode::BAD_REQUEST),
        };
        let consumer = new.consumer.clone();
        match self.issue_key(who, new).await {
            Ok(issued) => issued_answer(&issued, Some(&consumer)),
            Err(error) => refused(&error),
        }
    }

    /// `POST /api/keys/ID/rotate`
    pub(super) async fn post_rotation(&self, who: &Who, id: &str, body: &[u8]) -> Answer {
        let grace = match grace(body) {
            Ok(grace) => grace,
            Err(error) => return error.answer(StatusCode::BAD_REQUEST),
        };
        match self.rotate_key(who, id, grace).await {
            Ok(issued) => {
                let consumer = self.gateway.keys.find(&issued.id).map(|key| key.consumer);
                issued_answer(&issued, consumer.as_deref())
            }
            Err(error) => refused(&error),
        }
    }

    /// `DELETE /api/keys/ID`
    pub(super) async fn delete_key(&self, who: &Who, id: &str) -> Answer {
        match self.revoke_key(who, id).await {
            Ok(key) => json_answer(StatusCode::OK, &shown(&key, self.gateway.clock.wall().timestamp())),
            Err(error) => refused(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_and_errors_name_the_field() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let new = new_key(br#"{ "consumer": "crm", "label": "ci", "expires": "90d", "models": ["m"] }"#, now).unwrap();
        assert_eq!((&*new.consumer, new.label.as_deref(), new.expires), ("crm", Some("ci"), Some(1_800_000_000 + 90 * 86_400)));
        assert_eq!((new.models, new.owner, new.not_before), (Some(vec!["m".to_owned()]), None, None));
        assert_eq!(new_key(br#"{ "consumer": "crm", "not_before": "2027-01-31" }"#, now).unwrap().not_before, Some(1_801_353_600));
        for (body, field) in [
            ("{}", "consumer"),
            (r#"{ "consumer": 1 }"#, "consumer"),
            (r#"{ "consumer": "crm", "expires": "soon" }"#, "expires"),
            (r#"{ "consumer": "crm", "expires": 90 }"#, "expires"),
            (r#"{ "consumer": "crm", "not_before": "never" }"#, "not_before"),
            (r#"{ "consumer": "crm", "models": "m" }"#, "models"),
            (r#"{ "consumer": "crm", "expiry": "90d" }"#, "expiry"),
        ] {
            let answer = new_key(body.as_bytes(), now).unwrap_err().answer(StatusCode::BAD_REQUEST);
            let error: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(error["error"]["field"], field, "{body}");
        }
        assert_eq!((grace(b""), grace(br#"{ "grace": "0s" }"#)), (Ok(GRACE), Ok(Duration::ZERO)));
        assert!(grace(br#"{ "grace": "91d" }"#).is_err() && grace(br#"{ "grace": "x" }"#).is_err());
    }
}
