//! Two kinds of keys: one that every node finds, and one that only this process needs.

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

/// How the key of a request is made of its meaning.
#[derive(Debug, Clone)]
pub enum KeyKind {
    /// By SHA-256: the same on all nodes, and in all versions with the same encoding.
    Shared,
    /// With a secret: for answers that don't leave the process.
    Own(Arc<KeySecret>),
}

/// Must change with the encoding, so that keys of other versions never match.
const VERSION: &[u8] = b"spillway-key-3\n";

impl KeyKind {
    /// The key for an encoded meaning, which is lost.
    pub(super) fn key(&self, encoded: &mut [u8]) -> Option<[u8; 32]> {
        match self {
            KeyKind::Shared => Some(Sha256::new_with_prefix(VERSION).chain_update(encoded).finalize().into()),
            KeyKind::Own(secret) => secret.tag(encoded),
        }
    }
}

/// A secret of which keys are made: the tag of AES-GCM, which takes a third of the time of SHA-256.
///
/// Its nonce is always the same, so it encrypts nothing safely, and is not used for that: the encrypted bytes are forgotten. What is left
/// is a universal hash (GHASH) behind a mask. Whoever doesn't know the secret, and sees no tag, finds two texts of n bytes with the same
/// tag with a probability of n / 2^132 for each pair: see docs/decisions/0067.
pub struct KeySecret {
    bytes: [u8; Self::LENGTH],
    key: LessSafeKey,
}

impl KeySecret {
    /// How many bytes it has.
    pub const LENGTH: usize = 16;

    /// From random bytes, of which nobody else may know any. `None` if there are more or fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::LENGTH] = bytes.try_into().ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).ok()?);
        Some(KeySecret { bytes, key })
    }

    /// Its bytes, for the process that takes over.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn tag(&self, encoded: &mut [u8]) -> Option<[u8; 32]> {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), encoded).ok()?;
        let mut key = [0; 32];
        key.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Some(key)
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret")
    }
}
