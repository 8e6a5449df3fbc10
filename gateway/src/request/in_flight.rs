//! Counts of requests in flight.

use prometheus::IntGauge;

use crate::callers::OneOf;

/// Counts a request in flight for as long as it lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    /// Counts one more.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        InFlight(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Where a request counts as one in flight, for as long as it does.
#[derive(Debug)]
pub struct Counted {
    /// Among all.
    pub in_flight: Option<InFlight>,
    /// Among its consumer's. Written by `intake`.
    pub one_of: Option<OneOf>,
}

impl Counted {
    /// It is no request in flight any more.
    pub fn end(&mut self) {
        (self.in_flight, self.one_of) = (None, None);
    }
}
