//! What came of handing an answer to the caller.

use http::StatusCode;
use spillway_plugins::guard::Finding;

use super::exchange::Broken;
use crate::balance::circuit::ErrorKind;

/// What came of handing an answer over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The caller has all of it.
    Complete,
    /// The caller has all of an answer that is no success.
    Refusal(StatusCode),
    /// Nothing reached the caller: another target can take over.
    Replace(Fault),
    /// It broke after the commit point; the caller was told.
    Cut(ErrorKind),
    /// It broke after the commit point, and another answer may continue it.
    Broken(ErrorKind),
    /// It may not pass, for what was found in it, or (`None`) because nobody could say. If anything was sent, the
    /// caller has an end to it.
    Blocked(Option<Finding>),
    /// The caller is gone.
    CallerLeft,
}

/// Why an answer must be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    RateLimited,
    OutOfQuota,
    NoDeployment,
    Failed,
    /// The prompt is too long for this model's window, and there are larger ones.
    TooLong,
    /// A success that holds no answer.
    NoAnswer,
    Broken(Broken),
}

/// What a caller is told of a stream that broke like this.
pub(super) fn broke(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Idle => "The upstream stopped sending before the answer was complete.",
        _ => "The upstream closed the connection before the answer was complete.",
    }
}
