//! What a request has reserved and used.

use bytes::Bytes;
use spillway_plugins::limits::{Permit, Remaining};
use spillway_plugins::tokens::{Metered, OutputMeter, Reported};

/// What a request has reserved and used.
#[derive(Default)]
pub struct Metering {
    /// What is reserved within its limits. Written by `admit`, settled when it is booked.
    pub permit: Option<Permit>,
    /// What the caller has left of its rates. Written by `admit`.
    pub remaining: Remaining,
    /// Whether the attempt whose answer the caller gets is booked.
    pub booked: bool,
    /// What the answer used, as its backend reports it.
    pub usage: Option<Metered>,
    /// Whether the answer came to its end.
    pub whole: bool,
    /// The text of a streamed answer, measured.
    pub output: OutputMeter,
    /// What a stream that has not ended reported.
    pub so_far: Reported,
    /// A plain answer that doesn't report what it used.
    pub plain: Option<Bytes>,
}
