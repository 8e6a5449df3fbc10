//! Reads the cause of an error from the vendors' error bodies and error events.

use crate::json::{Kind, Reader, Value};

/// The meaning of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Rate or capacity limits.
    RateLimited,
    /// There is no capacity for the service tier `flex` now.
    FlexUnavailable,
    /// The account's quota or spend limit.
    OutOfQuota,
    /// The deployment doesn't exist at this resource.
    NoDeployment,
    /// The model's content filter refused.
    ContentFilter,
    /// Another fault of the caller: the same at any backend.
    Caller,
    /// The model's service failed.
    Failed,
    /// An unknown error: it is not clear whose fault it is.
    Unknown,
}

/// Error codes and types of OpenAI, Azure OpenAI and Anthropic, and what they mean.
const KNOWN: &[(&str, Fault)] = &[
    ("insufficient_quota", Fault::OutOfQuota),
    ("credit_balance_exhausted", Fault::OutOfQuota),
    ("organization_spend_limit_exceeded", Fault::OutOfQuota),
    ("project_spend_limit_exceeded", Fault::OutOfQuota),
    ("organization_usage_limit_exceeded", Fault::OutOfQuota),
    ("enforced_spend_limit_reached", Fault::OutOfQuota),
    ("billing_error", Fault::OutOfQuota),
    ("DeploymentNotFound", Fault::NoDeployment),
    ("model_not_found", Fault::NoDeployment),
    ("NotFoundError", Fault::NoDeployment),
    ("content_filter", Fault::ContentFilter),
    ("content_policy_violation", Fault::ContentFilter),
    ("contentFilter", Fault::ContentFilter),
    ("ResponsibleAIPolicyViolation", Fault::ContentFilter),
    ("flex_unavailable", Fault::FlexUnavailable),
    ("resource_unavailable", Fault::FlexUnavailable),
    ("429", Fault::RateLimited),
    ("too_many_requests", Fault::RateLimited),
    ("rate_limit_exceeded", Fault::RateLimited),
    ("rate_limit_error", Fault::RateLimited),
    ("slow_down", Fault::RateLimited),
    ("invalid_request_error", Fault::Caller),
    ("invalid_prompt", Fault::Caller),
    ("context_length_exceeded", Fault::Caller),
    ("request_too_large", Fault::Caller),
    ("bio_policy", Fault::Caller),
    ("data_residency_mismatch", Fault::Caller),
    ("invalid_image", Fault::Caller),
    ("invalid_image_format", Fault::Caller),
    ("invalid_base64_image", Fault::Caller),
    ("invalid_image_url", Fault::Caller),
    ("invalid_image_mode", Fault::Caller),
    ("image_too_large", Fault::Caller),
    ("image_too_small", Fault::Caller),
    ("image_parse_error", Fault::Caller),
    ("image_content_policy_violation", Fault::ContentFilter),
    ("image_file_too_large", Fault::Caller),
    ("unsupported_image_media_type", Fault::Caller),
    ("empty_image_file", Fault::Caller),
    ("failed_to_download_image", Fault::Caller),
    ("image_file_not_found", Fault::Caller),
    ("server_error", Fault::Failed),
    ("server_is_overloaded", Fault::Failed),
    ("service_unavailable_error", Fault::Failed),
    ("overloaded_error", Fault::Failed),
    ("api_error", Fault::Failed),
    ("timeout_error", Fault::Failed),
    ("vector_store_timeout", Fault::Failed),
    ("internal_server_error", Fault::Failed),
    ("InternalServerError", Fault::Failed),
    ("500", Fault::Failed),
    ("502", Fault::Failed),
    ("503", Fault::Failed),
    ("504", Fault::Failed),
];

