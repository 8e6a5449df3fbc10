//! The issued keys that requests are checked against: found by their digest, without a lock.
//!
//! The table is in 256 parts, by the digest. A part is replaced as a whole when a key in it changes, so that a reader
//! always sees a whole one, and a change costs the keys of one part, not all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use spillway_plugins::auth::{Digest, KeyDigests, Stored, Validity};

use super::record::StoredKey;

/// Number of parts.
const PARTS: usize = 256;

/// A key that may be used.
#[derive(Debug)]
pub struct LiveKey {
    /// Its id.
    pub id: Arc<str>,
    /// The name of its consumer.
    pub consumer: Arc<str>,
    /// The models that it may be used for; `None` for all of its consumer.
    pub models: Option<Arc<[String]>>,
    stored: Stored,
    validity: Validity,
    /// When it was last used, in seconds since 1970; 0 for never since the start.
    last_use: AtomicI64,
    /// Where its consumer was found last in the config: it is there again, unless the config has changed.
    pub(crate) place: AtomicUsize,
}

impl LiveKey {
    /// Notes that it is used at `now`. Written at most once a second, so that callers on many cores don't contend for it.
    pub fn used(&self, now: i64) {
        if self.last_use.load(Ordering::Relaxed) != now {
            self.last_use.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last used since the start, in seconds since 1970.
    pub(super) fn last_use(&self) -> Option<i64> {
        Some(self.last_use.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

/// Keys by the beginning of their digest: as in the table of the config's keys, the rest is compared in constant time.
type Part = HashMap<u64, Vec<Arc<LiveKey>>>;

/// The keys that may be used.
pub struct LiveKeys(Box<[ArcSwap<Part>]>);

impl std::fmt::Debug for LiveKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LiveKeys({})", self.0.iter().map(|part| part.load().len()).sum::<usize>())
    }
}

impl Default for LiveKeys {
    fn default() -> Self {
        LiveKeys((0..PARTS).map(|_| ArcSwap::default()).collect())
    }
}

fn digest_of(stored: &Stored) -> &Digest {
    let (Stored::Sha256(digest) | Stored::Hmac(digest)) = stored;
    digest
}

fn same(one: &Stored, other: &Stored) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other) && digest_of(one).equals(digest_of(other))
}

impl LiveKeys {
    fn part(&self, stored: &Stored) -> Option<&ArcSwap<Part>> {
        // The first byte; the rest tells keys within a part apart.
        self.0.get((digest_of(stored).beginning() >> 56) as usize)
    }

    /// The key with these digests, if it may be used at `now`, in seconds since 1970.
    pub fn find(&self, key: &KeyDigests, now: i64) -> Option<Arc<LiveKey>> {
        key.all().find_map(|stored| {
            let part = self.part(&stored)?.load();
            let known = part.get(&digest_of(&stored).beginning())?;
            let found = known.iter().fold(None, |found, key| if same(&key.stored, &stored) { Some(key) } else { found })?;
            found.validity.holds(now).then(|| Arc::clone(found))
        })
    }

    /// The key that is stored so.
    pub(super) fn known(&self, stored: &Stored) -> Option<Arc<LiveKey>> {
        let part = self.part(stored)?.load();
        part.get(&digest_of(stored).beginning())?.iter().find(|key| same(&key.stored, stored)).cloned()
    }

    /// Follows changes of keys. Changes of one key must come one after the other.
    pub(super) fn update<'k>(&self, keys: impl IntoIterator<Item = &'k StoredKey>) {
        let mut parts: HashMap<u64, Vec<&StoredKey>> = HashMap::new();
        for key in keys {
            parts.entry(digest_of(&key.made.stored).beginning() >> 56).or_default().push(key);
        }
        for keys in parts.values() {
            let Some(part) = keys.first().and_then(|key| self.part(&key.made.stored)) else { continue };
            let changes: Vec<(&StoredKey, Option<Arc<LiveKey>>)> = keys.iter().map(|key| (*key, self.live(key))).collect();
            part.rcu(|part| {
                let mut part = Part::clone(part);
                for (key, live) in &changes {
                    let beginning = digest_of(&key.made.stored).beginning();
                    let known = part.entry(beginning).or_default();
                    known.retain(|known| !same(&known.stored, &key.made.stored));
                    known.extend(live.clone());
                    if known.is_empty() {
                        part.remove(&beginning);
                    }
                }
                part
            });
        }
    }

