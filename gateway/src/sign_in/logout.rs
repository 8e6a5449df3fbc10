//! The issuer ends sessions: OpenID Connect Back-Channel Logout 1.0, where it sends a signed token, and Front-Channel Logout
//! 1.0, where it lets the browser open an address.

use std::sync::Arc;

use spillway_plugins::auth::jwt::{Claims, TokenError};

use super::person::{Person, subject_of};

/// The event that a logout token must have.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How old a logout token may be, and how far ahead the issuer's clock, in seconds.
const AGE: i64 = 600;

/// Longest `sid`, in bytes; a longer one is taken as none.
pub(super) const LONGEST_SID: usize = 255;

/// The issuer's own session that a token is about.
pub(super) fn sid(claims: &Claims) -> Option<String> {
    claims.text("sid").filter(|sid| sid.len() <= LONGEST_SID).map(str::to_owned)
}

/// Which sessions end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logout {
    /// One session of the issuer's.
    pub(super) sid: Option<String>,
    /// The person.
    pub(super) subject: Option<String>,
}

impl Logout {
    /// Whether the session of this person, which belongs to this session of the issuer's, ends.
    pub(super) fn means(&self, subject: &str, sid: Option<&str>) -> bool {
        let is_person = self.subject.as_deref().map(|own| own == subject);
        match (&self.sid, sid) {
            (None, _) => is_person == Some(true),
            (Some(own), Some(sid)) => own == sid && is_person != Some(false),
            // To which of the issuer's sessions it belongs isn't known: better one too many ends.
            (Some(_), None) => is_person == Some(true),
        }
    }
}

/// Whose sessions have ended, one for each session.
pub type LoggedOut = Vec<Arc<Person>>;

/// Why the issuer's wish to end sessions is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogoutError {
    /// The issuer's keys are not known.
    #[error("the issuer's keys could not be fetched yet")]
    NotReady,
    /// The token is not valid.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// It is no logout token.
    #[error("the token is no logout token (claim 'events')")]
    Event,
    /// It may be an ID token.
    #[error("a logout token has no 'nonce'")]
    Nonce,
    /// It was made too long ago, or will be.
    #[error("the token's time is missing or too far from this machine's (claim 'iat')")]
    Time,
    /// It has no id.
    #[error("the token has no id (claim 'jti')")]
    NoId,
    /// It was used before.
    #[error("the token was used before (claim 'jti')")]
    Replayed,
    /// It names no session.
    #[error("neither a session ('sid') nor a person ('sub') is named")]
    Nobody,
    /// It is from another issuer.
    #[error("the issuer is not the configured one (parameter 'iss')")]
    Issuer,
}

/// What the claims of a token with a good signature end.
///
/// # Errors
/// [`LogoutError`]
pub(super) fn checked(claims: &Claims, is_entra: bool, now: i64) -> Result<Logout, LogoutError> {
    if !claims.has_event(EVENT) {
        return Err(LogoutError::Event);
    }
    // So that no ID token can be used as one.
    if claims.has("nonce") {
        return Err(LogoutError::Nonce);
    }
    if !claims.number("iat").is_some_and(|made| (now.saturating_sub(AGE)..=now.saturating_add(AGE)).contains(&made)) {
        return Err(LogoutError::Time);
    }
    if claims.text("jti").is_none() {
        return Err(LogoutError::NoId);
    }
    let logout = Logout { sid: claims.text("sid").map(str::to_owned), subject: subject_of(claims, is_entra).map(str::to_owned) };
    if logout.sid.is_none() && logout.subject.is_none() {
        return Err(LogoutError::Nobody);
    }
    Ok(logout)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn check(change: Value) -> Result<Logout, LogoutError> {
        let mut claims = json!({ "iat": NOW, "jti": "one", "sub": "ada", "sid": "s", "events": { EVENT: {} } });
        for (name, value) in change.as_object().unwrap() {
            claims[name.as_str()] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        checked(&serde_json::from_value(claims).unwrap(), false, NOW)
    }

    #[test]
    fn a_logout_token_names_a_session_a_person_or_both() {
        let logout = |sid: Option<&str>, subject: Option<&str>| Logout { sid: sid.map(str::to_owned), subject: subject.map(str::to_owned) };
        assert_eq!(check(json!({})), Ok(logout(Some("s"), Some("ada"))));
        assert_eq!(check(json!({ "sub": null })), Ok(logout(Some("s"), None)));
        assert_eq!(check(json!({ "sid": null })), Ok(logout(None, Some("ada"))));
        assert_eq!(check(json!({ "sub": null, "sid": null })), Err(LogoutError::Nobody));
    }

    #[test]
    fn what_is_no_logout_token_ends_nothing() {
        for (change, error) in [
            (json!({ "events": null }), LogoutError::Event),
            (json!({ "events": {} }), LogoutError::Event),
            (json!({ "events": { EVENT: true } }), LogoutError::Event),
            (json!({ "events": [EVENT] }), LogoutError::Event),
            (json!({ "events": EVENT }), LogoutError::Event),
            (json!({ "nonce": "n" }), LogoutError::Nonce),
            (json!({ "nonce": "" }), LogoutError::Nonce),
            (json!({ "iat": null }), LogoutError::Time),
            (json!({ "iat": "soon" }), LogoutError::Time),
            (json!({ "iat": NOW - AGE - 1 }), LogoutError::Time),
            (json!({ "iat": NOW + AGE + 1 }), LogoutError::Time),
            (json!({ "jti": null }), LogoutError::NoId),
            (json!({ "jti": 7 }), LogoutError::NoId),
        ] {
            assert_eq!(check(change.clone()), Err(error), "{change}");
        }
    }
}
