//! All that is known of a request under way. Only the drivers of its four lines (intake, attempts, tunnel, finish) see it
//! whole; a stage takes the parts that it needs. What is held is given back when this is dropped, a panic included.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::books::{Books, OwnAnswer, Tunnelled};
use super::copies::Copies;
use super::tunnel::state::Tunnel;
use super::unfinished::{Rescue, Unfinished};
use crate::clock::Tick;
use crate::request::{Attempts, Counted, Facts, InFlight, Metering, ModelRequest, Reply, RequestBody, Timing};
use crate::runtime::Runtime;

/// A request under way.
pub struct RequestCtx {
    /// Where it comes from, who sent it and what it runs on.
    pub facts: Facts,
    /// What it asks of which model, once that is known. Written by `intake`.
    pub model_request: Option<ModelRequest>,
    /// Its body.
    pub body: RequestBody,
    /// A request on Pingora's own loop. Written by `intake`, kept by `tunnel`.
    pub tunnel: Option<Box<Tunnel>>,
    /// Its attempts.
    pub attempts: Attempts,
    /// Where its time went.
    pub timing: Timing,
    /// What it has reserved and used.
    pub metering: Metering,
    /// What is kept of it for others.
    pub copies: Copies,
    /// What the caller gets.
    pub reply: Reply,
    /// An answer that has not come to its end.
    pub(super) unfinished: Unfinished,
    /// Where it counts as one in flight.
    pub counted: Counted,
}

impl RequestCtx {
    /// A request that has just arrived.
    pub fn new(arrived: Tick, arrived_at: DateTime<Utc>, runtime: Arc<Runtime>, in_flight: InFlight) -> Self {
        RequestCtx {
            facts: Facts::new(arrived, arrived_at, runtime),
            model_request: None,
            body: RequestBody::default(),
            tunnel: None,
            attempts: Attempts::default(),
            timing: Timing::default(),
            metering: Metering::default(),
            copies: Copies::default(),
            reply: Reply::default(),
            unfinished: Unfinished::default(),
            counted: Counted { in_flight: Some(in_flight), one_of: None },
        }
    }
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
        Some(Tunnelled { model_request: self.model_request.as_mut()?, tunnel: self.tunnel.as_deref_mut()?, books, copies: &self.copies })
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
