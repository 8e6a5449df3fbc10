//! Owners make, rotate and revoke the keys of their consumers.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::acts::Who;
use super::super::answer::{Answer, json_answer};
use super::super::body::{FieldError, field_problem};
use super::super::keys::{self, issued_answer};
use super::super::state::Admin;
use super::policy::{self, Refused};
use super::{Asker, models};
use crate::callers::LiveConsumer;
use crate::config::{IssuedKeyRules, identifier};
use crate::issued_keys::{KeyRecord, NewKey};
use crate::runtime::Runtime;

impl Admin {
    /// `POST /api/me/keys`: makes a key for a consumer that the asker owns.
    pub(super) async fn make_own_key(&self, asker: &Asker<'_>, who: &Who, body: &[u8]) -> Answer {
        let mut new = match keys::new_key(body, self.gateway.clock.wall()) {
            Ok(new) => new,
            Err(error) => return error.answer(StatusCode::BAD_REQUEST),
        };
        if new.owner.replace(asker.owner()).is_some() {
            return FieldError::new("owner", "the key's owner is you: leave 'owner' out").answer(StatusCode::BAD_REQUEST);
        }
        let runtime = self.gateway.runtime.load_full();
        let Some(consumer) = owned(&runtime, asker, &new.consumer) else { return refused(&Refused::NotYourConsumer) };
        // Counted and made in one step: two requests at once can't make more than allowed.
        let _one = self.making.lock().await;
        if let Err(reason) = self.admit(consumer, &mut new) {
            return refused(&reason);
        }
        match self.issue_key(who, new).await {
            Ok(issued) => issued_answer(&issued, Some(&consumer.name)),
            Err(error) => keys::refused(&error),
        }
    }

    /// Whether owners may make this key. Its expiry is set, if it has none.
    fn admit(&self, consumer: &LiveConsumer, new: &mut NewKey) -> Result<(), Refused> {
        let (name, rules, now) = (&*consumer.name, &consumer.issued_keys, self.gateway.clock.wall().timestamp());
        if !models::works_with_keys(consumer) {
            return Err(Refused::TokensOnly { consumer: name.to_owned() });
        }
        new.expires = Some(policy::expiry(name, new.expires, rules, now)?);
        let keys = self.keys_of(consumer);
        policy::may_store(name, keys.len(), rules)?;
        policy::may_make(name, policy::valid(&keys, now), rules)
    }

    /// `POST /api/me/keys/ID/rotate`: makes a key in the place of another one.
    pub(super) async fn rotate_own_key(&self, asker: &Asker<'_>, who: &Who, id: &str, body: &[u8]) -> Answer {
        let grace = match keys::grace(body) {
            Ok(grace) => grace,
            Err(error) => return error.answer(StatusCode::BAD_REQUEST),
        };
        let runtime = self.gateway.runtime.load_full();
        let _one = self.making.lock().await;
        let Some((key, consumer)) = self.owned_key(&runtime, asker, id) else { return refused(&Refused::NotYourKey) };
        let (keys, rules) = (self.keys_of(consumer), &consumer.issued_keys);
        let valid = policy::valid(&keys, self.gateway.clock.wall().timestamp());
        let allowed = policy::may_store(&consumer.name, keys.len(), rules).and_then(|()| policy::may_rotate(&key, grace, valid, rules));
        if let Err(reason) = allowed {
            return refused(&reason);
        }
        match self.rotate_key(who, id, grace).await {
            Ok(issued) => issued_answer(&issued, Some(&consumer.name)),
            Err(error) => keys::refused(&error),
        }
    }

    /// `DELETE /api/me/keys/ID`: revokes a key, at once.
    pub(super) async fn revoke_own_key(&self, asker: &Asker<'_>, who: &Who, id: &str) -> Answer {
        let runtime = self.gateway.runtime.load_full();
        if self.owned_key(&runtime, asker, id).is_none() {
            return refused(&Refused::NotYourKey);
        }
        match self.revoke_key(who, id).await {
            Ok(key) => json_answer(StatusCode::OK, &issued_key(&key)),
            Err(error) => keys::refused(&error),
        }
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
                "id": identifier(&key.stored), "source": "config", "label": null, "owner": null, "hint": key.hint, "models": null,
                "created": key.created, "not_before": key.validity.not_before, "expires": key.validity.expires, "replaced": false,
                "revoked": null, "last_use": runtime.callers.keys.last_use(&key.stored),
            })
        });
        let shown = issued.iter().map(|key| issued_key(key)).chain(of_config).collect();
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

/// An issued key, as its owners see it.
fn issued_key(key: &KeyRecord) -> Value {
    json!({
        "id": &*key.id, "source": "issued", "label": key.label, "owner": key.owner, "hint": key.hint, "models": key.models.as_deref(),
        "created": key.created, "not_before": key.not_before, "expires": key.expires, "replaced": key.replaced,
        "revoked": key.revoked, "last_use": key.last_use,
    })
}

/// The consumer of this name, if the asker owns it.
fn owned<'r>(runtime: &'r Runtime, asker: &Asker<'_>, name: &str) -> Option<&'r Arc<LiveConsumer>> {
    let index = runtime.config.consumers.iter().position(|consumer| *consumer.name == *name)?;
    runtime.config.owns_consumer(&asker.names, index).then(|| runtime.callers.consumers.get(index))?
}

fn refused(reason: &Refused) -> Answer {
    field_problem(reason.status(), reason.field(), &reason.to_string())
}
