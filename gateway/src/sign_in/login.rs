//! A login under way: from the redirect to the issuer until the browser comes back.
//!
//! It is sealed into a cookie of the browser that began it, so that a login that somebody else began can't be finished
//! there, and strangers who begin logins fill no memory.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

use super::secret_text::{challenge, random};

/// How long a login may take, in seconds.
pub const LIFETIME: i64 = 600;

/// How far this machine's clock may step back meanwhile, in seconds.
const STEP_BACK: i64 = 60;

/// What the sealed bytes are for: they open nowhere else.
const PURPOSE: &[u8] = b"spillway sign-in 1";
/// Longest cookie that is opened.
const LONGEST: usize = 4096;
/// Length of the random salt before the sealed bytes.
const SALT: usize = 32;

/// The page that is shown after signing in: an address from outside is never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ReturnTo {
    /// The status page.
    #[default]
    Status,
    /// The page of one's own.
    Own,
}

impl ReturnTo {
    /// The page with this path; `None` for any that is not on the list.
    pub fn from_path(path: &str) -> Option<Self> {
        [ReturnTo::Status, ReturnTo::Own].into_iter().find(|page| page.path() == path)
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            ReturnTo::Status => "/",
            ReturnTo::Own => "/me",
        }
    }
}

/// A login under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The issuer and the application, so that a config that changes meanwhile ends it.
    pub(super) realm: String,
    /// Ties the issuer's answer to this browser.
    pub(super) state: String,
    /// Ties the ID token to this login.
    pub(super) nonce: String,
    /// Ties the code to this login (RFC 7636).
    pub(super) verifier: String,
    /// The external base address of the listener on which it began.
    pub(super) base: String,
    /// The page that is shown afterwards.
    pub(super) return_to: ReturnTo,
    /// The issuer must say that the person has authenticated for it.
    #[serde(default)]
    pub(super) fresh: bool,
    /// When it began, in seconds since 1970.
    pub(super) began: i64,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("base", &self.base).field("return_to", &self.return_to).finish_non_exhaustive()
    }
}

impl Login {
    /// A new one, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn begin(realm: &str, base: &str, return_to: ReturnTo, now: i64, rng: &dyn SecureRandom) -> Result<Self, Unspecified> {
        let (state, nonce, verifier) = (random(rng)?, random(rng)?, random(rng)?);
        Ok(Login { realm: realm.to_owned(), state, nonce, verifier, base: base.to_owned(), return_to, fresh: false, began: now })
    }

    /// The PKCE challenge that goes to the authorisation endpoint.
    pub(super) fn challenge(&self) -> String {
        challenge(&self.verifier)
    }
}

/// The key with which logins are sealed. It never leaves this process and the one that takes over from it.
#[derive(Clone)]
pub(super) struct SealKey([u8; 32]);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

impl SealKey {
    /// A new key.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn generate(rng: &dyn SecureRandom) -> Result<Self, Unspecified> {
        let mut key = [0; 32];
        rng.fill(&mut key)?;
        Ok(SealKey(key))
    }

    /// For the process that takes over, in Base64.
    pub(super) fn to_text(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The key in a text of [`SealKey::to_text`].
    pub(super) fn from_text(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(SealKey)
    }

    /// Seals a login: the value of a cookie.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn seal(&self, login: &Login, rng: &dyn SecureRandom) -> Result<String, Unspecified> {
        let mut salt = [0; SALT];
        rng.fill(&mut salt)?;
        let mut sealed = serde_json::to_vec(login).map_err(|_| Unspecified)?;
        self.key_for(&salt)?.seal_in_place_append_tag(only_nonce(), Aad::from(PURPOSE), &mut sealed)?;
        sealed.splice(..0, salt);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The login in a cookie that this key sealed; `None` after [`LIFETIME`], too. `now` is in seconds since 1970.
    pub(super) fn open(&self, cookie: &str, now: i64) -> Option<Login> {
        let mut sealed = (cookie.len() <= LONGEST).then(|| URL_SAFE_NO_PAD.decode(cookie).ok())??;
        let key = self.key_for(sealed.get(..SALT)?).ok()?;
        let opened = key.open_within(only_nonce(), Aad::from(PURPOSE), &mut sealed, SALT..).ok()?;
        let login: Login = serde_json::from_slice(opened).ok()?;
        (login.began - STEP_BACK..login.began + LIFETIME).contains(&now).then_some(login)
    }

    /// A key for one login: strangers begin as many as they like, and random nonces under one key would repeat one day.
    fn key_for(&self, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        Ok(LessSafeKey::new(extracted.expand(&[PURPOSE], &AES_256_GCM)?.into()))
    }
}

/// Each key seals one login.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    use super::*;

    fn sealed() -> (SealKey, Login, String) {
        let rng = SystemRandom::new();
        let key = SealKey::generate(&rng).unwrap();
        let login = Login::begin("realm", "https://gateway.example.com", ReturnTo::Own, 1000, &rng).unwrap();
        let cookie = key.seal(&login, &rng).unwrap();
        (key, login, cookie)
    }

    #[test]
    fn a_sealed_login_opens_with_its_key_until_its_end() {
        let (key, login, cookie) = sealed();
        let inherited = SealKey::from_text(&key.to_text()).unwrap();
        assert_eq!(inherited.open(&cookie, 1000), Some(login.clone()));
        assert_eq!(key.open(&cookie, 1000 + LIFETIME - 1), Some(login));
        assert_eq!(key.open(&cookie, 1000 + LIFETIME), None);
        assert!(key.open(&cookie, 1000 - STEP_BACK).is_some(), "the clock was set back a little");
        assert_eq!(key.open(&cookie, 999 - STEP_BACK), None, "from the future");
        assert_eq!(SealKey::generate(&SystemRandom::new()).unwrap().open(&cookie, 1000), None);
    }

    #[test]
    fn nothing_secret_is_readable_in_it() {
        let (_, login, cookie) = sealed();
        let shown = format!("{cookie} {login:?} {}", String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(&cookie).unwrap()));
        for secret in [&login.state, &login.nonce, &login.verifier] {
            assert!(!shown.contains(secret.as_str()));
        }
    }

    #[test]
    fn only_pages_on_the_list_are_returned_to() {
        assert_eq!(ReturnTo::from_path("/"), Some(ReturnTo::Status));
        assert_eq!(ReturnTo::from_path("/me"), Some(ReturnTo::Own));
        for foreign in ["", "//evil.example", "https://evil.example/", "/me/", "/\\evil.example", "/me?x=//evil.example", "me"] {
            assert_eq!(ReturnTo::from_path(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_cookie_does_not_open(at in 0_usize..1000, bit in 0_u8..8) {
            let (key, _, cookie) = sealed();
            let mut bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(bytes), 1000), None);
        }

        #[test]
        fn no_text_is_a_login(text in ".{0,200}") {
            prop_assert_eq!(sealed().0.open(&text, 1000), None);
        }
    }
}
