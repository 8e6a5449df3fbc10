//! Who is calling: API keys to consumers.

mod keys;

pub use keys::{Digest, KeyTable, ParseDigestError, digest};

use http::HeaderMap;

/// The credential that a caller sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'h> {
    /// None at all.
    None,
    /// A key, from `api-key`, `x-api-key` or `Authorization: Bearer`.
    Key(&'h [u8]),
    /// Two headers with different credentials: nobody can say who calls.
    Ambiguous,
}

/// Finds the caller's credential in its headers.
pub fn credential(headers: &HeaderMap) -> Credential<'_> {
    let mut found = Credential::None;
    let bearer = headers.get_all("authorization").iter().map(|value| bearer_token(value.as_bytes()));
    let keys = ["api-key", "x-api-key"].into_iter().flat_map(|name| headers.get_all(name)).map(|value| Some(value.as_bytes()));
    for key in bearer.chain(keys).flatten().filter(|key| !key.is_empty()) {
        match found {
            Credential::None => found = Credential::Key(key),
            Credential::Key(before) if before == key => {}
            _ => return Credential::Ambiguous,
        }
    }
    found
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
        for pair in [("api-key", "k"), ("x-api-key", "k"), ("authorization", "Bearer k"), ("authorization", "bearer  k ")] {
            assert!(credential(&headers(&[pair])) == Credential::Key(b"k"), "{pair:?}");
        }
        assert!(credential(&headers(&[])) == Credential::None);
        assert!(credential(&headers(&[("authorization", "Basic k")])) == Credential::None);
    }

    #[test]
    fn two_credentials_are_ambiguous_unless_equal() {
        assert!(credential(&headers(&[("api-key", "k"), ("authorization", "Bearer k")])) == Credential::Key(b"k"));
        assert!(credential(&headers(&[("api-key", "k"), ("authorization", "Bearer j")])) == Credential::Ambiguous);
        assert!(credential(&headers(&[("api-key", "k"), ("api-key", "j")])) == Credential::Ambiguous);
    }
}
