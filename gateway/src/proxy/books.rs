//! What booking an attempt, or answering by the gateway itself, reads and writes of a request.

use spillway_plugins::limits::Remaining;

use super::ctx::{Copies, RequestCtx};
use super::rescue::Rescue;
use super::tunnel::Tunnel;
use crate::request::{Attempts, Facts, Inquiry, Metering, Reply, RequestBody, Timing};

/// What booking an attempt reads and writes of its request.
pub(super) struct Books<'r> {
    pub(super) facts: &'r Facts,
    pub(super) body: &'r mut RequestBody,
    pub(super) attempts: &'r mut Attempts,
    pub(super) timing: &'r mut Timing,
    pub(super) metering: &'r mut Metering,
    pub(super) reply: &'r mut Reply,
    /// Another attempt continues the stream that broke: what broke is not what the caller gets.
    pub(super) continued: bool,
}

/// A request on Pingora's loop.
pub(super) struct Tunnelled<'r> {
    pub(super) inquiry: &'r mut Inquiry,
    pub(super) tunnel: &'r mut Tunnel,
    pub(super) books: Books<'r>,
    pub(super) copies: &'r Copies,
}

/// What an answer of the gateway's own reads and writes of its request.
pub(super) struct OwnAnswer<'r> {
    pub(super) facts: &'r Facts,
    pub(super) body: &'r RequestBody,
    pub(super) timing: &'r mut Timing,
    pub(super) copies: &'r mut Copies,
    pub(super) reply: &'r mut Reply,
    /// What the caller has left of its rates.
    pub(super) remaining: Remaining,
    pub(super) attempts: &'r mut Attempts,
}

impl RequestCtx {
    /// What an answer of the gateway's own needs of it.
    pub(super) fn own_answer(&mut self) -> OwnAnswer<'_> {
        OwnAnswer {
            facts: &self.facts,
            body: &self.body,
            timing: &mut self.timing,
            copies: &mut self.copies,
            reply: &mut self.reply,
            remaining: self.metering.remaining,
            attempts: &mut self.attempts,
        }
    }

    /// A request on Pingora's loop; `None` if it is on the gateway's own.
    pub(super) fn tunnelled(&mut self) -> Option<Tunnelled<'_>> {
        let books = Books {
            facts: &self.facts,
            body: &mut self.body,
            attempts: &mut self.attempts,
            timing: &mut self.timing,
            metering: &mut self.metering,
            reply: &mut self.reply,
            continued: false,
        };
        Some(Tunnelled { inquiry: self.inquiry.as_mut()?, tunnel: self.tunnel.as_deref_mut()?, books, copies: &self.copies })
    }

    /// What booking needs of it.
    pub(super) fn books(&mut self) -> Books<'_> {
        Books {
            facts: &self.facts,
            body: &mut self.body,
            attempts: &mut self.attempts,
            timing: &mut self.timing,
            metering: &mut self.metering,
            reply: &mut self.reply,
            continued: matches!(self.unfinished.rescue, Some(Rescue::Begins)),
        }
    }
}
