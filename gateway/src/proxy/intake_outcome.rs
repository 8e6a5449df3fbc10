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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_the_callers_own_end() {
        let error = told();
        assert_eq!((error.etype(), error.esource()), (&ErrorType::ConnectionClosed, &pingora::ErrorSource::Downstream));
    }

    #[test]
    fn whatever_is_a_refusal_ends_the_intake_with_it() {
        let by_body = IntakeError::from(spillway_plugins::request::BodyError::NoModel);
        assert!(matches!(&by_body, IntakeError::Refuse(refusal) if refusal.shape().code == "model_missing"));
        let by_path = IntakeError::from(crate::operation::OperationError::WrongMethod { allowed: "POST" });
        assert!(matches!(by_path, IntakeError::Refuse(Refusal::WrongMethod { allowed: "POST" })));
    }
}
