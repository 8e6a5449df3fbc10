//! All that is known of a request under way. Only the drivers of its four lines (intake, attempts, tunnel, finish) see it
//! whole; a stage takes the parts that it needs. What is held is given back when this is dropped, a panic included.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::cached::Cached;
use super::drain::Reading;
use super::logged::Logged;
use super::rescue::Rescue;
use super::tunnel::Tunnel;
use crate::clock::Tick;
use crate::request::{Attempts, Counted, Facts, InFlight, Inquiry, Metering, Reply, RequestBody, Timing};
use crate::runtime::Runtime;

/// A request under way.
pub struct RequestCtx {
    /// Where it comes from, who sent it and what it runs on.
    pub facts: Facts,
    /// What it asks of which model, once that is known. Written by `intake`.
    pub inquiry: Option<Inquiry>,
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

/// What is kept of a request and its answer, beside what the caller gets.
#[derive(Debug, Default)]
pub struct Copies {
    /// For the cache, where there is one.
    pub cached: Option<Box<Cached>>,
    /// For the prompt log, where there is one.
    pub logged: Option<Box<Logged>>,
}

/// An answer that has not come to its end.
#[derive(Default)]
pub(super) struct Unfinished {
    /// What was reading it when its caller left. Written by `deliver`.
    pub(super) reading: Option<Reading>,
    /// Whether it can be continued after a break. Written by `deliver` and `rescue`.
    pub(super) rescue: Option<Rescue>,
}

impl RequestCtx {
    /// A request that has just arrived.
    pub fn new(arrived: Tick, arrived_at: DateTime<Utc>, runtime: Arc<Runtime>, in_flight: InFlight) -> Self {
        RequestCtx {
            facts: Facts::new(arrived, arrived_at, runtime),
            inquiry: None,
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
