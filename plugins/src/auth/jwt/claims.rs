//! The claims of a token.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A token's claims.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Claims(Map<String, Value>);

impl std::fmt::Debug for Claims {
    // Names, without values: they may be personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Claims {
    /// Whether the token has this claim.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a claim, if it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The value of a claim, if it is a number, such as a time in seconds since 1970.
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.0.get(name)?;
        // RFC 7519 allows fractions in times.
        value.as_i64().or_else(|| value.as_f64().filter(|number| number.is_finite()).map(|number| number as i64))
    }

    /// The application that called: `azp` in version 2 of Entra's tokens, `appid` in version 1.
    pub fn application(&self) -> Option<&str> {
        self.text("azp").or_else(|| self.text("appid"))
    }

    /// The claim that names the consumer. `azp` and `appid` are equivalent.
    pub fn consumer(&self, claim: &str) -> Option<&str> {
        match claim {
            "azp" | "appid" => self.application(),
            other => self.text(other),
        }
    }

    /// Application roles (`roles`).
    pub fn roles(&self) -> Vec<&str> {
        self.texts("roles")
    }

    /// A claim that is a list of texts, such as `groups`, or one text, such as `aud` may be.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one],
            _ => Vec::new(),
        }
    }

    /// Whether a claim is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| *value == Value::Bool(true))
    }

    /// Whether the issuer left out a claim because its list is too long (OpenID Connect Core 1.0, 5.6.2: the claim's
    /// source is named instead). Entra does so with the groups of somebody who is in more than 200.
    pub fn is_elsewhere(&self, name: &str) -> bool {
        self.0.get("_claim_names").is_some_and(|names| names.get(name).is_some())
    }

    /// Whether the token is about a security event (RFC 8417, 2.2): `events` has a member of this name, an object.
    pub fn has_event(&self, name: &str) -> bool {
        self.0.get("events").and_then(|events| events.get(name)).is_some_and(Value::is_object)
    }

    /// Delegated scopes (`scp`, or `scope` with other issuers).
    pub fn scopes(&self) -> Vec<&str> {
        let text = self.text("scp").or_else(|| self.text("scope"));
        text.map_or_else(Vec::new, |text| text.split(' ').filter(|scope| !scope.is_empty()).collect())
    }
}
