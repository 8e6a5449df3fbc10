//! The ledger: the exact usage of every consumer, in an SQLite database below `state_dir`.
//!
//! One thread writes, behind a bounded queue, many rows in one transaction. A request waits for it only with
//! `durability = "strict"`. A full disk or a broken database costs rows, which are counted, but never an answer, unless
//! `required` says that no request may be served without a row.

pub mod all_nodes;
pub mod attempts;
pub mod export;
pub mod focus;
pub mod reconcile;
pub mod refusals;
pub mod report_database;
pub mod request;
pub mod row;
pub mod ship;
pub mod usage;

mod by_share;
mod database;
mod error;
mod insert;
mod parquet_file;
mod removed;
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

use crate::config::PriceByShare;
pub use crate::config::{Durability, LedgerRules};
use crate::config::{Redis, ShipRules};
use by_share::PricesByShare;
use database::Database;
pub use error::LedgerError;
pub use refusals::Refusals;
pub use row::{MemberLabels, Row};
use ship::Shipper;
use ship::rounds::Rounds;
pub use spillway_plugins::prices::Cost;
use usage::{UsageQuery, UsageRow};
use writer::Writer;

use crate::batch_queue::{Sender, inbox};
use crate::clock::Clock;
use crate::shares::FairSlots;
use crate::telemetry::metrics::LedgerMetrics;

/// Rows that may wait for the writer.
const QUEUE: usize = 16_384;

/// Longest wait of an answer for its row: a disk that hangs must not hang the callers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest database, in bytes, that is checked completely at the start; in larger ones a defect is found when it is
/// met.
const CHECKED: u64 = 64 << 20;
/// Reports at once, because each may read much: this many for operators, as many again for consumers, and one per
/// consumer.
const REPORTS: usize = 2;

/// For whom a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader<'r> {
    /// Operators.
    Operator,
    /// A consumer.
    Consumer(&'r str),
}

/// Who a node is to those who read what it ships.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// Its name, which survives restarts.
    pub name: String,
    /// The name of its machine.
    pub host: String,
}

/// Accepts rows.
#[derive(Debug)]
pub struct Ledger {
    rules: LedgerRules,
    rows: Sender<Row>,
    healthy: Arc<AtomicBool>,
    for_operators: Arc<FairSlots<()>>,
    for_consumers: Arc<FairSlots<Arc<str>>>,
    metrics: LedgerMetrics,
    refusals: Option<Refusals>,
    shipper: Option<Shipper>,
    prices_by_share: PricesByShare,
}