    /// A key as it is looked up; `None` for one that is revoked.
    fn live(&self, key: &StoredKey) -> Option<Arc<LiveKey>> {
        let live = || LiveKey {
            id: Arc::clone(&key.made.id),
            consumer: Arc::clone(&key.made.consumer),
            models: key.made.models.clone(),
            stored: key.made.stored,
            validity: key.validity(),
            last_use: AtomicI64::new(self.known(&key.made.stored).and_then(|known| known.last_use()).unwrap_or(0)),
            place: AtomicUsize::new(0),
        };
        key.revoked.is_none().then(|| Arc::new(live()))
    }

    /// Forgets a key.
    pub(super) fn remove(&self, stored: &Stored) {
        let Some(part) = self.part(stored) else { return };
        part.rcu(|part| {
            let mut part = Part::clone(part);
            if let Some(known) = part.get_mut(&digest_of(stored).beginning()) {
                known.retain(|known| !same(&known.stored, stored));
            }
            part.retain(|_, known| !known.is_empty());
            part
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spillway_plugins::auth::{KeyTable, Pepper, digest};

    use super::*;
    use crate::issued_keys::record::{Made, Revoked};

    fn key(text: &str, stored: Stored, expires: Option<i64>) -> StoredKey {
        let made = Made {
            created: 1,
            id: text.into(),
            consumer: "crm".into(),
            label: None,
            owner: None,
            models: None,
            hint: String::new(),
            stored,
            by: String::new(),
            not_before: None,
            expires,
        };
        StoredKey { made: Arc::new(made), ends: None, revoked: None }
    }

    #[test]
    fn a_key_is_found_until_it_ends_or_is_revoked() {
        let (live, table) = (LiveKeys::default(), KeyTable::new(Some(Pepper::new(b"pepper"))));
        let plain = key("plain", Stored::Sha256(digest(b"plain")), Some(100));
        let mut peppered = key("peppered", Stored::Hmac(Pepper::new(b"pepper").digest(b"peppered")), None);
        live.update([&plain]);
        live.update([&peppered]);
        let found = |text: &str, now| live.find(&table.digests(text.as_bytes()), now).map(|key| key.id.to_string());
        assert_eq!((found("plain", 99), found("plain", 100)), (Some("plain".to_owned()), None));
        assert_eq!((found("peppered", 5), found("other", 5)), (Some("peppered".to_owned()), None));
        // The same digest, stored in the other way, is another key's.
        let other = key("other", Stored::Sha256(Pepper::new(b"pepper").digest(b"peppered")), None);
        live.update([&other]);
        assert_eq!(found("peppered", 5), Some("peppered".to_owned()));
        live.find(&table.digests(b"peppered"), 5).unwrap().used(5);
        peppered.ends = Some(50);
        live.update([&peppered]);
        assert_eq!((found("peppered", 49), found("peppered", 50)), (Some("peppered".to_owned()), None));
        let last_use = live.known(&peppered.made.stored).and_then(|known| known.last_use());
        assert_eq!(last_use, Some(5), "a change doesn't forget when it was used");
        peppered.revoked = Some(Revoked { at: 1, by: String::new() });
        live.update([&peppered]);
        assert_eq!(found("peppered", 5), None);
        live.remove(&plain.made.stored);
        assert_eq!(found("plain", 5), None);
    }

    proptest! {
        #[test]
        fn it_knows_what_a_plain_map_knows(steps in prop::collection::vec((0..40u8, prop::bool::ANY), 0..80)) {
            let (live, table) = (LiveKeys::default(), KeyTable::default());
            let mut known = std::collections::HashSet::new();
            for (number, keep) in steps {
                let mut changed = key(&number.to_string(), Stored::Sha256(digest(&[number])), None);
                changed.revoked = (!keep).then(|| Revoked { at: 1, by: String::new() });
                live.update([&changed]);
                if keep { known.insert(number) } else { known.remove(&number) };
            }
            for number in 0..40 {
                prop_assert_eq!(live.find(&table.digests(&[number]), 1).is_some(), known.contains(&number));
            }
        }
    }
}
