//! API keys, known only by their SHA-256.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A text that is no SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 in hexadecimal has 64 digits from 0-9 and a-f")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(hex: &str) -> Result<Self, ParseDigestError> {
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(ParseDigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseDigestError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseDigestError)?;
        }
        Ok(Digest(bytes))
    }
}

/// The digest under which `key` is stored.
pub fn digest(key: &[u8]) -> Digest {
    Digest(Sha256::digest(key).into())
}

/// Keys to the index of the consumer that owns them.
///
/// A caller's key is hashed before anything is compared, so how long a look-up takes says
/// nothing about the keys that are stored.
#[derive(Debug, Default)]
pub struct KeyTable(HashMap<Digest, usize>);

impl KeyTable {
    /// Adds a key; returns the consumer that already has it, if any.
    pub fn insert(&mut self, digest: Digest, consumer: usize) -> Option<usize> {
        self.0.insert(digest, consumer)
    }

    /// The consumer that owns `key`.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.0.get(&digest(key)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_digest() {
        let mut table = KeyTable::default();
        // echo -n test | sha256sum
        table.insert("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse().unwrap(), 3);
        assert_eq!(table.find(b"test"), Some(3));
        assert_eq!(table.find(b"Test"), None);
        for bad in ["", "9f", "zz86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError));
        }
    }
}
