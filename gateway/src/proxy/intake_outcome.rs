//! What a step of the intake comes to.

use pingora::{BError, Error, ErrorType};

use super::refusal::Refusal;

/// What happens after the intake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IntakeOutcome {
    /// The request was answered.
    Answered,
    /// On to the attempts.
    Attempt,
    /// On to Pingora's own loop.
    Tunnel,
}

/// Why the intake ended early.
pub(super) enum IntakeError {
    Refuse(Refusal),
    CallerLeft,
}

impl<T: Into<Refusal>> From<T> for IntakeError {
    fn from(refusal: T) -> Self {
        IntakeError::Refuse(refusal.into())
    }
}

/// An error after which nothing more is written to the caller.
pub(super) fn told() -> BError {
    Error::explain(ErrorType::ConnectionClosed, "the transfer was left unfinished").into_down()
}
