//! Errors of the ledger.

use std::path::PathBuf;

/// The ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The folder can't be created.
    #[error("server.state_dir: can't create the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The database can't be opened, read or written.
    #[error("ledger: {0}")]
    Database(#[from] rusqlite::Error),
    /// A newer version of this program made it.
    #[error("the ledger was written by a newer version of spillway (format {version}); use that version, or another state_dir")]
    Newer {
        /// The format's number.
        version: i64,
    },
    /// An older version of this program made it, and a report can't change it.
    #[error("the ledger was written by an older version of spillway (format {version}); this version converts it when the gateway starts")]
    Older {
        /// The format's number.
        version: i64,
    },
    /// A broken ledger can't be renamed.
    #[error("the ledger is broken and can't be renamed: {0}")]
    Stuck(std::io::Error),
    /// The thread can't be started.
    #[error("can't start the ledger's thread: {0}")]
    Thread(std::io::Error),
    /// The node's name can't be read or stored.
    #[error("server.state_dir: can't store this node's name there: {0}")]
    Node(std::io::Error),
    /// The place for hourly sums can't be used.
    #[error("ledger.ship: {0}")]
    Ship(String),
    /// Too many reports at once.
    #[error("too many reports are being made; try again")]
    Busy,
    /// A query is not valid.
    #[error("{0}")]
    Query(String),
}

impl LedgerError {
    /// Whether the file is not a valid database.
    pub(super) fn is_corrupt(&self) -> bool {
        let LedgerError::Database(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
    }
}
