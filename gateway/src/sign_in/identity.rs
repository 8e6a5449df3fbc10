//! An ID token becomes a person: the checks of OpenID Connect Core 1.0, 3.1.3.7.

use std::time::Duration;

use spillway_plugins::auth::jwt::{Claims, TokenError, verify};

use super::error::{LackingToken, SignInError};
use super::person::Person;
use super::secret_text::equal;
use crate::callers::issuer::Issuer;
use crate::clock::Clock;
use crate::config::{Role, SignInRules};

/// How long a login waits for new keys, if its token names one that is not known.
const NEW_KEYS: Duration = Duration::from_secs(3);

/// Verifies a token that the issuer made for this application: signature, issuer, audience and times. If its key is not known, the
/// issuer's keys are fetched.
pub(super) async fn signed(token: &str, issuer: &Issuer, clock: &Clock) -> Result<Claims, TokenError> {
    let check = || {
        let (number, (keys, _)) = (issuer.number(), issuer.keys());
        (number, verify(token.as_bytes(), &issuer.config.rules, &keys, clock.wall().timestamp()))
    };
    let (seen, mut outcome) = check();
    if matches!(outcome, Err(TokenError::UnknownKey)) && issuer.renew(seen, clock, NEW_KEYS).await {
        outcome = check().1;
    }
    Ok(outcome?.claims)
}

/// Verifies an ID token, and that it is for the login with this nonce.
pub(super) async fn verified(token: &str, issuer: &Issuer, client_id: &str, nonce: &str, clock: &Clock) -> Result<Claims, SignInError> {
    let claims = signed(token, issuer, clock).await?;
    if !claims.text("nonce").is_some_and(|found| equal(found, nonce)) {
        return Err(SignInError::Nonce);
    }
    // A token for several audiences must say that this application asked for it.
    let party = claims.text("azp");
    if party.is_some_and(|party| party != client_id) || (party.is_none() && claims.texts("aud").len() > 1) {
        return Err(SignInError::AuthorizedParty);
    }
    Ok(claims)
}

/// The person that an ID token is about, and the role that the config gives to it.
pub(super) fn person(claims: &Claims, rules: &SignInRules) -> Result<(Person, Role), SignInError> {
    let person = Person::of(claims, rules.is_entra()).ok_or(SignInError::NoSubject)?;
    match rules.role_of(&person.roles, &person.groups) {
        Some(role) => Ok((person, role)),
        None => Err(SignInError::NoRole(Box::new(LackingToken {
            groups: person.groups.len(),
            too_many_groups: person.too_many_groups,
            name: person.name,
            subject: person.subject,
            roles: person.roles,
        }))),
    }
}
