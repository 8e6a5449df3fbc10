//! What came of a request, as far as a log says.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use spillway_plugins::limits::LimitKind;
use spillway_plugins::prices::Money;
use spillway_plugins::retry::ThrottleScope;
use spillway_plugins::tokens::Usage;

use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::Failure;
use crate::balance::target::OutageReason;

/// What came of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What backends answered, in the order in which they were asked.
    pub answers: SmallVec<[Answer; 1]>,
    /// How it ended.
    pub end: SeenEnd,
    /// The status that the caller got, if known.
    pub status: Option<u16>,
    /// What it cost, if known.
    pub cost: Option<Money>,
    /// Upper bound of the tokens in its prompt, as a limit reserved it.
    pub prompt_bound: Option<u64>,
    /// The tokens and the cost that it would have reserved in all, if a limit refused it.
    pub demand: Option<(u64, Money)>,
    /// How long it took after it was admitted.
    pub took: Option<Duration>,
    /// This gateway itself wrote it: its decisions can be compared one by one, and where it chose by chance, it is followed.
    pub is_ours: bool,
}

/// How a request ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SeenEnd {
    /// The log doesn't say.
    #[default]
    Unknown,
    /// A backend's answer went to the caller.
    Served,
    /// A limit of the gateway refused it; whose limit, if known.
    Limit(Arc<str>, Option<LimitKind>),
    /// No backend was left that could take it.
    NoBackend,
    /// It failed for another reason.
    Failed,
    /// The gateway answered without a backend: from its cache, or because of its content.
    Unasked,
}

/// A backend's answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The number of the deployment's name; see [`place_name`].
    pub place: u32,
    /// How long it took.
    pub took: Duration,
    /// What it said.
    pub said: Said,
    /// What it used, if it was not the answer that the caller got.
    pub used: Option<(Usage, Option<Money>)>,
}

/// What a backend said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// It answered; nothing is left of its limits for so long, if that is known.
    Served(Option<Duration>),
    /// 429.
    Throttled(Option<Duration>, ThrottleScope),
    /// It failed.
    Failed(Failure, Option<Duration>),
    /// It needs an operator.
    Out(OutageReason),
    /// It could not take this request, which says nothing about others.
    Passed,
    /// The caller left.
    Cancelled,
}

impl Said {
    /// What an attempt's label and status say. `None` if the label is not known.
    pub fn of(label: &str, status: Option<u16>, wait: Option<Duration>, scope: ThrottleScope) -> Option<Said> {
        let outcome = AttemptOutcome::ALL.into_iter().find(|outcome| outcome.label() == label)?;
        let failed = |status: Option<u16>| {
            let status = status.and_then(|status| http::StatusCode::from_u16(status).ok()).filter(|status| !status.is_success());
            Said::Failed(Failure::Status(status.unwrap_or(http::StatusCode::BAD_GATEWAY)), wait)
        };
        Some(match outcome {
            AttemptOutcome::Ok | AttemptOutcome::CallerFault => Said::Served(wait),
            AttemptOutcome::Throttled => Said::Throttled(wait, scope),
            AttemptOutcome::Failed if status == Some(429) => Said::Throttled(wait, scope),
            AttemptOutcome::Failed | AttemptOutcome::NoAnswer => failed(status),
            AttemptOutcome::OutOfQuota => Said::Out(OutageReason::OutOfQuota),
            AttemptOutcome::Misconfigured => Said::Out(OutageReason::Misconfigured),
            AttemptOutcome::Broken(kind) => Said::Failed(Failure::Error(kind), wait),
            AttemptOutcome::FlexUnavailable | AttemptOutcome::NoCredential => Said::Passed,
            AttemptOutcome::Cancelled => Said::Cancelled,
        })
    }

    /// What a status from another gateway's log says.
    pub fn of_status(status: u16, wait: Option<Duration>) -> Said {
        match status {
            429 => Said::Throttled(wait, ThrottleScope::Quota),
            408 | 500..=599 => {
                Said::Failed(Failure::Status(http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY)), wait)
            }
            _ => Said::Served(None),
        }
    }
}

/// The name of a deployment in traffic: a backend's name or URL, and the deployment there, if it is known.
pub fn place_name(backend: &str, deployment: &str) -> String {
    format!("{backend}\n{deployment}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::circuit::ErrorKind;

    #[test]
    fn every_label_of_an_attempt_says_something() {
        for outcome in AttemptOutcome::ALL {
            assert!(Said::of(outcome.label(), Some(503), None, ThrottleScope::Quota).is_some(), "{outcome:?}");
        }
        let wait = Some(Duration::from_secs(3));
        let of = |label: &str, status: Option<u16>| Said::of(label, status, wait, ThrottleScope::Deployment);
        assert_eq!(of("failed", Some(429)), Some(Said::Throttled(wait, ThrottleScope::Deployment)), "it went to the caller");
        assert_eq!(of("ok", Some(200)), Some(Said::Served(wait)));
        assert_eq!(of(AttemptOutcome::Broken(ErrorKind::Reset).label(), None), Some(Said::Failed(Failure::Error(ErrorKind::Reset), wait)));
        assert_eq!(of("unheard of", None), None);
        assert_eq!(Said::of_status(404, None), Said::Served(None), "the caller's fault");
    }
}
