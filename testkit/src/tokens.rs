//! Makes tokens: signs any header and claims for a test, valid or not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

/// A key pair of an issuer.
pub enum SigningKey {
    /// RS256.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    Ec(Box<EcdsaKeyPair>),
}

/// Base64url without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Header and payload, ready to be signed.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()))
}

impl SigningKey {
    /// One of two RSA keys: `a` or `b`. For tests only; the keys are public.
    ///
    /// # Panics
    /// For other names.
    pub fn rsa(name: &str) -> Self {
        let der: &[u8] = match name {
            "a" => include_bytes!("../fixtures/rsa-a.der"),
            "b" => include_bytes!("../fixtures/rsa-b.der"),
            other => panic!("no key {other}"),
        };
        SigningKey::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).unwrap_or_else(|error| panic!("{error}"))))
    }

    /// A new P-256 key.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn ec() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap_or_else(|error| panic!("{error}"));
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        SigningKey::Ec(Box::new(pair.unwrap_or_else(|error| panic!("{error}"))))
    }

    /// `RS256` or `ES256`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            SigningKey::Rsa(_) => "RS256",
            SigningKey::Ec(_) => "ES256",
        }
    }

    /// The public key as an issuer publishes it.
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            SigningKey::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": base64url(public.n), "e": base64url(public.e) })
            }
            SigningKey::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
            }
        }
    }

    /// The modulus's bytes, as an attacker might use them as an HMAC secret.
    pub fn public_bytes(&self) -> Vec<u8> {
        match self {
            SigningKey::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            SigningKey::Ec(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims, valid or not.
    ///
    /// # Panics
    /// If signing fails.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let random = SystemRandom::new();
        let signed = match self {
            SigningKey::Rsa(pair) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signed).unwrap_or_else(|error| panic!("{error}"));
                signed
            }
            SigningKey::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap_or_else(|error| panic!("{error}")).as_ref().to_vec(),
        };
        format!("{message}.{}", base64url(signed))
    }

    /// A token with a plain header.
    pub fn token(&self, kid: &str, claims: &Value) -> String {
        self.sign(&json!({ "typ": "JWT", "alg": self.algorithm(), "kid": kid }), claims)
    }
}

/// A token that an attacker "signs" with HMAC and a public key as its secret.
pub fn hmac_token(kid: &str, secret: &[u8], claims: &Value) -> String {
    let message = unsigned(&json!({ "typ": "JWT", "alg": "HS256", "kid": kid }), claims);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    format!("{message}.{}", base64url(ring::hmac::sign(&key, message.as_bytes())))
}
