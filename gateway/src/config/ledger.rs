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
    /// Hourly sums are shipped.
    pub ship: Option<ShipRules>,
}

/// How a node ships its hourly sums to a place that all nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipRules {
    /// The place.
    pub to: ShipTo,
    /// Single attempts are shipped, too.
    pub rows: bool,
    /// How often changed hours are shipped.
    pub every: Duration,
    /// How long shipped files of this node are kept.
    pub retention: Duration,
}

/// The place that all nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShipTo {
    /// A folder.
    Folder(PathBuf),
    /// The server of `[redis]`.
    Redis,
}
