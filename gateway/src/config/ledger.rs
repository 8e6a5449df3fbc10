//! How the ledger is kept.

use std::path::PathBuf;
use std::time::Duration;

/// When a row is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Within a tenth of a second; a crash of the process loses at most that.
    #[default]
    Fast,
    /// On disk before the caller sees the end of its answer.
    Strict,
}

/// How the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRules {
    /// The folder: `server.state_dir`.
    pub folder: PathBuf,
    /// When a row is durable.
    pub durability: Durability,
    /// Requests are refused while the ledger can't be written.
    pub required: bool,
    /// How long single attempts are kept; after that only hourly sums.
    pub retention: Duration,
    /// How long hourly sums are kept.
    pub hours: Duration,
    /// Whether its database may grow. A rehearsal has one that may not, which fails as one on a full disk does.
    pub may_grow: bool,
    /// Requests and attempts that were refused or failed without cost are recorded, too.
    pub refusals: bool,
}
