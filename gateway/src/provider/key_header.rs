//! The header in which a kind of backend takes its key.

use http::HeaderValue;
use pingora::http::RequestHeader;

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
    pub fn insert(self, head: &mut RequestHeader, value: HeaderValue) {
        // Fails only for an invalid name, and these are constants.
        let _ = head.insert_header(self.name, value);
    }
}
