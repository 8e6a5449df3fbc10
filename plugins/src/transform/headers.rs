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
            | "accept-encoding"
            | "ocp-apim-subscription-key"
            | "openai-organization"
            | "openai-project"
            | "proxy-connection"
            | "proxy-authenticate"
            | "http2-settings"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-http-method-override"
            | "retry-after"
            | "retry-after-ms"
            | "x-should-retry"
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
