//! A key that was issued at run time, as it is stored: its digest, never the key itself.
//!
//! Most of it is fixed when the key is made. Afterwards it can only end, earlier than before: by a rotation, or at once by
//! a revocation. So two states of a key always have one result, whichever comes first: the earlier end.

use std::sync::Arc;

use spillway_plugins::auth::{Stored, Validity};

/// What is fixed when a key is made. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    /// When it was made.
    pub created: i64,
    /// Its name, which is no secret.
    pub id: Arc<str>,
    /// The name of the consumer that it belongs to.
    pub consumer: Arc<str>,
    /// What people call it.
    pub label: Option<String>,
    /// The subject of the person that it belongs to.
    pub owner: Option<String>,
    /// The models that it may be used for, of those that its consumer may use; `None` for all of them.
    pub models: Option<Arc<[String]>>,
    /// The part of the key that may be shown.
    pub hint: String,
    /// The key's digest.
    pub stored: Stored,
    /// Who made it.
    pub by: String,
    /// From when on it is valid.
    pub not_before: Option<i64>,
    /// Until when it is valid.
    pub expires: Option<i64>,
}

/// A key's revocation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revoked {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who revoked it.
    pub by: String,
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// What is fixed.
    pub made: Arc<Made>,
    /// An earlier end, because another key replaces it; in seconds since 1970.
    pub ends: Option<i64>,
    /// Its revocation.
    pub revoked: Option<Revoked>,
}

/// How long a key is still listed after its end.
const LISTED: i64 = 30 * 86_400;

impl StoredKey {
    /// Until when it is valid, if nobody revokes it.
    pub fn expires(&self) -> Option<i64> {
        earlier(self.ends, self.made.expires)
    }

    /// When it may be used, if it isn't revoked.
    pub fn validity(&self) -> Validity {
        Validity { not_before: self.made.not_before, expires: self.expires() }
    }

    /// Whether it can be forgotten at `now`: another node that has heard of no revocation would refuse it, too.
    pub fn is_over(&self, now: i64) -> bool {
        self.made.expires.is_some_and(|expires| expires.saturating_add(LISTED) < now)
    }

    /// Takes over what `other` says about the same key. `true` if something has changed.
    ///
    /// The result doesn't depend on the order, or on how often it is done: the earlier end wins, and any revocation over
    /// none. Two different keys with the same name can exist only by accident: then the later one is kept.
    pub fn merge(&mut self, other: &StoredKey) -> bool {
        let before = self.clone();
        if other.made == self.made {
            self.ends = earlier(self.ends, other.ends);
        } else if other.made > self.made {
            self.made = Arc::clone(&other.made);
            self.ends = other.ends;
        }
        self.revoked = earlier(self.revoked.take(), other.revoked.clone());
        *self != before
    }
}

/// The earlier one of two, of which each may be missing.
fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use spillway_plugins::auth::digest;

    use super::*;

    /// Any key of a few names, at any time.
    pub(in crate::issued_keys) fn any_key() -> impl Strategy<Value = StoredKey> {
        let times = (0..50i64, prop::option::of(0..50i64), prop::option::of(0..50i64), prop::option::of(0..50i64));
        let ends = (prop::option::of(0..50i64), prop::option::of((0..50i64, "[a-c]")));
        let texts = (0..4u8, "[a-z]{1,3}", prop::option::of("[ -~]{0,9}"), prop::option::of("\\PC{0,5}"), prop::bool::ANY);
        (times, ends, texts).prop_map(|((created, not_before, expires, _), (ends, revoked), (id, consumer, label, owner, narrow))| {
            let made = Made {
                created,
                id: format!("key-{id}").into(),
                consumer: consumer.into(),
                label,
                owner,
                models: narrow.then(|| vec!["m".to_owned()].into()),
                hint: "spw_abcd…wxyz".to_owned(),
                stored: Stored::Sha256(digest(&[id])),
                by: "somebody".to_owned(),
                not_before,
                expires,
            };
            StoredKey { made: Arc::new(made), ends, revoked: revoked.map(|(at, by)| Revoked { at, by }) }
        })
    }

    fn merged(mut one: StoredKey, other: &StoredKey) -> StoredKey {
        one.merge(other);
        one
    }

    proptest! {
        #[test]
        fn the_order_in_which_nodes_hear_of_changes_does_not_matter(a in any_key(), b in any_key(), c in any_key()) {
            prop_assert_eq!(merged(a.clone(), &b), merged(b.clone(), &a));
            prop_assert_eq!(merged(merged(a.clone(), &b), &c), merged(a.clone(), &merged(b.clone(), &c)));
            prop_assert_eq!(merged(a.clone(), &a), a.clone());
            let both = merged(a.clone(), &b);
            prop_assert!(both.revoked.is_some() == (a.revoked.is_some() || b.revoked.is_some()), "a revocation is never undone");
            prop_assert_eq!(both.clone().merge(&a), false, "what is known already changes nothing");
        }
    }
}
