//! Requests that the admin listener refuses, and why.

use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;

use super::actor::{Actor, Role};
use super::answer::{Answer, problem};
use crate::clock::Tick;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its admin token is wrong, or tokens aren't taken there.
    Token,
    /// It has neither a token nor a live session.
    Session,
    /// It changes something without the session's CSRF token.
    Csrf,
    /// It is from a page of another origin.
    Origin,
    /// Only this machine is let in, and the request doesn't come directly from it.
    Elsewhere,
    /// The sender's role is too low.
    Role,
    /// It is too long ago that the sender proved who they are.
    Stale,
}

impl Reason {
    const ALL: [Reason; 7] = [Reason::Token, Reason::Session, Reason::Csrf, Reason::Origin, Reason::Elsewhere, Reason::Role, Reason::Stale];

    /// The value of its label in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Reason::Token => "token",
            Reason::Session => "session",
            Reason::Csrf => "csrf",
            Reason::Origin => "origin",
            Reason::Elsewhere => "elsewhere",
            Reason::Role => "role",
            Reason::Stale => "stale",
        }
    }

    /// The labels of all of them.
    pub(super) fn labels() -> impl Iterator<Item = &'static str> {
        Reason::ALL.into_iter().map(Reason::label)
    }
}

/// A request that is refused.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) answer: Answer,
    /// Who sent it, if that is known.
    pub(super) known: Option<Actor>,
}

impl Refusal {
    /// Of a sender who isn't known.
    pub(super) fn new(reason: Reason, status: StatusCode, message: &str) -> Box<Self> {
        Box::new(Refusal { reason, answer: problem(status, message), known: None })
    }

    /// Of a sender who is known.
    pub(super) fn of(mut self: Box<Self>, actor: Actor) -> Box<Self> {
        self.known = Some(actor);
        self
    }

    /// Of a sender whose role is lower than `least`.
    pub(super) fn role(actor: &Actor, least: Role) -> Box<Self> {
        let message = format!("this needs the role {least}; yours is {}", actor.role());
        Refusal::new(Reason::Role, StatusCode::FORBIDDEN, &message).of(actor.clone())
    }
}

/// Time between two lines of the log with the same reason.
const EVERY: Duration = Duration::from_secs(1);

/// When a refusal was last logged, for each reason.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(Mutex<[Option<Tick>; Reason::ALL.len()]>);

impl RefusalLog {
    /// Whether a refusal at `now` is logged.
    pub(super) fn admits(&self, reason: Reason, now: Tick) -> bool {
        let mut logged = self.0.lock();
        let last = &mut logged[reason as usize];
        let admitted = last.is_none_or(|last| now.since(last) >= EVERY);
        if admitted {
            *last = Some(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_logged_once_a_second_for_each_reason() {
        let (log, start) = (RefusalLog::default(), Tick(3_600_000_000_000));
        let logged = |reason: Reason, millis: u64| log.admits(reason, start + Duration::from_millis(millis));
        assert_eq!((0..1000).filter(|millis| logged(Reason::Token, *millis)).count(), 1);
        assert!(logged(Reason::Role, 5) && logged(Reason::Token, 1000) && !logged(Reason::Role, 1000) && !logged(Reason::Token, 1999));
    }

    #[test]
    fn each_reason_has_a_place_of_its_own() {
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
