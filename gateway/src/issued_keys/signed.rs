//! An issued key as nodes exchange it through Redis: what is fixed, and its ends, each signed with the config's pepper.
//!
//! Whoever can write to Redis could otherwise make keys for itself. Without a pepper, or with one that can be guessed, nodes
//! exchange no keys. Nodes with different peppers don't exchange keys either: they use different names in Redis.

use std::sync::Arc;

use spillway_plugins::auth::{Digest, Pepper};

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
pub(super) struct Signer(Pepper);

impl Signer {
    /// `None` without a pepper that can't be guessed: what is signed is at others' sight.
    pub(super) fn new(pepper: Option<&Pepper>) -> Option<Self> {
        pepper.filter(|pepper| pepper.is_strong()).cloned().map(Signer)
    }

    /// What tells nodes with this pepper from others.
    pub(super) fn tag(&self) -> String {
        self.sign("group of nodes", "").to_string().chars().take(16).collect()
    }

    /// No caller's key begins like this, so that a signature is never the digest of a key.
    fn sign(&self, what: &str, text: &str) -> Digest {
        self.0.digest(format!("spillway issued key: {what}: {text}").as_bytes())
    }

    /// Whether this is the signature of a text; the time doesn't tell how much of it is right.
    fn has_signed(&self, what: &str, text: &str, signature: &str) -> bool {
        signature.parse().is_ok_and(|given: Digest| given.equals(&self.sign(what, text)))
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
        let mut key = text::parse_object(json).filter(|_| self.has_signed("made", json, signature))?;
        if *key.made.id != *parts.id || key.ends.is_some() || key.revoked.is_some() {
            return None;
        }
        if !parts.ends.is_empty() {
            let (at, signature) = parts.ends.split_once(' ')?;
            if !self.has_signed("ends", &format!("{} {at}", parts.id), signature) {
                return None;
            }
            key.ends = Some(at.parse().ok()?);
        }
        if !parts.revoked.is_empty() {
            let (at, rest) = parts.revoked.split_once(' ')?;
            let (signature, by) = rest.split_once(' ')?;
            if !self.has_signed("revoked", &format!("{} {at} {by}", parts.id), signature) {
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

    fn signer(pepper: &[u8]) -> Signer {
        Signer::new(Some(&Pepper::new(pepper))).unwrap()
    }

    const PEPPER: &[u8] = b"sixteen bytes or more";

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_signed_and_refused_once_a_part_is_changed(key in any_key(), other in any_key(), at: prop::sample::Index, part in 0..4usize) {
            let signer = signer(PEPPER);
            let parts = signer.parts(&key);
            prop_assert_eq!(signer.key(&parts), Some(key.clone()));
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
            prop_assert_eq!(self::signer(b"another pepper of enough bytes").key(&parts), None);
        }
    }

    #[test]
    fn nodes_with_different_peppers_have_different_names() {
        let (one, other) = (signer(PEPPER).tag(), signer(b"another pepper of enough bytes").tag());
        assert_eq!(one.len(), 16);
        assert_ne!(one, other);
    }

    #[test]
    fn without_a_pepper_that_cannot_be_guessed_nothing_is_exchanged() {
        assert_eq!(Signer::new(None), None);
        assert_eq!(Signer::new(Some(&Pepper::new(b"fifteen bytes.."))), None);
        assert!(Signer::new(Some(&Pepper::new(b"sixteen bytes..."))).is_some());
    }
}
