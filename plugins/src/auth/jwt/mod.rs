//! Access tokens of an OIDC issuer, such as Entra: verifies a token and returns its claims.
//!
//! Sources: RFC 7519 (claims), RFC 7515 (`alg`, `kid`, `crit`), RFC 8725 (known attacks), and Microsoft's "Secure
//! applications and APIs by validating claims".

mod claims;
mod crypto;
mod jwks;
#[cfg(test)]
mod tests;

pub use claims::Claims;
pub use crypto::install_crypto;
pub use jsonwebtoken::Algorithm;
pub use jwks::{JwksError, KeySet};

use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};

/// What is required of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Accepted `iss` claims; `{tenantid}` is replaced by the token's own `tid`.
    pub issuers: Vec<String>,
    /// Accepted `aud` claims.
    pub audiences: Vec<String>,
    /// Accepted `tid` claims; empty for any.
    pub tenants: Vec<String>,
    /// Accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// How much the issuer's clock may differ.
    pub skew: Duration,
}

/// A valid token.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Its claims.
    pub claims: Claims,
    /// When it expires, with the clock difference added, in seconds since 1970.
    pub expires: i64,
}

/// Why a token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// It can't be parsed.
    #[error("the token can't be read")]
    Malformed,
    /// Its signature algorithm is not accepted.
    #[error("the token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// Its key is not among the issuer's known keys.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is from another issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// It is for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// It is from another tenant.
    #[error("the token is from another tenant")]
    Tenant,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYetValid,
}

impl TokenError {
    /// All, for metrics that export every label from the start.
    pub const ALL: [TokenError; 9] = [
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::UnknownKey,
        TokenError::Signature,
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::Tenant,
        TokenError::Expired,
        TokenError::NotYetValid,
    ];

    /// A short label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            TokenError::Malformed => "token_malformed",
            TokenError::Algorithm => "token_algorithm",
            TokenError::UnknownKey => "token_unknown_key",
            TokenError::Signature => "token_signature",
            TokenError::Issuer => "token_issuer",
            TokenError::Audience => "token_audience",
            TokenError::Tenant => "token_tenant",
            TokenError::Expired => "token_expired",
            TokenError::NotYetValid => "token_not_yet_valid",
        }
    }
}

/// Whether a bearer credential is a token rather than a key: three parts in base64url, with dots between them (RFC
/// 7515, 7.1).
pub fn looks_like_token(credential: &[u8]) -> bool {
    let base64url = |part: &[u8]| !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    credential.iter().filter(|byte| **byte == b'.').count() == 2 && credential.split(|byte| *byte == b'.').all(base64url)
}

/// Checks a token against the issuer's keys at `now` (seconds since 1970).
///
/// [`install_crypto`] must have been called.
///
/// # Errors
/// [`TokenError`]; after [`TokenError::UnknownKey`], fetching the keys again may help.
pub fn verify(token: &[u8], rules: &Rules, keys: &KeySet, now: i64) -> Result<Verified, TokenError> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        // `none` and invented names are not known algorithms.
        ErrorKind::Json(_) | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    })?;
    // An extension that must be understood, but is not known here (RFC 7515, 4.1.11).
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    if !rules.algorithms.contains(&header.alg) {
        return Err(TokenError::Algorithm);
    }
    let key = keys.find(header.kid.as_deref(), header.alg).ok_or(TokenError::UnknownKey)?;
    let mut validation = Validation::new(header.alg);
    // Time is an argument here, so these claims are checked below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_audience(&rules.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let decoded = decode::<Claims>(token, &key.decoding, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::Provider(_) => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
        _ => TokenError::Malformed,
    })?;
    let claims = decoded.claims;
    check_issuer(&claims, rules, key.issuer.as_deref())?;
    let skew = i64::try_from(rules.skew.as_secs()).unwrap_or(i64::MAX / 4);
    let expires = claims.number("exp").ok_or(TokenError::Malformed)?.saturating_add(skew);
    if expires <= now {
        return Err(TokenError::Expired);
    }
    match (claims.has("nbf"), claims.number("nbf")) {
        (true, None) => return Err(TokenError::Malformed),
        (_, Some(from)) if from.saturating_sub(skew) > now => return Err(TokenError::NotYetValid),
        _ => {}
    }
    Ok(Verified { claims, expires })
}

fn check_issuer(claims: &Claims, rules: &Rules, of_key: Option<&str>) -> Result<(), TokenError> {
    let issuer = claims.text("iss").ok_or(TokenError::Issuer)?;
    let tenant = claims.text("tid");
    let fits = |accepted: &str| match accepted.contains(TENANT) {
        true => tenant.filter(|tenant| is_guid(tenant)).is_some_and(|tenant| accepted.replace(TENANT, tenant) == issuer),
        false => accepted == issuer,
    };
    // A key of Entra's may name the issuer whose tokens it signs, always in the form of version 2: then that must be
    // the token's issuer, or another accepted form, for the same tenant.
    let resolved = |accepted: &str| accepted.replace(TENANT, tenant.unwrap_or_default());
    let key_fits = |of_key: &str| fits(of_key) || rules.issuers.iter().any(|accepted| resolved(accepted) == resolved(of_key));
    if !rules.issuers.iter().any(|accepted| fits(accepted)) || of_key.is_some_and(|of_key| !key_fits(of_key)) {
        return Err(TokenError::Issuer);
    }
    if !rules.tenants.is_empty() && !tenant.is_some_and(|tenant| rules.tenants.iter().any(|known| known == tenant)) {
        return Err(TokenError::Tenant);
    }
    Ok(())
}

/// The placeholder for the tenant in issuers of many tenants.
const TENANT: &str = "{tenantid}";

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}
