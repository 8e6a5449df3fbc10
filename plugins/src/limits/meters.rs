//! What counts for one holder.

use super::rolling::Rolling;

/// Rates and requests at once of one holder.
pub(super) struct Meters<'a> {
    pub(super) requests: Option<&'a mut Rolling>,
    pub(super) tokens: Option<&'a mut Rolling>,
    pub(super) in_flight: &'a mut u64,
}
