//! Headers added and removed.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};

use crate::fields::{is_callers_own, is_hop_by_hop};

/// Changes to headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Headers that are set, whatever their value was.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// The changes in words, the same on every node. Empty if there are none.
    pub fn in_words(&self) -> String {
        let mut words = String::new();
        let mut remove: Vec<&str> = self.remove.iter().map(HeaderName::as_str).collect();
        remove.sort_unstable();
        // A name has no colon and no blank, so that neither is taken for what a caller sends. Writing to a text can't fail.
        for name in remove {
            let _ = write!(words, "remove: {name};");
        }
        for (name, value) in &self.set {
            let _ = write!(words, "set: {name}={:?};", value.as_bytes());
        }
        words
    }
}

/// Whether a header belongs to the gateway: framing, routing, credentials, and its own headers.
pub fn is_protected(name: &str) -> bool {
    let framing = ["content-length", "content-type", "content-encoding"];
    let answers_own = ["set-cookie", "retry-after", "retry-after-ms", "x-should-retry"];
    // A socket's handshake belongs to the caller and the backend.
    is_hop_by_hop(name) || is_callers_own(name) || framing.contains(&name) || answers_own.contains(&name)
}
