//! Owners make, rotate and revoke the keys of their consumers.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answer::{Answer, json_answer, problem};
use super::super::state::Admin;
use super::policy::{self, Refused};
use super::{Asker, models};
use crate::audit::{Act, Outcome};
use crate::callers::LiveConsumer;
use crate::config::{IssuedKeyRules, identifier};
use crate::issued_keys::{IssueError, Issued, KeyRecord, NewKey};
use crate::runtime::Runtime;

/// The body of `POST /api/me/keys`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Make {
    consumer: String,
    label: Option<String>,
    /// A duration or a time; without it, as long as allowed.
    expires: Option<String>,
    models: Option<Vec<String>>,
}

/// The body of `POST /api/me/keys/ID/rotate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    /// How long the old key stays valid. Default `0s`.
    grace: Option<String>,
}

impl Admin {
    /// Makes a key for a consumer that the asker owns.
    pub(super) async fn make_own_key(&self, asker: &Asker<'_>, body: Make) -> Answer {
        let runtime = self.gateway.runtime.load_full();
        let Some(consumer) = owned(&runtime, asker, &body.consumer) else { return refused(&Refused::NotYourConsumer) };
        // Counted and made in one step: two requests at once can't make more than allowed.
        let _one = self.making.lock().await;
        let now = self.gateway.clock.wall().timestamp();
        let new = match self.new_key(asker, consumer, body, now) {
            Ok(new) => new,
            Err(reason) => return refused(&reason),
        };
        let after = json!({ "consumer": *new.consumer, "label": new.label, "expires": new.expires, "models": new.models });
        let issued = self.gateway.keys.issue(new, &asker.who).await;
        let act = asker.act("key.issue", issued.as_ref().map_or("", |issued| &issued.id), Value::Null, after, Outcome::from(&issued));
        self.answer_with_key(asker, issued, &act).await
    }

    fn new_key(&self, asker: &Asker<'_>, consumer: &LiveConsumer, body: Make, now: i64) -> Result<NewKey, Refused> {
        let (name, rules) = (&*consumer.name, &consumer.issued_keys);
        if !models::works_with_keys(consumer) {
            return Err(Refused::TokensOnly { consumer: name.to_owned() });
        }
        let expires = policy::expiry(name, body.expires.as_deref(), rules, now)?;
        let keys = self.keys_of(consumer);
        policy::may_make(name, policy::valid(&keys, now), rules)?;
        policy::may_store(name, keys.len(), rules)?;
        let (consumer, owner) = (Arc::clone(&consumer.name), Some(asker.owner()));
        Ok(NewKey { consumer, label: body.label, owner, not_before: None, expires: Some(expires), models: body.models })
    }

    /// Makes a key in the place of another one.
    pub(super) async fn rotate_own_key(&self, asker: &Asker<'_>, id: &str, body: &Rotate) -> Answer {
        let runtime = self.gateway.runtime.load_full();
        let _one = self.making.lock().await;
        let Some((key, consumer)) = self.owned_key(&runtime, asker, id) else { return refused(&Refused::NotYourKey) };
        let now = self.gateway.clock.wall().timestamp();
        let keys = self.keys_of(consumer);
        if let Err(reason) = policy::may_store(&consumer.name, keys.len(), &consumer.issued_keys) {
            return refused(&reason);
        }
        let valid = policy::valid(&keys, now);
        let grace = match policy::may_rotate(&key, body.grace.as_deref(), valid, &consumer.issued_keys) {
            Ok(grace) => grace,
            Err(reason) => return refused(&reason),
        };
        let issued = self.gateway.keys.rotate(id, grace, &asker.who).await;
        let after = json!({
            "consumer": *key.consumer, "new": issued.as_ref().ok().map(|issued| &issued.id), "grace_s": grace.as_secs(),
        });
        let act = asker.act("key.rotate", id, json!({ "expires": key.expires }), after, Outcome::from(&issued));
        self.answer_with_key(asker, issued, &act).await
    }

    /// Revokes a key, at once.
    pub(super) async fn revoke_own_key(&self, asker: &Asker<'_>, id: &str) -> Answer {
        let runtime = self.gateway.runtime.load_full();
        let Some((key, _)) = self.owned_key(&runtime, asker, id) else { return refused(&Refused::NotYourKey) };
        let revoked = self.gateway.keys.revoke(id, &asker.who).await;
        let before = json!({ "consumer": *key.consumer, "revoked": key.revoked });
        let after = json!({ "revoked": revoked.as_ref().ok().and_then(|key| key.revoked) });
        let act = asker.act("key.revoke", id, before, after, Outcome::from(&revoked));
        let recorded = self.gateway.record(&act).await;
        match (revoked, recorded) {
            (Err(error), _) => failed(&error),
            (Ok(_), Err(error)) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the key is revoked, but {error}")),
            (Ok(key), Ok(())) => json_answer(StatusCode::OK, &json!({ "id": key.id, "revoked": key.revoked })),
        }
    }

