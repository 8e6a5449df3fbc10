//! Credentials of callers: API keys, tokens and certificates, and what they contain.

pub mod certificate;
mod digest;
pub mod jwt;
pub mod key_text;
mod keys;

pub use digest::{Digest, ParseDigestError, Pepper, digest};
pub use keys::{KeyDigests, KeyTable, Stored, Validity};

use http::{HeaderMap, HeaderName, header};

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

/// Headers that contain a key.
const KEYS: [HeaderName; 3] =
    [HeaderName::from_static("api-key"), HeaderName::from_static("x-api-key"), HeaderName::from_static("ocp-apim-subscription-key")];

/// Finds the caller's credential in its headers.
pub fn credential(headers: &HeaderMap) -> Credential<'_> {
    let mut found = Credential::None;
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| bearer_token(value.as_bytes())).map(Credential::Bearer);
    let keys = KEYS.into_iter().flat_map(|name| headers.get_all(name)).map(|value| Credential::Key(value.as_bytes()));
    for given in bearer.chain(keys).chain(offered(headers)).filter(|given| given.value().is_some_and(|value| !value.is_empty())) {
        match found {
            Credential::None => found = given,
            before if before.value() == given.value() => {}
            _ => return Credential::Ambiguous,
        }
    }
    found
}

/// Credentials in the subprotocols besides `realtime`: a browser can't set another header.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = Credential<'_>> {
    const BEGIN: &[u8] = b"openai-insecure-api-key.";
    let names = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| {
        let (begin, key) = name.trim_ascii().split_at_checked(BEGIN.len())?;
        begin.eq_ignore_ascii_case(BEGIN).then_some(Credential::Bearer(key))
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
