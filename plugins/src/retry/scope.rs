//! Which limit a 429 is about: a quota that several deployments may share, or something of this deployment alone.

use crate::json::{Kind, Reader, Value};

/// Which limit a 429 is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThrottleScope {
    /// A rate limit: the deployment's quota, which other deployments may share. Also if the answer doesn't say.
    #[default]
    Quota,
    /// The deployment alone: its capacity, its provisioned throughput, or a service tier of it.
    Deployment,
}

/// Error codes and types that are not about a rate limit.
const CAPACITY: [&str; 5] =
    ["flex_unavailable", "resource_unavailable", "server_is_overloaded", "service_unavailable_error", "overloaded_error"];
/// Parts of messages about a rate limit, in small letters. They may recommend provisioned throughput.
const RATE: [&str; 2] = ["rate limit", "quota"];
/// Parts of messages about the deployment's capacity, in small letters.
const BUSY: [&str; 6] =
    ["temporarily unable to process", "high demand", "peak load", "overloaded", "at capacity", "provisioned throughput"];

/// Which limit a 429 is about, by its body: the codes first, then the words of the message.
pub fn throttle_scope(body: &[u8]) -> ThrottleScope {
    let mut found = Found::default();
    let _ = Reader::new(body).object(|key, value| visit(body, key, &value, 0, &mut found));
    if found.capacity || (found.busy && !found.rate) { ThrottleScope::Deployment } else { ThrottleScope::Quota }
}

#[derive(Default)]
struct Found {
    /// A code that means capacity.
    capacity: bool,
    /// A message about a rate limit.
    rate: bool,
    /// A message about capacity.
    busy: bool,
}

fn visit(body: &[u8], key: &str, value: &Value, depth: usize, found: &mut Found) {
    match (key, value.kind) {
        ("code" | "type", Kind::String) => {
            found.capacity |= value.as_str(body).is_some_and(|code| CAPACITY.contains(&&*code));
        }
        ("message", Kind::String) => {
            let Some(message) = value.as_str(body).map(|message| message.to_ascii_lowercase()) else { return };
            found.rate |= RATE.iter().any(|words| message.contains(words));
            found.busy |= BUSY.iter().any(|words| message.contains(words));
        }
        ("error" | "response" | "details" | "innererror" | "inner_error", Kind::Object) if depth < 4 => {
            let _ = Reader::within(body, value).object(|key, value| visit(body, key, &value, depth + 1, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_is_the_quotas() {
        for body in [
            r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 17 seconds."}}"#,
            r#"{"error":{"code":"429","message":"Rate limit is exceeded. Try again in 2 seconds. For steady traffic use provisioned throughput."}}"#,
            r#"{"error":{"code":"too_many_requests","message":"Your requests exceed the quota of this model."}}"#,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed the limit of 40,000 input tokens per minute"}}"#,
        ] {
            assert_eq!(throttle_scope(body.as_bytes()), ThrottleScope::Quota, "{body}");
        }
    }

    #[test]
    fn capacity_is_the_deployments_own() {
        for body in [
            r#"{"error":{"code":"429","message":"The service is temporarily unable to process your request. Please try again later."}}"#,
            r#"{"error":{"code":"429","message":"The system is currently experiencing high demand and cannot process your request."}}"#,
            r#"{"error":{"type":"resource_unavailable","code":"flex_unavailable","message":"No flex capacity within your rate limit."}}"#,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            r#"{"response":{"error":{"code":"server_is_overloaded","message":"x"}}}"#,
            r#"{"error":{"code":"429","message":"Requests have exceeded the provisioned throughput of your deployment."}}"#,
        ] {
            assert_eq!(throttle_scope(body.as_bytes()), ThrottleScope::Deployment, "{body}");
        }
    }

    #[test]
    fn what_says_nothing_is_taken_for_a_rate_limit() {
        for body in ["", "<html>429</html>", "{}", r#"{"error":{"code":"429"}}"#, r#"{"error":{"message":17}}"#] {
            assert_eq!(throttle_scope(body.as_bytes()), ThrottleScope::Quota, "{body}");
        }
    }
}
