//! Headers added and removed.

use http::{HeaderName, HeaderValue};

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
    matches!(
        name,
        "host"
            | "connection"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "expect"
            | "authorization"
            | "api-key"
            | "x-api-key"
            | "proxy-authorization"
            | "cookie"
            | "set-cookie"
            | "x-request-id"
    ) || name.starts_with("x-spillway-")
        || name.starts_with("x-ms-spillover-")
}
