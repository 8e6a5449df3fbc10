//! The known keys, found by their digest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use super::digest::{Digest, Pepper, digest};

/// When a key may be used, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validity {
    /// From this time on.
    pub not_before: Option<i64>,
    /// Until this time.
    pub expires: Option<i64>,
}

impl Validity {
    /// Whether it may be used at `now`.
    pub fn holds(self, now: i64) -> bool {
        self.not_before.is_none_or(|from| from <= now) && self.expires.is_none_or(|until| now < until)
    }
}

/// How a key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stored {
    /// As its SHA-256.
    Sha256(Digest),
    /// As its HMAC with the pepper.
    Hmac(Digest),
}

/// The digests of a key that a caller sent: one for each way in which keys are stored.
#[derive(Debug, Clone, Copy)]
pub struct KeyDigests {
    plain: Digest,
    /// `None` without a pepper.
    peppered: Option<Digest>,
}

impl KeyDigests {
    /// How the key would be stored.
    pub fn all(&self) -> impl Iterator<Item = Stored> {
        [Some(Stored::Sha256(self.plain)), self.peppered.map(Stored::Hmac)].into_iter().flatten()
    }
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    owner: usize,
    validity: Validity,
    last_use: AtomicI64,
}

/// Entries by the beginning of their digest. That part need not be compared in constant time, because an attacker can't
/// choose a digest; the rest is.
#[derive(Debug, Default)]
struct Table(HashMap<u64, Vec<Entry>>);

impl Table {
    fn insert(&mut self, digest: Digest, owner: usize, validity: Validity) {
        self.0.entry(digest.beginning()).or_default().push(Entry { digest, owner, validity, last_use: AtomicI64::new(0) });
    }

    fn entry(&self, digest: &Digest) -> Option<&Entry> {
        self.0.get(&digest.beginning())?.iter().fold(None, |found, entry| if entry.digest.equals(digest) { Some(entry) } else { found })
    }

    fn find(&self, digest: &Digest, now: i64) -> Option<usize> {
        let entry = self.entry(digest)?;
        if !entry.validity.holds(now) {
            return None;
        }
        // Written at most once a second, so that callers on many cores don't contend for it.
        if entry.last_use.load(Ordering::Relaxed) != now {
            entry.last_use.store(now, Ordering::Relaxed);
        }
        Some(entry.owner)
    }
}

/// The known keys, each with the index of the consumer that owns it.
///
/// A caller's key is hashed before the comparison, so the time of a look-up reveals nothing about the stored keys; and
/// it is the same among ten thousand as among ten.
#[derive(Debug, Default)]
pub struct KeyTable {
    plain: Table,
    peppered: Table,
    pepper: Option<Pepper>,
}

impl KeyTable {
    /// No keys yet. Keys that are stored as HMAC need the pepper.
    pub fn new(pepper: Option<Pepper>) -> Self {
        KeyTable { pepper, ..KeyTable::default() }
    }

    /// Adds a key.
    pub fn insert(&mut self, key: Stored, owner: usize, validity: Validity) {
        match key {
            Stored::Sha256(digest) => self.plain.insert(digest, owner, validity),
            Stored::Hmac(digest) => self.peppered.insert(digest, owner, validity),
        }
    }

    /// The digests under which a key may be stored, here or elsewhere.
    pub fn digests(&self, key: &[u8]) -> KeyDigests {
        KeyDigests { plain: digest(key), peppered: self.pepper.as_ref().map(|pepper| pepper.digest(key)) }
    }

    /// The consumer that owns the key with these digests, if it may be used at `now` (seconds since 1970).
    pub fn find_digests(&self, key: &KeyDigests, now: i64) -> Option<usize> {
        let plain = self.plain.find(&key.plain, now);
        match &key.peppered {
            Some(peppered) => plain.or(self.peppered.find(peppered, now)),
            None => plain,
        }
    }

    /// The consumer that owns `key`, if it may be used at `now` (seconds since 1970).
    pub fn find(&self, key: &[u8], now: i64) -> Option<usize> {
        self.find_digests(&self.digests(key), now)
    }

    /// Takes over from `before` when the keys that are in both were last used.
    pub fn remember(&self, before: &KeyTable) {
        for (table, known) in [(&self.plain, &before.plain), (&self.peppered, &before.peppered)] {
            for entry in table.0.values().flatten() {
                let last = known.entry(&entry.digest).map_or(0, |known| known.last_use.load(Ordering::Relaxed));
                entry.last_use.store(last, Ordering::Relaxed);
            }
        }
    }

    /// When a key was last used since the start, in seconds since 1970.
    pub fn last_use(&self, key: &Stored) -> Option<i64> {
        let entry = match key {
            Stored::Sha256(digest) => self.plain.entry(digest),
            Stored::Hmac(digest) => self.peppered.entry(digest),
        };
        entry.map(|entry| entry.last_use.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::ParseDigestError;
    use super::*;

    // echo -n test | sha256sum
    const TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn keys_are_found_by_their_digest() {
        let mut table = KeyTable::default();
        let stored = Stored::Sha256(TEST.parse().unwrap());
        table.insert(stored, 3, Validity::default());
        assert_eq!(table.last_use(&stored), None);
        assert_eq!(table.find(b"test", 17), Some(3));
        assert_eq!(table.last_use(&stored), Some(17));
        assert_eq!(table.find(b"Test", 17), None);
        assert_eq!(digest(b"test").to_string(), TEST);
        for bad in ["", "9f", "zz86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError));
        }
    }

    #[test]
    fn keys_are_good_for_their_time_only() {
        let mut table = KeyTable::default();
        let validity = Validity { not_before: Some(100), expires: Some(200) };
        table.insert(Stored::Sha256(digest(b"k")), 0, validity);
        let found: Vec<bool> = [99, 100, 199, 200].into_iter().map(|now| table.find(b"k", now).is_some()).collect();
        assert_eq!(found, [false, true, true, false]);
    }

    #[test]
    fn a_pepper_is_needed_for_peppered_keys() {
        let (pepper, other) = (Pepper::new(b"pepper"), Pepper::new(b"other"));
        let stored = Stored::Hmac(pepper.digest(b"k"));
        // printf k | openssl dgst -sha256 -hmac pepper
        assert_eq!(pepper.digest(b"k").to_string(), "83ef0d5e11295bc9856db519b01b2f08826e7ac830302f8f4b524ba0a046d636");
        let with = |pepper: Option<Pepper>| {
            let mut table = KeyTable::new(pepper);
            table.insert(stored, 1, Validity::default());
            table.insert(Stored::Sha256(digest(b"plain")), 2, Validity::default());
            (table.find(b"k", 1), table.find(b"plain", 1))
        };
        assert_eq!(with(Some(pepper)), (Some(1), Some(2)));
        assert_eq!(with(Some(other)), (None, Some(2)));
        assert_eq!(with(None), (None, Some(2)));
    }
}
