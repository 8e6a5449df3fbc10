//! A person, as the issuer's ID token describes it.

use std::fmt;

use serde::{Deserialize, Serialize};
use spillway_plugins::auth::jwt::Claims;

/// Longest name that is shown.
const LONGEST_NAME: usize = 128;
/// Longest subject, in bytes (OpenID Connect Core 1.0, 2).
const LONGEST_SUBJECT: usize = 255;
/// Longest app role or group, in bytes; longer ones are dropped.
const LONGEST_RIGHT: usize = 256;
/// Most app roles, and most groups, that are kept: Entra puts at most 200 groups into a token.
const MOST: usize = 500;

/// A person who has signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Identifies the person at the issuer and never changes: `oid` in Entra's tokens, otherwise `sub`.
    pub subject: String,
    /// The name to show; it identifies no person.
    pub name: String,
    /// An address that the issuer vouches for: `email` with `email_verified`, or Entra's `upn`. It may be given to somebody
    /// else later, which `subject` never is.
    pub email: Option<String>,
    /// App roles (claim `roles`).
    pub roles: Vec<String>,
    /// Ids of groups (claim `groups`).
    pub groups: Vec<String>,
    /// Whether groups were left out of the token because there are too many, or some of them here.
    #[serde(default)]
    pub too_many_groups: bool,
}

impl fmt::Display for Person {
    /// For records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.name)
    }
}

impl Person {
    /// The person that a verified ID token of Entra, or of another issuer, is about; `None` if it names none.
    pub fn of(claims: &Claims, is_entra: bool) -> Option<Self> {
        let subject = subject_of(claims, is_entra)?.to_owned();
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.chars().any(char::is_control) {
            return None;
        }
        let name = claims.text("name").or_else(|| claims.text("preferred_username")).unwrap_or(&subject);
        let email = claims.text("email").filter(|_| claims.is_true("email_verified"));
        let email = email.or_else(|| claims.text("upn").filter(|_| is_entra));
        let (roles, groups) = (claims.roles(), claims.texts("groups"));
        let too_many_groups = groups.len() > MOST || claims.is_elsewhere("groups") || claims.is_true("hasgroups");
        // In Entra people make groups and name them as they like. Ids can't be chosen: a group counts by its id only, and
        // what looks like an id is no app role.
        let owned = |texts: Vec<&str>, are_ids: bool| -> Vec<String> {
            let counts = |text: &&str| text.len() <= LONGEST_RIGHT && (!is_entra || is_id(text) == are_ids);
            texts.into_iter().filter(counts).take(MOST).map(str::to_owned).collect()
        };
        Some(Person {
            name: shown(name),
            email: email.map(shown),
            roles: owned(roles, false),
            groups: owned(groups, true),
            too_many_groups,
            subject,
        })
    }
}

/// The subject that a token of Entra, or of another issuer, is about. Entra's `sub` differs between applications; `oid` is the
/// person's id in the tenant.
pub(super) fn subject_of(claims: &Claims, is_entra: bool) -> Option<&str> {
    claims.text("oid").filter(|_| is_entra).or_else(|| claims.text("sub"))
}

/// Whether a text has the form of Entra's ids: 8-4-4-4-12 hexadecimal digits.
fn is_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
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
        Person::of(&serde_json::from_value(claims).unwrap(), false)
    }

    fn of_entra(claims: Value) -> Option<Person> {
        Person::of(&serde_json::from_value(claims).unwrap(), true)
    }

    const GROUP: &str = "5c1e3a52-3f0e-4f6c-9f0b-2f7f0f0f7a10";

    #[test]
    fn in_entra_groups_count_by_id_and_roles_by_name() {
        let claims = json!({ "oid": "o", "roles": ["Gateway.Admin", GROUP], "groups": [GROUP, "Gateway.Admin"] });
        let entra = of_entra(claims.clone()).unwrap();
        assert_eq!((entra.roles, entra.groups), (vec!["Gateway.Admin".to_owned()], vec![GROUP.to_owned()]));
        let other = person(json!({ "sub": "s", "roles": claims["roles"], "groups": claims["groups"] })).unwrap();
        assert_eq!((other.roles.len(), other.groups.len()), (2, 2));
        for text in ["", "5c1e3a523f0e4f6c9f0b2f7f0f0f7a10", "5c1e3a52-3f0e-4f6c-9f0b-2f7f0f0f7a1g", &format!("{GROUP}-0")] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn a_subject_or_right_that_is_too_long_or_has_control_characters_is_none() {
        for subject in ["", "a\nb", &"x".repeat(LONGEST_SUBJECT + 1)] {
            assert_eq!(person(json!({ "sub": subject })), None, "{subject:?}");
        }
        assert!(person(json!({ "sub": "x".repeat(LONGEST_SUBJECT) })).is_some());
        let long = "x".repeat(LONGEST_RIGHT + 1);
        let person = person(json!({ "sub": "s", "roles": [long, "r"], "groups": [long] })).unwrap();
        assert_eq!((person.roles, person.groups.len()), (vec!["r".to_owned()], 0));
    }

    #[test]
    fn too_many_groups_are_known_also_of_somebody_with_a_role() {
        let has = |claims: Value| of_entra(claims).unwrap().too_many_groups;
        assert!(!has(json!({ "oid": "o", "groups": [GROUP] })));
        assert!(has(json!({ "oid": "o", "_claim_names": { "groups": "src1" } })));
        assert!(has(json!({ "oid": "o", "hasgroups": true })));
        assert!(has(json!({ "oid": "o", "groups": vec![GROUP; MOST + 1] })));
    }

    #[test]
    fn entras_person_is_its_object_id_and_others_are_their_subject() {
        let entra = of_entra(json!({ "sub": "pairwise", "oid": "object", "tid": "tenant", "name": "Ada" })).unwrap();
        assert_eq!((entra.subject.as_str(), entra.name.as_str()), ("object", "Ada"));
        assert_eq!(person(json!({ "sub": "s", "oid": "self-chosen", "tid": "self-chosen" })).unwrap().subject, "s");
        // Without the scope `profile` there is no `oid`.
        assert_eq!(of_entra(json!({ "sub": "s" })).unwrap().subject, "s");
        assert_eq!(person(json!({ "name": "Ada" })), None);
    }

    #[test]
    fn only_an_address_that_the_issuer_vouches_for_is_one() {
        let email = |claims: Value| person(claims).unwrap().email;
        assert_eq!(email(json!({ "sub": "s", "email": "ada@example.com" })), None);
        assert_eq!(email(json!({ "sub": "s", "email": "ada@example.com", "email_verified": "true" })), None);
        assert_eq!(email(json!({ "sub": "s", "email": "ada@example.com", "email_verified": true })).unwrap(), "ada@example.com");
        assert_eq!(email(json!({ "sub": "s", "upn": "ada@example.com" })), None);
        assert_eq!(email(json!({ "sub": "s", "tid": "t", "upn": "ada@example.com" })), None);
        let entra = of_entra(json!({ "oid": "o", "upn": "ada@example.com" })).unwrap();
        assert_eq!(entra.email.as_deref(), Some("ada@example.com"));
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let name = person(json!({ "sub": "s", "name": "Ada\n\u{202e}level=ERROR \u{1b}[31m" })).unwrap().name;
        assert_eq!(name, "Adalevel=ERROR [31m");
        assert_eq!(person(json!({ "sub": "s", "name": "x".repeat(1000) })).unwrap().name.len(), LONGEST_NAME);
    }
}
