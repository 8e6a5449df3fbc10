//! Credentials of callers: API keys, tokens and certificates, and what they contain.

pub mod certificate;
mod digest;
pub mod jwt;
pub mod key_text;
mod keys;

pub use digest::{Digest, ParseDigestError, Pepper, digest};
pub use keys::{KeyDigests, KeyTable, Stored, Validity};

use http::HeaderMap;

/// The credential that a caller sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'h> {
    /// No credential.
    None,
    /// A key, from `api-key`, `x-api-key` or `ocp-apim-subscription-key`, which callers of API Management send.
    Key(&'h [u8]),
    /// A key or a token, from `Authorization: Bearer`, or from the subprotocols that a browser sends.
    Bearer(&'h [u8]),
    /// Two headers with different credentials: it is not clear which one counts.
    Ambiguous,
}

impl<'h> Credential<'h> {
    /// The credential's value, if there is exactly one.
    pub fn value(self) -> Option<&'h [u8]> {
        match self {
            Credential::Key(value) | Credential::Bearer(value) => Some(value),
            Credential::None | Credential::Ambiguous => None,
        }
    }
}

/// Finds the caller's credential in its headers.
pub fn credential(headers: &HeaderMap) -> Credential<'_> {
    // One that is given in several headers is what the first of these makes it.
    let (mut bearer, mut key, mut offered) = (Given::Nothing, Given::Nothing, Given::Nothing);
    for (name, value) in headers {
        let value = value.as_bytes();
        match name.as_str() {
            "authorization" => bearer.add(bearer_token(value).unwrap_or_default()),
            "api-key" | "x-api-key" | "ocp-apim-subscription-key" => key.add(value),
            "sec-websocket-protocol" => offered_in(value).for_each(|key| offered.add(key)),
            _ => {}
        }
    }
    let mut all = bearer;
    [key, offered].into_iter().for_each(|other| all.join(other));
    match (all, key) {
        (Given::Nothing, _) => Credential::None,
        (Given::Several, _) => Credential::Ambiguous,
        (Given::One(value), Given::One(_)) if bearer == Given::Nothing => Credential::Key(value),
        (Given::One(value), _) => Credential::Bearer(value),
    }
}

/// The different values of one kind of credential.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given<'h> {
    Nothing,
    One(&'h [u8]),
    Several,
}

impl<'h> Given<'h> {
    /// Adds a value; an empty one is none.
    fn add(&mut self, value: &'h [u8]) {
        match self {
            _ if value.is_empty() => {}
            Given::Nothing => *self = Given::One(value),
            Given::One(before) if *before == value => {}
            _ => *self = Given::Several,
        }
    }

    fn join(&mut self, other: Self) {
        match other {
            Given::Nothing => {}
            Given::One(value) => self.add(value),
            Given::Several => *self = Given::Several,
        }
    }
}

/// Credentials in the subprotocols besides `realtime`: a browser can't set another header.
fn offered_in(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEGIN: &[u8] = b"openai-insecure-api-key.";
    value.split(|byte| *byte == b',').filter_map(|name| {
        let (begin, key) = name.trim_ascii().split_at_checked(BEGIN.len())?;
        begin.eq_ignore_ascii_case(BEGIN).then_some(key)
    })
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn keys_arrive_in_three_headers() {
        for pair in [("api-key", "k"), ("x-api-key", "k"), ("ocp-apim-subscription-key", "k")] {
            assert!(credential(&headers(&[pair])) == Credential::Key(b"k"), "{pair:?}");
        }
        for pair in [("authorization", "Bearer k"), ("authorization", "bearer  k ")] {
            assert!(credential(&headers(&[pair])) == Credential::Bearer(b"k"), "{pair:?}");
        }
        let offered = [("sec-websocket-protocol", "realtime, openai-insecure-api-key.k ,openai-beta.realtime-v1")];
        assert!(credential(&headers(&offered)) == Credential::Bearer(b"k"));
        assert!(credential(&headers(&[offered[0], ("api-key", "j")])) == Credential::Ambiguous);
        assert!(credential(&headers(&[])) == Credential::None);
        assert!(credential(&headers(&[("authorization", "Basic k")])) == Credential::None);
    }

    #[test]
    fn two_credentials_are_ambiguous_unless_equal() {
        assert!(credential(&headers(&[("api-key", "k"), ("authorization", "Bearer k")])) == Credential::Bearer(b"k"));
        assert!(credential(&headers(&[("api-key", "k"), ("authorization", "Bearer j")])) == Credential::Ambiguous);
        assert!(credential(&headers(&[("api-key", "k"), ("api-key", "j")])) == Credential::Ambiguous);
    }
}
