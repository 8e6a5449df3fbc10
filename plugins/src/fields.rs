//! Which header fields are whose: read by what passes heads on, and by what may change them.

/// Fields that belong to one connection (RFC 9110, 7.6.1).
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields of a caller that never reach an upstream: credentials, what addresses or scopes an
/// account, what says where the caller is, and what the gateway sets itself. Azure's spillover
/// header would let a caller choose a deployment.
pub fn is_callers_own(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "api-key"
            | "x-api-key"
            | "cookie"
            | "host"
            | "expect"
            | "accept-encoding"
            | "openai-organization"
            | "openai-project"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-forwarded-port"
            | "x-real-ip"
            | "via"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-http-method-override"
            | "x-request-id"
            | "ocp-apim-subscription-key"
    ) || name.starts_with("x-spillway-")
        || name.starts_with("x-ms-spillover-")
}
