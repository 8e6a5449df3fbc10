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

/// The counts of requests in flight that include this one.
#[derive(Debug)]
pub struct Counted {
    /// The count of all requests.
    pub in_flight: Option<InFlight>,
    /// The count of its consumer. Written by `intake`.
    pub one_of: Option<OneOf>,
}

impl Counted {
    /// From here on it is no longer counted as in flight.
    pub fn end(&mut self) {
        (self.in_flight, self.one_of) = (None, None);
    }
}
