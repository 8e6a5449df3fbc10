//! The end of an attempt without an answer.

use spillway_plugins::retry::Verdict;

use super::asked::Asked;
use super::attempt::{Attempt, AttemptEnd, is_timeout};
use super::books::Books;
use super::retry_state::RetryState;
use super::send::SendError;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::Failure;
use crate::balance::target::OutageReason;

/// Ends an attempt without an answer: whoever has a use for one has taken it.
pub(super) fn ended(
    mut books: Books<'_>,
    retry_state: &mut RetryState,
    attempt: Attempt<'_>,
    asked: Result<Asked, SendError>,
) -> AttemptEnd {
    match asked {
        Ok(Asked::Elsewhere(verdict, status)) => match verdict {
            Verdict::RateLimited => attempt.throttled(&mut books, retry_state),
            Verdict::OutOfQuota => attempt.out(&mut books, OutageReason::OutOfQuota),
            Verdict::Misconfigured => attempt.out(&mut books, OutageReason::Misconfigured),
            Verdict::Failed | Verdict::Deliver => {
                attempt.failed(&mut books, retry_state, Failure::Status(status), AttemptOutcome::Failed, is_timeout(status))
            }
        },
        Ok(Asked::Unfit) => {
            // Says nothing about the target.
            attempt.finish(&mut books, AttemptOutcome::CallerFault);
            AttemptEnd::Elsewhere
        }
        Ok(Asked::TooLong) => attempt.too_long(&mut books, retry_state),
        Err(SendError::NoCredential) => attempt.no_credential(&mut books),
        Err(SendError::Broken(broken)) => attempt.broke(&mut books, retry_state, broken),
        Ok(Asked::Answer(..)) | Err(SendError::Unsendable) => {
            attempt.finish(&mut books, AttemptOutcome::Cancelled);
            AttemptEnd::Elsewhere
        }
    }
}

#[cfg(test)]
mod tests;