/// The meaning of an error inside an answer that began as a success. An error without a name is the service's fault;
/// with an unknown name, it is unclear whose fault it is.
pub fn classify_event(body: &[u8]) -> Fault {
    let (mut best, mut named) = (None, false);
    let _ = Reader::new(body).object(|key, value| visit(body, key, &value, 0, &mut best, &mut named));
    match best {
        Some(rank) => KNOWN[rank].1,
        None if named => Fault::Unknown,
        None => Fault::Failed,
    }
}

/// Whether a refusal says that this parameter is unknown: by its name alone, or by a known message.
pub fn refuses_parameter(body: &[u8], name: &str) -> bool {
    let mut refused = false;
    let _ = Reader::new(body).object(|key, value| {
        if !matches!((key, value.kind), ("error", Kind::Object)) {
            return;
        }
        let _ = Reader::within(body, &value).object(|key, value| {
            let Some(text) = value.as_str(body) else { return };
            refused |= match key {
                "param" => text == name || text.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')),
                "message" => UNKNOWN_PARAMETER.iter().any(|words| {
                    let rest = text.strip_prefix(words).map(|rest| rest.trim_start_matches(['\'', '"', '`', ' ']));
                    rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
                }),
                _ => false,
            };
        });
    });
    refused
}

/// Whether a refusal says that the prompt is too long for the model: by OpenAI's code, or by the message of vendors
/// without such a code (Anthropic, vLLM, older Azure).
pub fn is_too_long(body: &[u8]) -> bool {
    let mut too_long = false;
    let _ = Reader::new(body).object(|key, value| says_too_long(body, key, &value, 0, &mut too_long));
    too_long
}

fn says_too_long(body: &[u8], key: &str, value: &Value, depth: usize, too_long: &mut bool) {
    match (key, value.kind) {
        ("code", Kind::String) => *too_long |= value.as_str(body).is_some_and(|code| code == "context_length_exceeded"),
        ("message", Kind::String) => {
            *too_long |= value.as_str(body).is_some_and(|message| TOO_LONG.iter().any(|words| message.contains(words)));
        }
        ("error" | "response", Kind::Object) if depth < 3 => {
            let _ = Reader::within(body, value).object(|key, value| says_too_long(body, key, &value, depth + 1, too_long));
        }
        _ => {}
    }
}

/// Parts of such messages.
const TOO_LONG: [&str; 4] =
    ["maximum context length", "prompt is too long", "exceeds the context window", "longer than the model's context length"];

/// Beginnings of the vendors' messages that refuse a parameter.
const UNKNOWN_PARAMETER: [&str; 4] =
    ["Unrecognized request argument supplied:", "Unrecognized request arguments supplied:", "Unknown parameter:", "Unsupported parameter:"];

/// The fault of a JSON error, if it is a known one.
///
/// Reads `error.{code,type,details.error_code,innererror.code}`, the flat form of the Responses error event, and
/// `response.error` of `response.failed`. The most specific name has priority: a spend limit over a rate limit, a
/// content filter over a bad request.
pub fn classify_error(body: &[u8]) -> Option<Fault> {
    let mut best = None;
    let _ = Reader::new(body).object(|key, value| visit(body, key, &value, 0, &mut best, &mut false));
    best.map(|rank: usize| KNOWN[rank].1)
}

fn visit(body: &[u8], key: &str, value: &Value, depth: usize, best: &mut Option<usize>, named: &mut bool) {
    match (key, value.kind) {
        ("code" | "type" | "error_code", Kind::String) => {
            let Some(name) = value.as_str(body) else { return };
            // An event's own type is not the name of an error.
            *named |= depth > 0 && !name.is_empty();
            if let Some(rank) = KNOWN.iter().position(|(known, _)| *known == name) {
                *best = Some(best.map_or(rank, |before| before.min(rank)));
            }
        }
        ("error" | "response" | "details" | "innererror" | "inner_error", Kind::Object) if depth < 4 => {
            let _ = Reader::within(body, value).object(|key, value| visit(body, key, &value, depth + 1, best, named));
        }
        _ => {}
    }
}