impl Ledger {
    /// Opens the ledger and starts its thread. A broken ledger is renamed and logged, unless it is required.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn start(rules: LedgerRules, clock: Clock, metrics: LedgerMetrics) -> Result<Self, LedgerError> {
        let database = match Database::open(&rules).and_then(|database| checked(database, &rules.folder)) {
            Err(broken) if broken.is_corrupt() && !rules.required => {
                let aside = set_aside(&rules.folder, clock.wall().timestamp()).map_err(LedgerError::Stuck)?;
                error!(%broken, aside = %aside.display(), "the ledger is broken: it was renamed, and a new one was made; quotas and budgets start at zero");
                metrics.failures.inc();
                Some(Database::open(&rules)?)
            }
            Err(error @ LedgerError::Database(_)) if !rules.required => {
                error!(%error, "the ledger can't be opened: rows are lost until it can be opened; quotas and budgets start at zero");
                metrics.failures.inc();
                None
            }
            opened => Some(opened?),
        };
        let (rows, outlet) = inbox(QUEUE, metrics.waiting.clone());
        let healthy = Arc::new(AtomicBool::new(database.is_some()));
        metrics.up.set(i64::from(database.is_some()));
        let prices_by_share = PricesByShare::default();
        let writer = Writer::new(rules.clone(), database, Arc::clone(&healthy), metrics.clone(), clock, prices_by_share.clone());
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(&outlet)).map_err(LedgerError::Thread)?;
        let (for_operators, for_consumers) = (FairSlots::new(REPORTS, REPORTS), FairSlots::new(REPORTS, 1));
        let refusals = rules.refusals.then(|| Refusals::start(&rules, &metrics)).transpose()?;
        Ok(Ledger { rules, rows, healthy, for_operators, for_consumers, metrics, refusals, shipper: None, prices_by_share })
    }

    /// From now on ships the hourly sums of this node.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn start_shipping(&mut self, ship: &ShipRules, node: NodeIdentity, redis: Option<&Redis>, clock: Clock) -> Result<(), LedgerError> {
        let place = ship::open_place(&ship.to, redis).map_err(|error| LedgerError::Ship(error.to_string()))?;
        let rounds = Rounds::new(self.rules.folder.clone(), node.name, node.host, ship.clone(), place);
        self.shipper = Some(Shipper::start(rounds, ship.every, clock, self.metrics.ship.clone()).map_err(LedgerError::Thread)?);
        Ok(())
    }

    /// Ships what has changed since the last round, if sums are shipped; waits at most `limit`.
    pub async fn ship_now(&self, limit: Duration) {
        if let Some(shipper) = &self.shipper {
            shipper.ship_now(limit).await;
        }
    }

    /// Whether requests may be served: the ledger can be written, or is not required.
    pub fn may_serve(&self) -> bool {
        !self.rules.required || self.healthy.load(Ordering::Relaxed)
    }

    /// As if its rows could not be written any more.
    #[cfg(test)]
    pub fn fail(&self) {
        self.mark_unhealthy("a test says so");
    }

    /// Whether an answer's end must wait for its row.
    pub fn is_strict(&self) -> bool {
        self.rules.durability == Durability::Strict
    }

    /// Hands over a row, or counts it as lost. Returns whether it was handed over.
    pub fn write(&self, row: Row) -> bool {
        let taken = self.rows.push(row);
        if !taken {
            self.metrics.dropped.inc();
            self.mark_unhealthy("the ledger can't keep up: rows are lost");
        }
        taken
    }

    /// Prices per hour that are divided by shares, from this hour on.
    pub fn divide_by_share(&self, prices: &[PriceByShare]) {
        self.prices_by_share.set(prices);
    }

    /// Another process keeps the prices that are divided by shares from now on.
    pub fn leave_prices(&self) {
        self.prices_by_share.leave();
    }

    /// Where requests and attempts without cost are recorded, if they are.
    pub fn refusals(&self) -> Option<&Refusals> {
        self.refusals.as_ref()
    }

    /// Hands over a row and waits until it is on disk, or known to be lost (which is counted).
    pub async fn write_through(&self, row: Row) {
        if self.write(row) && tokio::time::timeout(PATIENCE, self.rows.flush()).await.is_err() {
            self.metrics.failures.inc();
            self.mark_unhealthy("the ledger is too slow: an answer was sent before its row was on disk");
        }
    }

    /// Logs that rows can't be written, once.
    fn mark_unhealthy(&self, why: &str) {
        self.metrics.up.set(0);
        if self.healthy.swap(false, Ordering::Relaxed) {
            error!(required = self.rules.required, "{why}");
        }
    }

    /// Waits until everything that was handed over is written, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let all = async {
            self.rows.flush().await;
            if let Some(refusals) = &self.refusals {
                refusals.flush().await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// Usage; see [`usage`].
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        usage::usage(&self.rules.folder, query)
    }

    /// As [`Ledger::usage`], on a blocking thread, a few at once. No reader waits for another reader's second report.
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
            // Held by the work, not by its caller: the work goes on if the caller leaves.
            let _place = place;
            ledger.usage(&query)
        };
        tokio::task::spawn_blocking(report).await.unwrap_or(Err(LedgerError::Busy))
    }
}

/// Checks a database, if it is small enough.
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

/// Renames a broken database and the files beside it.
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
