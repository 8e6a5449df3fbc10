//! The result of delivering an answer to the caller.

use http::StatusCode;
use spillway_plugins::guard::Finding;

use super::exchange::Broken;
use crate::balance::circuit::ErrorKind;

/// The result of delivering an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The caller received all of it.
    Complete,
    /// The caller received all of an error.
    Refusal(StatusCode),
    /// Nothing was sent to the caller: another target can be tried.
    Replace(ReplaceReason),
    /// It broke after the commit point, and the caller got an error event.
    Cut(ErrorKind),
    /// It broke after the commit point, but another answer may continue it.
    Broken(ErrorKind),
    /// The guard stopped it. If anything was sent before, the stream was ended properly.
    Blocked(Withheld),
    /// The caller has closed its connection.
    CallerLeft,
}

/// Why the guard withholds an answer, or its rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Withheld {
    /// It has what isn't allowed.
    Found(Finding),
    /// The service that checks it doesn't answer.
    Unchecked,
    /// It is too long to be checked, can't be read, or doesn't continue what was sent.
    Unreadable,
}

/// Why an answer must be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplaceReason {
    RateLimited,
    FlexUnavailable,
    OutOfQuota,
    NoDeployment,
    Failed,
    /// The prompt is too long for this model's context window, and there are members with a larger one.
    TooLong,
    /// The status is a success, but there is no answer.
    NoAnswer,
    Broken(Broken),
}

/// The error text for a caller whose stream broke in this way.
pub(super) fn broke(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Idle => "The upstream stopped sending before the answer was complete.",
        _ => "The upstream closed the connection before the answer was complete.",
    }
}
