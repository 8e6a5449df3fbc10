//! The header in which a kind of backend takes its key.

use http::{HeaderName, HeaderValue};

use super::signer::{BadKey, Signer, Signing};
use crate::http1::fields::HeadFields as _;
use crate::http1::request_head::RequestHead;

/// The header in which a kind of backend takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHeader {
    name: &'static str,
    /// What its value has before the key.
    scheme: &'static str,
}

impl KeyHeader {
    /// `authorization: Bearer …`, as for tokens.
    pub const BEARER: KeyHeader = KeyHeader { name: "authorization", scheme: "Bearer " };

    /// A header that has the key alone; its name is in small letters.
    pub const fn plain(name: &'static str) -> Self {
        KeyHeader { name, scheme: "" }
    }

    /// The header's value for `key`, marked so that it never shows up in a log.
    pub fn value(self, key: &[u8]) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(&[self.scheme.as_bytes(), key].concat()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Puts a value into a head.
    pub fn insert(self, head: &mut RequestHead, value: &HeaderValue) {
        head.set(&HeaderName::from_static(self.name), value.as_bytes());
    }
}

/// Shows a key in a header.
pub(super) struct KeyInHeader {
    header: KeyHeader,
    value: Option<HeaderValue>,
}

impl std::fmt::Debug for KeyInHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyInHeader({})", self.header.name)
    }
}

impl KeyInHeader {
    pub(super) fn new(key: &str, header: KeyHeader) -> Self {
        KeyInHeader { header, value: header.value(key.as_bytes()) }
    }
}

impl Signer for KeyInHeader {
    fn sign(&self, head: &mut RequestHead, _: &Signing<'_>) -> Result<(), BadKey> {
        self.header.insert(head, self.value.as_ref().ok_or(BadKey)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn a_key_is_shown_in_its_header_and_nowhere_else() {
        let signing = Signing::without_body(DateTime::UNIX_EPOCH);
        for (header, name, value) in
            [(KeyHeader::BEARER, "authorization", "Bearer CANARY"), (KeyHeader::plain("x-api-key"), "x-api-key", "CANARY")]
        {
            let signer = KeyInHeader::new("CANARY", header);
            let mut head = RequestHead::new(http::Method::GET, b"/").unwrap();
            signer.sign(&mut head, &signing).unwrap();
            assert_eq!(head.iter().collect::<Vec<_>>(), [(name, value.as_bytes())]);
            assert!(!format!("{signer:?} {head:?}").contains("CANARY"));
            assert_eq!(KeyInHeader::new("a\nb", header).sign(&mut head, &signing), Err(BadKey));
        }
    }
}
