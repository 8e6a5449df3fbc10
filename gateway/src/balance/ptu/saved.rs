//! What a twin has learned, for a restart or for the process that takes over.

use serde::{Deserialize, Serialize};

use super::filter::RESERVES;

/// The state of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Seconds of configured capacity above the line; `None` if that is out of date.
    pub level: Option<f64>,
    /// The net drain as a share of the configured rate.
    pub drain: f64,
    /// What the bucket reserves: the share of a completion cap, and for a call without one a guess in thousands of tokens. An
    /// earlier program did not know that.
    #[serde(default = "unknown")]
    pub reserves: [f64; 2],
    /// What calls use, as a share of what was expected of them. An earlier program did not know that.
    #[serde(default = "as_expected")]
    pub used: f64,
    /// The mean booking in seconds.
    pub size: f64,
    /// Refusals that may be spent.
    pub spare: f64,
}

fn unknown() -> [f64; 2] {
    RESERVES
}

fn as_expected() -> f64 {
    1.0
}

impl Saved {
    /// For a file that is read after a restart: the level is out of date by then.
    #[must_use]
    pub fn without_level(self) -> Self {
        Saved { level: None, ..self }
    }
}
