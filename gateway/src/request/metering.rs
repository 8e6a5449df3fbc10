//! What a request has reserved and used.

use std::sync::Arc;

use bytes::Bytes;
use spillway_plugins::limits::{Permit, Remaining};
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, OutputMeter, Part, Reported};

/// What a request has reserved and used.
#[derive(Default)]
pub struct Metering {
    /// What is reserved within its limits. Written by `admit`, settled when it is booked.
    pub permit: Option<Permit>,
    /// What the caller has left of its rates. Written by `admit`.
    pub remaining: Remaining,
    /// Whether the usage of the attempt that answered the caller is already booked.
    pub booked: bool,
    /// What the answer used, as its backend reports it.
    pub usage: Option<Metered>,
    /// The service tier that served it, if the answer names it.
    pub service_tier: Option<ServiceTier>,
    /// What it used at other prices.
    pub parts: Option<Arc<[Part]>>,
    /// Whether the answer came to its end.
    pub whole: bool,
    /// Measures the text of a streamed answer.
    pub output: OutputMeter,
    /// What was reported of the usage, if that is not all of it.
    pub so_far: Reported,
    /// A plain answer that doesn't report its usage.
    pub plain: Option<Bytes>,
    /// The length of a plain answer that doesn't report its usage.
    pub length: u64,
}

impl Metering {
    /// Notes how an answer says that it was served.
    pub fn note_served(&mut self, reported: &Reported) {
        self.service_tier = reported.service_tier();
        self.parts = reported.parts();
    }
}
