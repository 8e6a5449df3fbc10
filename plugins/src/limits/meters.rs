//! The counters of limits per minute of one holder.

use super::rolling::Rolling;

/// Usage per minute and concurrent requests of one holder.
pub(super) struct Meters<'a> {
    pub(super) requests: Option<&'a mut Rolling>,
    pub(super) tokens: Option<&'a mut Rolling>,
    pub(super) in_flight: &'a mut u64,
}
