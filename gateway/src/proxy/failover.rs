//! The end of an attempt that has no answer to deliver.

use spillway_plugins::retry::Verdict;

use super::attempt::{Attempt, AttemptEnd, is_timeout};
use super::books::Books;
use super::retry_state::RetryState;
use super::send::SendError;
use super::upstream_reply::UpstreamReply;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::Failure;
use crate::balance::target::OutageReason;

/// Ends an attempt that has no answer to deliver. Callers handle answers before.
pub(super) fn fail_over(
    mut books: Books<'_>,
    retry_state: &mut RetryState,
    attempt: Attempt<'_>,
    reply: Result<UpstreamReply, SendError>,
) -> AttemptEnd {
    match reply {
        Ok(UpstreamReply::Failover(verdict, status)) => match verdict {
            Verdict::RateLimited => attempt.throttled(&mut books, retry_state),
            Verdict::FlexUnavailable => attempt.no_flex(&mut books, retry_state),
            Verdict::OutOfQuota => attempt.out(&mut books, OutageReason::OutOfQuota),
            Verdict::Misconfigured => attempt.out(&mut books, OutageReason::Misconfigured),
            Verdict::Failed | Verdict::Deliver => {
                attempt.failed(&mut books, retry_state, Failure::Status(status), AttemptOutcome::Failed, is_timeout(status))
            }
        },
        Ok(UpstreamReply::Unfit) => {
            // Says nothing about the target.
            attempt.finish(&mut books, AttemptOutcome::CallerFault);
            AttemptEnd::Elsewhere
        }
        Ok(UpstreamReply::TooLong) => attempt.too_long(&mut books, retry_state),
        Err(SendError::NoCredential) => attempt.no_credential(&mut books),
        Err(SendError::Broken(broken)) => attempt.broke(&mut books, retry_state, broken),
        Ok(UpstreamReply::Deliver(..)) | Err(SendError::Unsendable) => {
            attempt.finish(&mut books, AttemptOutcome::Cancelled);
            AttemptEnd::Elsewhere
        }
    }
}

#[cfg(test)]
mod tests;
