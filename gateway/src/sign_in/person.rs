//! A person, as the issuer's ID token describes it.

use serde::{Deserialize, Serialize};
use spillway_plugins::auth::jwt::Claims;

/// Longest name that is shown.
const LONGEST_NAME: usize = 128;
/// Most app roles, and most groups, that are kept: Entra puts at most 200 groups into a token.
const MOST: usize = 500;

/// A person who has signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Identifies the person at the issuer and never changes: `oid` in Entra's tokens, otherwise `sub`.
    pub subject: String,
    /// The name to show; it identifies nobody.
    pub name: String,
    /// An address that the issuer vouches for: `email` with `email_verified`, or Entra's `upn`. It may be given to somebody
    /// else later, which `subject` never is.
    pub email: Option<String>,
    /// App roles (claim `roles`).
    pub roles: Vec<String>,
    /// Ids of groups (claim `groups`).
    pub groups: Vec<String>,
}

impl Person {
    /// The person that a verified ID token is about; `None` if it names none.
    pub fn of(claims: &Claims) -> Option<Self> {
        // Entra's `sub` differs between applications; `oid` is the person's id in the tenant.
        let of_tenant = claims.has("tid");
        let subject = claims.text("oid").filter(|_| of_tenant).or_else(|| claims.text("sub"))?.to_owned();
        let name = claims.text("name").or_else(|| claims.text("preferred_username")).unwrap_or(&subject);
        let email = claims.text("email").filter(|_| claims.is_true("email_verified"));
        let email = email.or_else(|| claims.text("upn").filter(|_| of_tenant));
        let owned = |texts: Vec<&str>| texts.into_iter().take(MOST).map(str::to_owned).collect();
        Some(Person {
            name: shown(name),
            email: email.map(shown),
            roles: owned(claims.roles()),
            groups: owned(claims.texts("groups")),
            subject,
        })
    }
}

/// A text on one line that can't change how what is around it reads: no control characters, and none that turn the
/// direction of text.
fn shown(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    text.chars().filter(|c| !c.is_control() && !turns(*c)).take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn person(claims: Value) -> Option<Person> {
        Person::of(&serde_json::from_value(claims).unwrap())
    }

    #[test]
    fn entras_person_is_its_object_id_and_others_are_their_subject() {
        let entra = person(json!({ "sub": "pairwise", "oid": "object", "tid": "tenant", "name": "Ada" })).unwrap();
        assert_eq!((entra.subject.as_str(), entra.name.as_str()), ("object", "Ada"));
        assert_eq!(person(json!({ "sub": "s", "oid": "self-chosen" })).unwrap().subject, "s");
        assert_eq!(person(json!({ "name": "Ada" })), None);
    }

    #[test]
    fn only_an_address_that_the_issuer_vouches_for_is_one() {
        let email = |claims: Value| person(claims).unwrap().email;
        assert_eq!(email(json!({ "sub": "s", "email": "ada@example.com" })), None);
        assert_eq!(email(json!({ "sub": "s", "email": "ada@example.com", "email_verified": "true" })), None);
        assert_eq!(email(json!({ "sub": "s", "email": "ada@example.com", "email_verified": true })).unwrap(), "ada@example.com");
        assert_eq!(email(json!({ "sub": "s", "upn": "ada@example.com" })), None);
        assert_eq!(email(json!({ "sub": "s", "tid": "t", "upn": "ada@example.com" })).unwrap(), "ada@example.com");
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let name = person(json!({ "sub": "s", "name": "Ada\n\u{202e}level=ERROR \u{1b}[31m" })).unwrap().name;
        assert_eq!(name, "Adalevel=ERROR [31m");
        assert_eq!(person(json!({ "sub": "s", "name": "x".repeat(1000) })).unwrap().name.len(), LONGEST_NAME);
    }
}
