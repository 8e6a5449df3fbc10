//! How an attempt at a backend ended: one name for metrics, logs, traces, the ledger and the decisions that depend on
//! it.

use crate::balance::circuit::ErrorKind;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The caller got its answer.
    Ok,
    /// The backend refused the request because of the request's content.
    CallerFault,
    /// The backend answered 429.
    Throttled,
    /// The backend has no capacity for the service tier `flex` now. It costs nothing, and other tiers are not affected.
    FlexUnavailable,
    /// The backend answered with a failure.
    Failed,
    /// The backend answered with a success status, but without an answer.
    NoAnswer,
    /// The backend's account has no quota left.
    OutOfQuota,
    /// The backend refuses the gateway's credential, or doesn't know the deployment.
    Misconfigured,
    /// There was no connection, it broke, or time ran out.
    Broken(ErrorKind),
    /// There was no credential to send.
    NoCredential,
    /// The caller left, or the request could not be sent.
    Cancelled,
}

impl AttemptOutcome {
    /// All of them: `ALL[outcome.index()] == outcome`.
    pub const ALL: [AttemptOutcome; 16] = [
        AttemptOutcome::Ok,
        AttemptOutcome::CallerFault,
        AttemptOutcome::Throttled,
        AttemptOutcome::Failed,
        AttemptOutcome::NoAnswer,
        AttemptOutcome::OutOfQuota,
        AttemptOutcome::Misconfigured,
        AttemptOutcome::Broken(ErrorKind::Connect),
        AttemptOutcome::Broken(ErrorKind::Tls),
        AttemptOutcome::Broken(ErrorKind::Timeout),
        AttemptOutcome::Broken(ErrorKind::Reset),
        AttemptOutcome::Broken(ErrorKind::FirstToken),
        AttemptOutcome::Broken(ErrorKind::Idle),
        AttemptOutcome::NoCredential,
        AttemptOutcome::Cancelled,
        AttemptOutcome::FlexUnavailable,
    ];

    /// Index in [`AttemptOutcome::ALL`].
    pub fn index(self) -> usize {
        match self {
            AttemptOutcome::Ok => 0,
            AttemptOutcome::CallerFault => 1,
            AttemptOutcome::Throttled => 2,
            AttemptOutcome::Failed => 3,
            AttemptOutcome::NoAnswer => 4,
            AttemptOutcome::OutOfQuota => 5,
            AttemptOutcome::Misconfigured => 6,
            AttemptOutcome::Broken(ErrorKind::Connect) => 7,
            AttemptOutcome::Broken(ErrorKind::Tls) => 8,
            AttemptOutcome::Broken(ErrorKind::Timeout) => 9,
            AttemptOutcome::Broken(ErrorKind::Reset) => 10,
            AttemptOutcome::Broken(ErrorKind::FirstToken) => 11,
            AttemptOutcome::Broken(ErrorKind::Idle) => 12,
            AttemptOutcome::NoCredential => 13,
            AttemptOutcome::Cancelled => 14,
            AttemptOutcome::FlexUnavailable => 15,
        }
    }

    /// Name in metrics, logs, traces and the ledger.
    pub fn label(self) -> &'static str {
        match self {
            AttemptOutcome::Ok => "ok",
            AttemptOutcome::CallerFault => "caller_fault",
            AttemptOutcome::Throttled => "throttled",
            AttemptOutcome::FlexUnavailable => "flex_unavailable",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::NoAnswer => "no_answer",
            AttemptOutcome::OutOfQuota => "out_of_quota",
            AttemptOutcome::Misconfigured => "misconfigured",
            AttemptOutcome::Broken(kind) => kind.name(),
            AttemptOutcome::NoCredential => "no_credential",
            AttemptOutcome::Cancelled => "cancelled",
        }
    }

    /// Whether the caller got the backend's answer.
    pub fn is_served(self) -> bool {
        matches!(self, AttemptOutcome::Ok | AttemptOutcome::CallerFault)
    }

    /// Whether it went wrong in any way, for a trace.
    pub fn is_error(self) -> bool {
        !matches!(self, AttemptOutcome::Ok | AttemptOutcome::Cancelled)
    }

    /// Whether it counts as the backend's failure: not the caller's fault, and not a 429.
    pub fn is_failure(self) -> bool {
        !self.is_served() && !matches!(self, AttemptOutcome::Throttled | AttemptOutcome::FlexUnavailable | AttemptOutcome::Cancelled)
    }

    /// Whether an attempt that was sent, and whose usage is not reported, may have cost something. `begun`: its answer
    /// began as a success.
    pub fn may_have_cost(self, begun: bool) -> bool {
        match self {
            // A failure inside an answer that began as a success: the model has worked already.
            AttemptOutcome::Failed => begun,
            AttemptOutcome::Ok | AttemptOutcome::Cancelled => true,
            AttemptOutcome::Broken(kind) => !matches!(kind, ErrorKind::Connect | ErrorKind::Tls),
            AttemptOutcome::CallerFault
            | AttemptOutcome::Throttled
            | AttemptOutcome::FlexUnavailable
            | AttemptOutcome::NoAnswer
            | AttemptOutcome::OutOfQuota
            | AttemptOutcome::Misconfigured
            | AttemptOutcome::NoCredential => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_its_own_label() {
        for (index, outcome) in AttemptOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
            assert_eq!(AttemptOutcome::ALL.iter().filter(|other| other.label() == outcome.label()).count(), 1);
        }
    }
}
