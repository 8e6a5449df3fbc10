//! Judges an upstream's answer: deliver it, or use another target, and how long the target is out.

mod classify;
mod headers;
mod scope;
mod statuses;

pub use classify::{Fault, classify_error, classify_event, is_too_long, refuses_parameter};
pub use headers::{Quota, RateSignal, parse_reset, read_signal, read_signal_of};
pub use scope::{ThrottleScope, throttle_scope};
pub use statuses::{ParseStatusError, StatusRange, StatusSet};

use http::StatusCode;

use crate::json::{Kind, Reader};

/// What an upstream's answer means for the attempt loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The caller gets it.
    Deliver,
    /// The target is at a limit for now.
    RateLimited,
    /// The target has no capacity for the service tier `flex` now, and says nothing about other tiers.
    FlexUnavailable,
    /// The target's account or quota is used up: only an operator can help.
    OutOfQuota,
    /// The target is misconfigured (credentials, deployment): an operator must check it.
    Misconfigured,
    /// The target failed; another one may work.
    Failed,
}

impl Verdict {
    /// Whether the request may go to another target.
    pub fn is_elsewhere(self) -> bool {
        self != Verdict::Deliver
    }
}

/// Whose credentials an upstream got, which decides whose fault a 401 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credentials {
    /// The gateway's own.
    #[default]
    Gateway,
    /// The caller's own, sent on.
    Caller,
}

/// Judges a complete error answer, or a head whose body could not be read (`body` empty).
///
/// `retryable` is the pool's list of statuses after which another target is used. A rejection by a content filter is
/// always the caller's fault, whatever the list says.
pub fn judge(status: StatusCode, body: &[u8], retryable: &StatusSet, credentials: Credentials) -> Verdict {
    if status.is_success() {
        return Verdict::Deliver;
    }
    // Redirects are not followed, and their target may contain the backend's own credential. 304 is an answer about what the caller has.
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        return Verdict::Misconfigured;
    }
    let fault = classify_error(body);
    if fault == Some(Fault::ContentFilter) {
        return Verdict::Deliver;
    }
    match status.as_u16() {
        // With the caller's own credentials it is the caller's own quota.
        429 if fault == Some(Fault::OutOfQuota) && credentials == Credentials::Caller => Verdict::Deliver,
        429 if fault == Some(Fault::OutOfQuota) => Verdict::OutOfQuota,
        429 if retryable.contains(status) && fault == Some(Fault::FlexUnavailable) => Verdict::FlexUnavailable,
        429 if retryable.contains(status) => Verdict::RateLimited,
        401 | 403 if credentials == Credentials::Gateway => Verdict::Misconfigured,
        404 if fault == Some(Fault::NoDeployment) || is_bare_not_found(body) => Verdict::Misconfigured,
        _ if retryable.contains(status) => Verdict::Failed,
        _ => Verdict::Deliver,
    }
}

/// Azure's answer if it knows neither the deployment nor the path: its code is the status.
fn is_bare_not_found(body: &[u8]) -> bool {
    let mut bare = false;
    let _ = Reader::new(body).object(|key, value| {
        if matches!((key, value.kind), ("error", Kind::Object)) {
            let _ = Reader::within(body, &value)
                .object(|key, value| bare |= key == "code" && value.as_str(body).is_some_and(|code| code == "404"));
        }
    });
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> Verdict {
        judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &StatusSet::retry_default(), Credentials::Gateway)
    }

    #[test]
    fn the_table() {
        assert_eq!(verdict(200, ""), Verdict::Deliver);
        assert_eq!(verdict(429, ""), Verdict::RateLimited);
        assert_eq!(verdict(429, r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#), Verdict::OutOfQuota);
        assert_eq!(
            verdict(429, r#"{"type":"error","error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#),
            Verdict::OutOfQuota
        );
        assert_eq!(verdict(429, r#"{"error":{"type":"resource_unavailable","code":"flex_unavailable"}}"#), Verdict::FlexUnavailable);
        assert_eq!(verdict(401, r#"{"statusCode":401,"message":"Unauthorized."}"#), Verdict::Misconfigured);
        for redirect in [301, 302, 303, 307, 308] {
            assert_eq!(verdict(redirect, ""), Verdict::Misconfigured, "{redirect}");
        }
        assert_eq!(verdict(304, ""), Verdict::Deliver);
        assert_eq!(verdict(404, r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#), Verdict::Misconfigured);
        assert_eq!(verdict(404, r#"{"error":{"code":"404","message":"Resource not found"}}"#), Verdict::Misconfigured);
        assert_eq!(verdict(404, r#"{"object":"error","message":"x","type":"NotFoundError","code":404}"#), Verdict::Misconfigured);
        assert_eq!(verdict(404, r#"{"error":{"code":"model_not_found","message":"x"}}"#), Verdict::Misconfigured);
        assert_eq!(verdict(404, r#"{"error":{"code":"response_not_found","message":"x"}}"#), Verdict::Deliver);
        assert_eq!(verdict(400, r#"{"error":{"code":"content_filter"}}"#), Verdict::Deliver);
        assert_eq!(verdict(400, r#"{"error":{"code":"context_length_exceeded"}}"#), Verdict::Deliver);
        for status in [408, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530] {
            assert_eq!(verdict(status, "<html>"), Verdict::Failed, "{status}");
        }
        for status in [400, 409, 424, 425, 501, 505, 506, 511] {
            assert_eq!(verdict(status, "<html>"), Verdict::Deliver, "{status}: it may be the same everywhere");
        }
    }

    #[test]
    fn a_callers_own_credentials_are_its_own_fault() {
        let all = StatusSet::retry_default();
        assert_eq!(judge(StatusCode::UNAUTHORIZED, b"", &all, Credentials::Caller), Verdict::Deliver);
    }

    #[test]
    fn a_content_filter_rejection_never_goes_elsewhere() {
        let greedy: StatusSet = StatusSet::new(["400-599".parse().unwrap()]);
        let body = br#"{"error":{"message":"x","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        assert_eq!(judge(StatusCode::BAD_REQUEST, body, &greedy, Credentials::Gateway), Verdict::Deliver);
        assert_eq!(judge(StatusCode::BAD_REQUEST, b"{}", &greedy, Credentials::Gateway), Verdict::Failed);
    }
}
