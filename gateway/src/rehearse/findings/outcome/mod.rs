//! Findings that only a run shows: from what callers saw, whatever the settings behind it are.

pub(super) mod baseline;
pub(super) mod broken;
pub(super) mod callers;
pub(super) mod dependency;
pub(super) mod latency;
pub(super) mod limits;
pub(super) mod load;
mod seen;
mod shown;
pub(super) mod silence;

pub(super) use shown::Shown;
