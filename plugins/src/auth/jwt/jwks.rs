//! An issuer's public keys (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The issuer's keys can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The text is not a key set.
    #[error("it is not a key set")]
    Malformed,
    /// No key in it can verify a signature.
    #[error("it has no key that can verify a signature")]
    Empty,
}

/// Most keys that are used of one set.
const MOST: usize = 256;

/// One key.
pub(super) struct Key {
    kid: Option<String>,
    parameters: AlgorithmParameters,
    algorithm: Option<String>,
    /// The issuer whose tokens it signs, if the set has that.
    pub(super) issuer: Option<String>,
    pub(super) decoding: DecodingKey,
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match &self.parameters {
            AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
            AlgorithmParameters::EllipticCurve(curve) => {
                matches!((&curve.curve, algorithm), (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384))
            }
            _ => false,
        };
        kind && self.algorithm.as_deref().is_none_or(|own| own == format!("{algorithm:?}"))
    }
}

/// An issuer's public keys.
#[derive(Default)]
pub struct KeySet(Vec<Key>);

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a key set. Keys of unknown kinds, and keys that are not for signatures, are left out.
    ///
    /// # Errors
    /// [`JwksError`]
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        let document: Document = serde_json::from_slice(text).map_err(|_| JwksError::Malformed)?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(read).take(MOST).collect();
        if keys.is_empty() { Err(JwksError::Empty) } else { Ok(KeySet(keys)) }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with this id for this algorithm; without an id, the only key for it.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

fn read(value: Value) -> Option<Key> {
    let issuer = value.get("issuer").and_then(Value::as_str).map(str::to_owned);
    let algorithm = value.get("alg").and_then(Value::as_str).map(str::to_owned);
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    if !matches!(jwk.algorithm, AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_)) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { kid: jwk.common.key_id, parameters: jwk.algorithm, algorithm, issuer, decoding })
}