    /// The answer that shows a new key, the only time. A key whose making can't be recorded is not given out.
    async fn answer_with_key(&self, asker: &Asker<'_>, issued: Result<Issued, IssueError>, act: &Act) -> Answer {
        let recorded = self.gateway.record(act).await;
        let issued = match issued {
            Ok(issued) => issued,
            Err(error) => return failed(&error),
        };
        if let Err(error) = recorded {
            let revoked = self.gateway.keys.revoke(&issued.id, &asker.who).await;
            let rest = revoked.err().map_or_else(String::new, |error| format!("; {error}"));
            return problem(StatusCode::SERVICE_UNAVAILABLE, &format!("no key was made, because {error}{rest}"));
        }
        let shown = json!({ "id": issued.id, "key": issued.key.expose(), "hint": issued.hint, "expires": issued.expires });
        json_answer(StatusCode::CREATED, &shown)
    }

    /// The key with this id, and its consumer, if the asker owns that.
    fn owned_key<'r>(&self, runtime: &'r Runtime, asker: &Asker<'_>, id: &str) -> Option<(KeyRecord, &'r Arc<LiveConsumer>)> {
        let key = self.gateway.keys.find(id)?;
        let consumer = owned(runtime, asker, &key.consumer)?;
        Some((key, consumer))
    }

    fn keys_of(&self, consumer: &LiveConsumer) -> Vec<KeyRecord> {
        self.gateway.keys.list().into_iter().filter(|key| key.consumer == consumer.name).collect()
    }

    /// The keys of a consumer among `all` issued ones, and those of the config, and how many more its owners may make. No
    /// secrets.
    pub(super) fn keys_shown(&self, runtime: &Runtime, consumer: &LiveConsumer, all: &[KeyRecord]) -> (Vec<Value>, Value) {
        let now = self.gateway.clock.wall().timestamp();
        let issued: Vec<&KeyRecord> = all.iter().filter(|key| key.consumer == consumer.name).collect();
        let of_config = consumer.keys.iter().map(|key| {
            json!({
                "id": identifier(&key.stored), "from": "config", "label": null, "owner": null, "hint": key.hint, "models": null,
                "created": key.created, "not_before": key.validity.not_before, "expires": key.validity.expires, "replaced": false,
                "revoked": null, "last_use": runtime.callers.keys.last_use(&key.stored),
            })
        });
        let of_store = issued.iter().map(|key| {
            json!({
                "id": key.id, "from": "issued", "label": key.label, "owner": key.owner, "hint": key.hint, "models": key.models,
                "created": key.created, "not_before": key.not_before, "expires": key.expires, "replaced": key.replaced,
                "revoked": key.revoked, "last_use": key.last_use,
            })
        });
        let shown = of_store.chain(of_config).collect();
        let IssuedKeyRules { max, max_lifetime } = consumer.issued_keys;
        let why = match () {
            () if !models::works_with_keys(consumer) => Some("It accepts only tokens, because it needs roles or scopes."),
            () if runtime.config.server.state_dir.is_none() => Some("This gateway has no folder to store keys in."),
            () => None,
        };
        let valid = policy::valid(issued, now).counted;
        let making = json!({ "possible": why.is_none(), "why": why, "max": max, "valid": valid, "max_lifetime_s": max_lifetime.as_secs() });
        (shown, making)
    }
}

/// The consumer of this name, if the asker owns it.
fn owned<'r>(runtime: &'r Runtime, asker: &Asker<'_>, name: &str) -> Option<&'r Arc<LiveConsumer>> {
    let index = runtime.config.consumers.iter().position(|consumer| *consumer.name == *name)?;
    runtime.config.owns_consumer(&asker.names, index).then(|| runtime.callers.consumers.get(index))?
}

fn refused(reason: &Refused) -> Answer {
    problem_of(reason.status(), &reason.to_string(), reason.field())
}

fn failed(error: &IssueError) -> Answer {
    let status = match error {
        IssueError::UnknownKey { .. } | IssueError::NoFolder => StatusCode::NOT_FOUND,
        IssueError::UnknownConsumer { .. }
        | IssueError::UnknownModel { .. }
        | IssueError::Models { .. }
        | IssueError::Text { .. }
        | IssueError::NeverValid => StatusCode::BAD_REQUEST,
        IssueError::Ended { .. } | IssueError::Replaced { .. } => StatusCode::CONFLICT,
        IssueError::RevokedButNotStored(_) => StatusCode::INTERNAL_SERVER_ERROR,
        IssueError::Full { .. } | IssueError::NoRandomNumbers | IssueError::NotStored(_) | IssueError::Stopping => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    problem_of(status, &error.to_string(), error.field())
}

/// An error that names the field of the request that is at fault.
fn problem_of(status: StatusCode, message: &str, field: Option<&str>) -> Answer {
    json_answer(status, &json!({ "error": { "message": message, "field": field } }))
}

impl Asker<'_> {
    /// Who they are, for the key: a subject is unique only at its issuer.
    fn owner(&self) -> String {
        format!("{} at {}", self.names.subject, self.issuer)
    }

    fn act(&self, what: &'static str, object: &str, before: Value, after: Value, outcome: Outcome) -> Act {
        let peer: Option<SocketAddr> = self.peer;
        Act { before, after, outcome, ..Act::new(self.who.clone(), self.role.label(), peer, what, object) }
    }
}
