//! An issued key as nodes exchange it through Redis: what is fixed, and its ends, each signed with the config's pepper.
//!
//! Whoever can write to Redis could otherwise make keys for itself. Without a pepper nothing is signed. Nodes with
//! different peppers don't exchange keys at all: they use different names in Redis.

use std::sync::Arc;

use spillway_plugins::auth::Pepper;

use super::record::{Revoked, StoredKey};
use super::text;

/// The parts of a key in Redis. Each part is written once, or replaced by an earlier end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The key's id.
    pub(super) id: String,
    /// What is fixed: its signature, and JSON.
    pub(super) made: String,
    /// An earlier end: its time in seconds since 1970, and its signature; empty for none.
    pub(super) ends: String,
    /// Its revocation: its time, its signature, and who revoked it; empty for none.
    pub(super) revoked: String,
}

/// Signs keys, and checks signatures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signer(Option<Pepper>);

/// What stands for a signature without a pepper.
const UNSIGNED: &str = "-";

impl Signer {
    pub(super) fn new(pepper: Option<Pepper>) -> Self {
        Signer(pepper)
    }

    /// What tells nodes with this pepper from others.
    pub(super) fn tag(&self) -> String {
        self.sign("group of nodes", "").chars().take(16).collect()
    }

    /// No caller's key begins like this, so that a signature is never the digest of a key.
    fn sign(&self, what: &str, text: &str) -> String {
        let signed = |pepper: &Pepper| pepper.digest(format!("spillway issued key: {what}: {text}").as_bytes()).to_string();
        self.0.as_ref().map_or_else(|| UNSIGNED.to_owned(), signed)
    }

    /// The parts of a key.
    pub(super) fn parts(&self, key: &StoredKey) -> Parts {
        let id = key.made.id.to_string();
        let json = text::object(&StoredKey { made: Arc::clone(&key.made), ends: None, revoked: None });
        let made = format!("{} {json}", self.sign("made", &json));
        let ends = key.ends.map(|at| format!("{at} {}", self.sign("ends", &format!("{id} {at}"))));
        let revoked = key.revoked.as_ref().map(|Revoked { at, by }| {
            let signature = self.sign("revoked", &format!("{id} {at} {by}"));
            format!("{at} {signature} {by}")
        });
        Parts { id, made, ends: ends.unwrap_or_default(), revoked: revoked.unwrap_or_default() }
    }

    /// The key that these parts are of; `None` if one of them isn't signed as it should be.
    pub(super) fn key(&self, parts: &Parts) -> Option<StoredKey> {
        let (signature, json) = parts.made.split_once(' ')?;
        let mut key = text::parse_object(json).filter(|_| self.sign("made", json) == signature)?;
        if *key.made.id != *parts.id || key.ends.is_some() || key.revoked.is_some() {
            return None;
        }
        if !parts.ends.is_empty() {
            let (at, signature) = parts.ends.split_once(' ')?;
            if self.sign("ends", &format!("{} {at}", parts.id)) != signature {
                return None;
            }
            key.ends = Some(at.parse().ok()?);
        }
        if !parts.revoked.is_empty() {
            let (at, rest) = parts.revoked.split_once(' ')?;
            let (signature, by) = rest.split_once(' ')?;
            if self.sign("revoked", &format!("{} {at} {by}", parts.id)) != signature {
                return None;
            }
            key.revoked = Some(Revoked { at: at.parse().ok()?, by: by.to_owned() });
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::issued_keys::record::tests::any_key;

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_signed_and_refused_once_a_part_is_changed(key in any_key(), other in any_key(), at: prop::sample::Index, part in 0..4usize) {
            for pepper in [None, Some(Pepper::new(b"pepper"))] {
                let signer = Signer::new(pepper.clone());
                let parts = signer.parts(&key);
                prop_assert_eq!(signer.key(&parts), Some(key.clone()));
                if pepper.is_none() {
                    continue;
                }
                let mut forged = parts.clone();
                let from = signer.parts(&other);
                let (text, another) = match part {
                    0 => (&mut forged.id, from.id),
                    1 => (&mut forged.made, from.made),
                    2 => (&mut forged.ends, from.ends),
                    _ => (&mut forged.revoked, from.revoked),
                };
                if !text.is_empty() {
                    let at = (0..text.len()).filter(|at| text.is_char_boundary(*at)).nth(at.index(text.chars().count())).unwrap();
                    let letter = text.remove(at);
                    text.insert(at, if letter == '0' { '1' } else { '0' });
                    prop_assert_eq!(signer.key(&forged), None, "{:?}", forged);
                }
                // A part of another key.
                let (text, own) = match part {
                    0 => (&mut forged.id, &parts.id),
                    1 => (&mut forged.made, &parts.made),
                    2 => (&mut forged.ends, &parts.ends),
                    _ => (&mut forged.revoked, &parts.revoked),
                };
                text.clone_from(&another);
                if another != *own && !another.is_empty() && other.made.id != key.made.id {
                    prop_assert_eq!(signer.key(&forged), None, "{:?}", forged);
                }
                prop_assert_eq!(Signer::new(None).key(&parts), None);
                prop_assert_eq!(Signer::new(Some(Pepper::new(b"other"))).key(&parts), None);
            }
        }
    }

    #[test]
    fn nodes_with_different_peppers_have_different_names() {
        let tag = |pepper: Option<&[u8]>| Signer::new(pepper.map(Pepper::new)).tag();
        assert_eq!((tag(None).as_str(), tag(Some(b"a")).len()), ("-", 16));
        assert_ne!(tag(Some(b"a")), tag(Some(b"b")));
    }
}
