//! A target's state, told by a process that ends to the one that takes over. Times are told as what is left of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::target::OutageReason;

/// The state of a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetTold {
    /// The backend's name.
    pub backend: String,
    /// The deployment's name.
    pub deployment: String,
    /// An operator has taken it out.
    pub drained: bool,
    /// How long it is throttled.
    pub throttled: Option<Duration>,
    /// How long its circuit is open, and whether a 429 opened it.
    pub open: Option<(Duration, bool)>,
    /// Operations that it refuses: which, why, how long until the next probe, and how long the wait for it was.
    pub outages: Vec<(String, OutageReason, Duration, Duration)>,
    /// The average time to the first token.
    pub first_token: Option<Duration>,
    /// Share of its rate limits that is left.
    pub headroom: Option<f64>,
}
