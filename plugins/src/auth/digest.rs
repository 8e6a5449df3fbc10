//! How keys are stored: as their SHA-256, or as an HMAC with a pepper that is stored elsewhere.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The digest of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub(super) [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl fmt::Display for Digest {
    /// In hexadecimal, as in the config.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text is not a digest in hexadecimal.
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

impl Digest {
    /// Its first 64 bits, to find it in a table.
    pub fn beginning(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Compares in constant time.
    pub fn equals(&self, other: &Digest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The SHA-256 of `key`.
pub fn digest(key: &[u8]) -> Digest {
    Digest(Sha256::digest(key).into())
}

/// A secret outside of the config: someone who can read the config can't try keys against it.
#[derive(Clone)]
pub struct Pepper {
    hmac: Hmac<Sha256>,
    length: usize,
}

impl PartialEq for Pepper {
    fn eq(&self, other: &Self) -> bool {
        // Two peppers are equal if they make the same digest of one text.
        self.digest(b"").equals(&other.digest(b""))
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// The least length in bytes with which others can't find it by trying, if it is random.
    pub const STRONG: usize = 16;

    /// Whether it is as long as that.
    pub fn is_strong(&self) -> bool {
        self.length >= Pepper::STRONG
    }

    /// A pepper of any length.
    pub fn new(secret: &[u8]) -> Self {
        // RFC 2104: a longer secret than a block is hashed, a shorter one is padded.
        let mut block = [0; 64];
        match secret.len() > block.len() {
            true => block[..32].copy_from_slice(&Sha256::digest(secret)),
            false => block[..secret.len()].copy_from_slice(secret),
        }
        Pepper { hmac: Hmac::new(&block.into()), length: secret.len() }
    }

    /// The HMAC-SHA-256 of `key`.
    pub fn digest(&self, key: &[u8]) -> Digest {
        let mut mac = self.hmac.clone();
        mac.update(key);
        Digest(mac.finalize().into_bytes().into())
    }
}
