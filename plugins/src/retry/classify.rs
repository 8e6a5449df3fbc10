//! Reads the vendor's own words for what went wrong out of an error body or error event.

use crate::json::{Kind, Reader, Value};

/// What an error text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Rate or capacity limits.
    RateLimited,
    /// The account's quota or spend limit.
    OutOfQuota,
    /// The deployment doesn't exist at this resource.
    NoDeployment,
    /// The model's content filter refused.
    ContentFilter,
    /// Another fault of the caller's: the same elsewhere.
    Caller,
    /// The model's service failed.
    Failed,
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
    ("content_filter", Fault::ContentFilter),
    ("content_policy_violation", Fault::ContentFilter),
    ("contentFilter", Fault::ContentFilter),
    ("ResponsibleAIPolicyViolation", Fault::ContentFilter),
    ("429", Fault::RateLimited),
    ("too_many_requests", Fault::RateLimited),
    ("rate_limit_exceeded", Fault::RateLimited),
    ("rate_limit_error", Fault::RateLimited),
    ("slow_down", Fault::RateLimited),
    ("invalid_request_error", Fault::Caller),
    ("invalid_prompt", Fault::Caller),
    ("context_length_exceeded", Fault::Caller),
    ("request_too_large", Fault::Caller),
    ("server_error", Fault::Failed),
    ("server_is_overloaded", Fault::Failed),
    ("service_unavailable_error", Fault::Failed),
    ("overloaded_error", Fault::Failed),
    ("api_error", Fault::Failed),
    ("timeout_error", Fault::Failed),
];

/// The fault that a JSON error reports, if it names one that is known.
///
/// Reads `error.{code,type,details.error_code,innererror.code}`, the flat form of the Responses
/// error event, and `response.error` of `response.failed`. The most telling name wins: a spend
/// limit over a rate limit, a content filter over a plain bad request.
pub fn classify_error(body: &[u8]) -> Option<Fault> {
    let mut best = None;
    let _ = Reader::new(body).object(|key, value| visit(body, key, &value, 0, &mut best));
    best.map(|rank: usize| KNOWN[rank].1)
}

fn visit(body: &[u8], key: &str, value: &Value, depth: usize, best: &mut Option<usize>) {
    match (key, value.kind) {
        ("code" | "type" | "error_code", Kind::String) => {
            let Some(name) = value.as_str(body) else { return };
            if let Some(rank) = KNOWN.iter().position(|(known, _)| *known == name) {
                *best = Some(best.map_or(rank, |before| before.min(rank)));
            }
        }
        ("error" | "response" | "details" | "innererror" | "inner_error", Kind::Object) if depth < 4 => {
            let _ = Reader::within(body, value).object(|key, value| visit(body, key, &value, depth + 1, best));
        }
        _ => {}
    }
}
