//! The ledger: who used what, to the token, kept in SQLite below `state_dir`.
//!
//! One thread writes, behind a bounded queue, many rows in one transaction. A request waits for it only
//! where `durability = "strict"` says so. A disk that is full or a database that is broken costs rows, which
//! are counted, never an answer, unless `required` says that nothing may be served unaccounted.

pub mod export;
pub mod reconcile;
pub mod request;
pub mod row;
pub mod usage;

mod database;
mod error;
mod insert;
mod rollup;
mod schema;
mod tags;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::error;

pub use crate::config::{Durability, LedgerRules};
use database::Database;
pub use error::LedgerError;
pub use row::{Place, Row};
pub use spillway_plugins::prices::Cost;
use usage::{UsageQuery, UsageRow};
use writer::Writer;

use crate::clock::Clock;
use crate::inbox::{Inlet, inbox};
use crate::shares::Places;
use crate::telemetry::metrics::LedgerMetrics;

/// Rows that may wait for the writer.
const QUEUE: usize = 16_384;

/// Longest wait of an answer for its row: a disk that hangs must not hang the callers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Databases up to this are checked as a whole at the start, in bytes; of larger ones a defect shows when it
/// is met.
const CHECKED: u64 = 64 << 20;
/// Reports at once: each may read much. So many for operators, as many again for consumers, and one for each of them.
const REPORTS: usize = 2;

/// Whom a report is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader<'r> {
    /// Operators.
    Operator,
    /// A consumer.
    Consumer(&'r str),
}

/// Takes rows.
#[derive(Debug)]
pub struct Ledger {
    rules: LedgerRules,
    rows: Inlet<Row>,
    healthy: Arc<AtomicBool>,
    for_operators: Arc<Places<()>>,
    for_consumers: Arc<Places<Arc<str>>>,
    metrics: LedgerMetrics,
}

impl Ledger {
    /// Opens the ledger and starts its thread. A broken one is moved aside and told of, unless it is
    /// required.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn start(rules: LedgerRules, clock: Clock, metrics: LedgerMetrics) -> Result<Self, LedgerError> {
        let database = match Database::open(&rules).and_then(|database| checked(database, &rules.folder)) {
            Err(broken) if broken.is_corrupt() && !rules.required => {
                let aside = set_aside(&rules.folder, clock.wall().timestamp()).map_err(LedgerError::Stuck)?;
                error!(%broken, aside = %aside.display(), "the ledger is broken: it was set aside, and a new one begun; quotas and budgets begin anew");
                metrics.failures.inc();
                Some(Database::open(&rules)?)
            }
            Err(error @ LedgerError::Database(_)) if !rules.required => {
                error!(%error, "the ledger can't be opened: rows are lost until it can; quotas and budgets begin anew");
                metrics.failures.inc();
                None
            }
            opened => Some(opened?),
        };
        let (rows, outlet) = inbox(QUEUE, metrics.waiting.clone());
        let healthy = Arc::new(AtomicBool::new(database.is_some()));
        metrics.up.set(i64::from(database.is_some()));
        let writer = Writer::new(rules.clone(), database, Arc::clone(&healthy), metrics.clone(), clock);
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(&outlet)).map_err(LedgerError::Thread)?;
        let (for_operators, for_consumers) = (Places::new(REPORTS, REPORTS), Places::new(REPORTS, 1));
        Ok(Ledger { rules, rows, healthy, for_operators, for_consumers, metrics })
    }

    /// Whether requests may be served: the ledger can be written, or needn't be.
    pub fn may_serve(&self) -> bool {
        !self.rules.required || self.healthy.load(Ordering::Relaxed)
    }

    /// Whether an answer's end must wait for its row.
    pub fn is_strict(&self) -> bool {
        self.rules.durability == Durability::Strict
    }

    /// Hands a row over, or counts it as lost; whether it isn't.
    pub fn write(&self, row: Row) -> bool {
        let taken = self.rows.push(row);
        if !taken {
            self.metrics.dropped.inc();
            self.ails("the ledger can't keep up: rows are lost");
        }
        taken
    }

    /// Hands a row over and waits until it is safe, or certainly lost (which is counted).
    pub async fn write_through(&self, row: Row) {
        if self.write(row) && tokio::time::timeout(PATIENCE, self.rows.flush()).await.is_err() {
            self.metrics.failures.inc();
            self.ails("the ledger takes too long");
        }
    }

    /// Rows can't be written; told once.
    fn ails(&self, why: &str) {
        self.metrics.up.set(0);
        if self.healthy.swap(false, Ordering::Relaxed) {
            error!(required = self.rules.required, "{why}");
        }
    }

    /// Waits until everything that was handed over is written, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.rows.flush()).await;
    }

    /// What was used; see [`usage`].
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        usage::usage(&self.rules.folder, query)
    }

    /// As [`Ledger::usage`], for somebody who waits: on a thread for such work, a few at once. Nobody waits for another's
    /// second report.
    ///
    /// # Errors
    /// [`LedgerError::Busy`] if too many wait already.
    pub async fn report(self: &Arc<Self>, reader: Reader<'_>, query: UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        let place = async {
            match reader {
                Reader::Operator => (Some(self.for_operators.wait(()).await), None),
                Reader::Consumer(name) => (None, Some(self.for_consumers.wait(name.into()).await)),
            }
        };
        let Ok(place) = tokio::time::timeout(PATIENCE, place).await else { return Err(LedgerError::Busy) };
        let ledger = Arc::clone(self);
        let report = move || {
            // Held by the work, not by who waits for it: a caller that leaves doesn't end it.
            let _place = place;
            ledger.usage(&query)
        };
        tokio::task::spawn_blocking(report).await.unwrap_or(Err(LedgerError::Busy))
    }
}

/// A database that is no good shows it when it is looked at.
fn checked(database: Database, folder: &Path) -> Result<Database, LedgerError> {
    if std::fs::metadata(folder.join(schema::FILE)).is_ok_and(|file| file.len() > CHECKED) {
        return Ok(database);
    }
    let verdict: String = database.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(verdict)).into());
    }
    Ok(database)
}

/// Renames a broken database and what belongs to it.
fn set_aside(folder: &Path, now: i64) -> std::io::Result<PathBuf> {
    let aside = folder.join(format!("{}.broken-{now}", schema::FILE));
    for suffix in ["-wal", "-shm"] {
        let beside = folder.join(format!("{}{suffix}", schema::FILE));
        if beside.exists() {
            std::fs::rename(&beside, format!("{}{suffix}", aside.display()))?;
        }
    }
    std::fs::rename(folder.join(schema::FILE), &aside)?;
    Ok(aside)
}
