//! What a twin has learned, for a restart or for the process that takes over.

use serde::{Deserialize, Serialize};

/// The state of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Seconds of configured capacity above the line; `None` if that is out of date.
    pub level: Option<f64>,
    /// The net drain as a share of the configured rate.
    pub drain: f64,
    /// What the bucket holds for calls under way beyond their use, as a share of what is booked for them.
    pub held: f64,
    /// Used load as a share of the booked.
    pub real: f64,
    /// The mean booking in seconds.
    pub size: f64,
    /// Refusals that may be spent.
    pub spare: f64,
}

impl Saved {
    /// For a file that is read after a restart: the level is out of date by then.
    #[must_use]
    pub fn without_level(self) -> Self {
        Saved { level: None, ..self }
    }
}
