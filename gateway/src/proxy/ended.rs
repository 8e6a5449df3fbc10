//! The end of an attempt without an answer.

use spillway_plugins::retry::Verdict;

use super::ask::Unasked;
use super::asked::Asked;
use super::attempt::{Attempt, Step, is_timeout};
use super::books::Books;
use super::progress::Progress;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::Failure;
use crate::balance::target::OutageReason;

/// Ends an attempt without an answer: whoever has a use for one has taken it.
pub(super) fn ended(mut books: Books<'_>, progress: &mut Progress, attempt: Attempt<'_>, asked: Result<Asked, Unasked>) -> Step {
    match asked {
        Ok(Asked::Elsewhere(verdict, status)) => match verdict {
            Verdict::RateLimited => attempt.throttled(&mut books, progress),
            Verdict::OutOfQuota => attempt.out(&mut books, OutageReason::OutOfQuota),
            Verdict::Misconfigured => attempt.out(&mut books, OutageReason::Misconfigured),
            Verdict::Failed | Verdict::Deliver => {
                attempt.failed(&mut books, progress, Failure::Status(status), AttemptOutcome::Failed, is_timeout(status))
            }
        },
        Ok(Asked::Unfit) => {
            // Says nothing about the target.
            attempt.finish(&mut books, AttemptOutcome::CallerFault);
            Step::Elsewhere
        }
        Ok(Asked::TooLong) => attempt.too_long(&mut books, progress),
        Err(Unasked::NoCredential) => attempt.no_credential(&mut books),
        Err(Unasked::Broken(broken)) => attempt.broke(&mut books, progress, broken),
        Ok(Asked::Answer(..)) | Err(Unasked::Unsendable) => {
            attempt.finish(&mut books, AttemptOutcome::Cancelled);
            Step::Elsewhere
        }
    }
}
