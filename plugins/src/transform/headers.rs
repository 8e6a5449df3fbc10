//! Headers added and removed.

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

/// Whether a header belongs to the gateway: framing, routing, credentials, and its own headers.
pub fn is_protected(name: &str) -> bool {
    let framing = ["content-length", "content-type", "content-encoding"];
    let answers_own = ["set-cookie", "retry-after", "retry-after-ms", "x-should-retry"];
    // A socket's handshake belongs to the caller and the backend.
    is_hop_by_hop(name) || is_callers_own(name) || framing.contains(&name) || answers_own.contains(&name)
}
