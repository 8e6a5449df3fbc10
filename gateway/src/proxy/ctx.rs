//! All state of a request in progress. Only the drivers (intake, retry loop, tunnel, finish) use all of it; a stage
//! takes the parts that it needs. Everything that it holds is released when it is dropped, even after a panic.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::books::{Books, OwnAnswer, Tunnelled};
use super::copies::Copies;
use super::tunnel::state::Tunnel;
use super::unfinished::{Rescue, Unfinished};
use crate::clock::Tick;
use crate::request::{Attempts, Counted, Facts, InFlight, Metering, ModelRequest, Reply, RequestBody, Timing};
use crate::runtime::Runtime;

/// A request in progress.
pub struct RequestCtx {
    /// Where it comes from, who sent it and what it runs on.
    pub facts: Facts,
    /// What it wants from which model, once that is known. Written by `intake`. On the heap, because it is moved often.
    pub model_request: Option<Box<ModelRequest>>,
    /// Its body.
    pub body: RequestBody,
    /// A request that Pingora's own loop runs. Written by `intake`, kept by `tunnel`.
    pub tunnel: Option<Box<Tunnel>>,
    /// Its attempts.
    pub attempts: Attempts,
    /// Where its time went.
    pub timing: Timing,
    /// What it has reserved and used.
    pub metering: Metering,
    /// Copies for the cache and the prompt log.
    pub copies: Copies,
    /// What the caller has received.
    pub reply: Reply,
    /// An answer that has not ended yet.
    pub(super) unfinished: Unfinished,
    /// The counts of requests in flight that include it.
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
    /// The parts that an answer of the gateway itself needs.
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

    /// The parts of a request on Pingora's loop; `None` if the retry loop runs it.
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

    /// The parts that booking needs.
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
