//! Random texts that can't be guessed, and their digests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::error::Unspecified;
use ring::rand::SecureRandom;
use ring::{digest, hmac};

/// 256 random bits in Base64url: 43 characters.
pub(super) fn random(rng: &dyn SecureRandom) -> Result<String, Unspecified> {
    let mut bytes = [0; 32];
    rng.fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a text looks like one of [`random`].
pub(super) fn is_random(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The PKCE challenge of a verifier (RFC 7636, 4.2: S256).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// The CSRF token that belongs to a session's token. The session's token can't be computed from it.
pub(super) fn csrf(session: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, session.as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"spillway csrf"))
}

/// Whether two secret texts are equal; the time tells nothing.
pub(super) fn equal(one: &str, other: &str) -> bool {
    spillway_plugins::auth::digest(one.as_bytes()).equals(&spillway_plugins::auth::digest(other.as_bytes()))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        assert_eq!(challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn random_texts_differ_and_are_recognised() {
        let rng = SystemRandom::new();
        let (one, other) = (random(&rng).unwrap(), random(&rng).unwrap());
        assert!(one != other && is_random(&one) && !is_random("x") && !is_random(&format!("{}=", &one[..42])));
        assert!(csrf(&one) != csrf(&other) && csrf(&one) == csrf(&one) && csrf(&one) != one);
    }
}
