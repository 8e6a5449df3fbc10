//! How the ledger is kept.

use std::path::PathBuf;
use std::time::Duration;

/// When a row is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Within a tenth of a second; a crash of the process loses no more.
    #[default]
    Fast,
    /// On the disk before the caller sees the end of its answer.
    Strict,
}

/// How the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRules {
    /// Where: `server.state_dir`.
    pub folder: PathBuf,
    /// When a row is safe.
    pub durability: Durability,
    /// Nothing is served while the ledger can't be written.
    pub required: bool,
    /// How long single attempts are kept; after that only hourly sums.
    pub retention: Duration,
    /// How long hourly sums are kept.
    pub hours: Duration,
}
