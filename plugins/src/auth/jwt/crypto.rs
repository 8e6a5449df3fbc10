//! The cryptography of `jsonwebtoken`, implemented with `ring`, which TLS uses anyway. Symmetric algorithms are left
//! out on purpose: a public key must never be used as an HMAC secret.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature as rs;
use signature::{Signer, Verifier};

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes this the process's cryptography for tokens. May be called twice.
pub fn install_crypto() {
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match algorithm.family() {
        AlgorithmFamily::Rsa | AlgorithmFamily::Ec if key.family() == algorithm.family() => {
            Ok(Box::new(RingSigner { algorithm: *algorithm, key: key.clone() }))
        }
        _ => Err(Error::from(ErrorKind::UnsupportedAlgorithm)),
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match algorithm.family() {
        AlgorithmFamily::Rsa | AlgorithmFamily::Ec if key.family() == algorithm.family() => {
            Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
        }
        _ => Err(Error::from(ErrorKind::UnsupportedAlgorithm)),
    }
}

struct RingSigner {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let random = SystemRandom::new();
        let failed = |_| signature::Error::new();
        let der = self.key.as_bytes();
        let rsa = |encoding: &'static dyn rs::RsaEncoding| {
            let pair = rs::RsaKeyPair::from_pkcs8(der).or_else(|_| rs::RsaKeyPair::from_der(der)).map_err(|_| signature::Error::new())?;
            let mut signed = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &random, message, &mut signed).map_err(failed)?;
            Ok(signed)
        };
        let ec = |algorithm: &'static rs::EcdsaSigningAlgorithm| {
            let pair = rs::EcdsaKeyPair::from_pkcs8(algorithm, der, &random).map_err(|_| signature::Error::new())?;
            pair.sign(&random, message).map(|signed| signed.as_ref().to_vec()).map_err(failed)
        };
        match self.algorithm {
            Algorithm::RS256 => rsa(&rs::RSA_PKCS1_SHA256),
            Algorithm::RS384 => rsa(&rs::RSA_PKCS1_SHA384),
            Algorithm::RS512 => rsa(&rs::RSA_PKCS1_SHA512),
            Algorithm::PS256 => rsa(&rs::RSA_PSS_SHA256),
            Algorithm::PS384 => rsa(&rs::RSA_PSS_SHA384),
            Algorithm::PS512 => rsa(&rs::RSA_PSS_SHA512),
            Algorithm::ES256 => ec(&rs::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&rs::ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => Err(signature::Error::new()),
        }
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let rsa = |parameters: &'static rs::RsaParameters| match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => rs::RsaPublicKeyComponents { n, e }.verify(parameters, message, signed),
            DecodingKeyKind::SecretOrDer(der) => rs::UnparsedPublicKey::new(parameters, der).verify(message, signed),
        };
        let ec = |algorithm: &'static dyn rs::VerificationAlgorithm| {
            let point = self.key.try_get_as_bytes().map_err(|_| ring::error::Unspecified)?;
            rs::UnparsedPublicKey::new(algorithm, point).verify(message, signed)
        };
        let verified = match self.algorithm {
            Algorithm::RS256 => rsa(&rs::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&rs::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&rs::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&rs::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&rs::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&rs::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => ec(&rs::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => ec(&rs::ECDSA_P384_SHA384_FIXED),
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}
