//! Which header fields belong to whom: for the code that sends heads on, and for the code that may change them.

use crate::scan;

/// Fields that belong to one connection (RFC 9110, 7.6.1; RFC 6455, 11.3).
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
    ) || name.starts_with("sec-websocket-")
}

/// Fields of a caller that are never sent upstream: credentials, fields that address or scope an account, fields that
/// locate the caller, and those that the gateway itself sets or undoes.
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
            | "content-encoding"
            | "openai-organization"
            | "openai-project"
            | "forwarded"
            | "x-real-ip"
            | "via"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-request-id"
            | "ocp-apim-subscription-key"
            | "origin"
    ) || name.starts_with("x-spillway-")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-original-")
}

/// Fields with which a caller could choose a deployment, an account, a price or a content filter other than the one
/// that was checked. They are sent upstream only for a consumer whose config lists them.
pub fn is_withheld(name: &str) -> bool {
    /// Fields that Azure's SDKs send, which only name or date a request.
    const HARMLESS: [&str; 4] = ["x-ms-client-request-id", "x-ms-return-client-request-id", "x-ms-useragent", "x-ms-date"];
    match name.as_bytes() {
        [b'x', b'-', rest @ ..] => match rest {
            [b'm', b's', b'-', ..] => !HARMLESS.contains(&name),
            [b'p', ..] => name == "x-policy-id" || name.starts_with("x-portkey-"),
            [b'a', ..] => name == "x-api-version" || name.starts_with("x-amz") || name.starts_with("x-azure-"),
            [b'g', ..] => name == "x-goog-user-project" || name == "x-goog-api-key" || name.starts_with("x-gateway-"),
            [b'l', ..] => name.starts_with("x-litellm-"),
            [b'e', ..] => name.starts_with("x-envoy-"),
            [b'd', ..] => name == "x-data-parallel-rank",
            [b's', ..] => name == "x-selected-model",
            _ => false,
        },
        [b'a', ..] => {
            name == "api-version"
                // A workspace, a user's profile, an organization: they choose who is billed.
                || (name.starts_with("anthropic-") && name.ends_with("-id"))
                || name.starts_with("azureml-")
                || name.starts_with("apim-")
        }
        [b'o', ..] => name.starts_with("ocp-apim-"),
        [b'h', ..] => name.starts_with("helicone-"),
        [b'c', b'f', ..] => name.starts_with("cf-aig-"),
        _ => false,
    }
}

/// Whether a server that passes fields on as variables (CGI, WSGI) could take a field for one that decides about framing, or that
/// is not for it: there `_` and `-` are the same, and sometimes `.`, too.
pub fn is_like_another(name: &str) -> bool {
    scan::joint(name.as_bytes()).is_some() && is_like(&name.replace(['_', '.'], "-"))
}

#[cold]
fn is_like(folded: &str) -> bool {
    matches!(folded, "content-length" | "content-type") || is_hop_by_hop(folded) || is_callers_own(folded) || is_withheld(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_in_a_name_hide_nothing() {
        for name in [
            "x_ms_service_tier",
            "x-ms_service-tier",
            "x.ms.service.tier",
            "transfer_encoding",
            "content_length",
            "x_api_key",
            "te_",
            "host_",
        ] {
            let expected = !matches!(name, "te_" | "host_");
            assert_eq!(is_like_another(name), expected, "{name}");
        }
        for name in ["x-ms-service-tier", "session_id", "x_app", "content-length"] {
            assert!(!is_like_another(name), "{name}");
        }
    }

    #[test]
    fn what_chooses_for_the_operator_stays_here() {
        for name in [
            "x-ms-oai-image-generation-deployment",
            "x-ms-service-tier",
            "x-ms-spillover-deployment",
            "x-ms-model-mesh-model-name",
            "x-policy-id",
            "azureml-model-deployment",
            "x-amzn-bedrock-guardrailidentifier",
            "x-goog-user-project",
            "api-version",
            "anthropic-workspace-id",
            "anthropic-user-profile-id",
            "anthropic-organization-id",
            "ocp-apim-trace",
            "helicone-target-url",
            "cf-aig-authorization",
        ] {
            assert!(is_withheld(name), "{name}");
        }
    }

    #[test]
    fn what_sdks_send_travels() {
        for name in [
            "accept",
            "content-type",
            "user-agent",
            "openai-beta",
            "anthropic-version",
            "anthropic-beta",
            "anthropic-dangerous-direct-browser-access",
            "idempotency-key",
            "x-stainless-lang",
            "x-stainless-retry-count",
            "x-ms-client-request-id",
            "x-ms-useragent",
            "x-client-request-id",
            "x-session-id",
            "x-app",
            "x-goog-api-client",
            "originator",
            "session_id",
            "aoai-evals",
            "traceparent",
        ] {
            assert!(!is_withheld(name) && !is_callers_own(name) && !is_hop_by_hop(name), "{name}");
        }
    }
}
