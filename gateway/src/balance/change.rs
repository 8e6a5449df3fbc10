//! What a recorded outcome changed.

use std::time::Duration;

use super::belief::OutageReason;

/// What a recorded outcome changed, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing to report.
    None,
    /// Throttled for this long from now.
    Throttled(Duration),
    /// Throttled for one consumer, the only one that got a 429.
    ThrottledForOne,
    /// The circuit opened.
    Tripped,
    /// The circuit opened for one consumer, the only one that met the failures.
    TrippedForOne,
    /// The circuit closed again, or the outage ended.
    Recovered,
    /// Out until a slow probe succeeds.
    Out(OutageReason),
    /// Out for one consumer, the only one that was refused.
    OutForOne(OutageReason),
}
