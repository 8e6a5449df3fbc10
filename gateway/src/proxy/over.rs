//! A request that is over, as those see it that write it down.

use std::time::Duration;

use pingora::proxy::Session;
use spillway_plugins::tokens::Metered;

use crate::request::{AttemptRecord, End, Facts, ModelRequest, Reply, Timing};

/// A request that is over.
pub(super) struct Over<'r> {
    pub(super) session: &'r Session,
    pub(super) facts: &'r Facts,
    pub(super) model_request: Option<&'r ModelRequest>,
    pub(super) attempts: &'r [AttemptRecord],
    pub(super) timing: &'r Timing,
    pub(super) reply: &'r Reply,
    pub(super) usage: Option<Metered>,
    /// How the cache was asked.
    pub(super) cache: Option<&'static str>,
    /// Bytes of its body.
    pub(super) bytes_in: usize,
    pub(super) status: u16,
    pub(super) took: Duration,
    /// The gateway's own time.
    pub(super) overhead: Duration,
}

/// How a request ended, and with which code of the gateway's own.
pub(super) fn end(reply: &Reply) -> (&'static str, Option<&'static str>) {
    match reply.end {
        End::CallerLeft => ("caller_left", None),
        End::Complete => ("ok", None),
        End::Refused(code) => ("refused", Some(code)),
        End::LastResort => ("last_resort", None),
        End::Cut => ("cut", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_word() {
        for (how, word, code) in [
            (End::CallerLeft, "caller_left", None),
            (End::Complete, "ok", None),
            (End::Refused("overloaded"), "refused", Some("overloaded")),
            (End::LastResort, "last_resort", None),
            (End::Cut, "cut", None),
        ] {
            assert_eq!(end(&Reply { end: how, ..Reply::default() }), (word, code));
        }
        assert_eq!(end(&Reply::default()).0, "caller_left", "whoever does not say how it ended was not there");
    }
}
