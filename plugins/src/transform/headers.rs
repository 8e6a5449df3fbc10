//! Headers added and removed.

use http::{HeaderName, HeaderValue};

use crate::fields::{is_callers_own, is_hop_by_hop};

/// What becomes of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Headers that are set, whatever stood there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are taken out.
    pub remove: Vec<HeaderName>,
}

/// Whether a header is the gateway's own affair: framing, routing, credentials, and what it tells itself.
pub fn is_protected(name: &str) -> bool {
    let framing = ["content-length", "content-type", "content-encoding"];
    let told = ["set-cookie", "retry-after", "retry-after-ms", "x-should-retry"];
    // A socket's handshake is between the caller and the backend.
    is_hop_by_hop(name) || is_callers_own(name) || framing.contains(&name) || told.contains(&name)
}
