//! The thread that writes: gathers rows, commits them together, and keeps house in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{debug, error, info};

use super::database::Database;
use super::error::LedgerError;
use super::rollup;
use super::row::Row;
use super::schema::COUNTER_BITS;
use super::tags::Tags;
use crate::clock::Clock;
use crate::config::{Durability, LedgerRules};
use crate::inbox::{Outlet, Woken};
use crate::telemetry::metrics::LedgerMetrics;

/// How long rows gather before they are written together. While the thread sleeps, handing a row over
/// wakes nobody.
const GATHER: Duration = Duration::from_millis(50);
/// Most rows in one transaction.
const BATCH: usize = 4096;
/// How often the house is kept, and a broken database tried again, while nothing comes.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    rules: LedgerRules,
    database: Option<Database>,
    counter: i64,
    tags: Tags,
    /// Whether there is more house to keep than one step.
    more: bool,
    /// The second in which it was kept last.
    kept_at: i64,
    healthy: Arc<AtomicBool>,
    metrics: LedgerMetrics,
    clock: Clock,
}

impl Writer {
    /// With a database, or none: then it is tried again from time to time.
    pub(super) fn new(
        rules: LedgerRules,
        database: Option<Database>,
        healthy: Arc<AtomicBool>,
        metrics: LedgerMetrics,
        clock: Clock,
    ) -> Self {
        // Two processes that begin in one millisecond must not begin with one number.
        let counter = i64::from(fastrand::u32(..1 << COUNTER_BITS));
        Writer { rules, database, counter, tags: Tags::default(), more: false, kept_at: 0, healthy, metrics, clock }
    }

    /// Writes until nobody can hand anything over any more.
    #[expect(clippy::disallowed_methods, reason = "this thread is its own and has nothing else to do")]
    pub(super) fn run(mut self, rows: &Outlet<Row>) {
        let mut batch: Vec<Row> = Vec::new();
        // How long the last batch and the house took: rows have gathered meanwhile.
        let mut busy = Duration::ZERO;
        loop {
            let pause = if self.more { Duration::ZERO } else { PAUSE };
            let woken = rows.wait(pause);
            if woken == Woken::Closed {
                return;
            }
            if woken == Woken::Filled && self.rules.durability == Durability::Fast {
                std::thread::sleep(GATHER.saturating_sub(busy));
            }
            let began = self.clock.now();
            if woken == Woken::Filled {
                let flushed = rows.take(&mut batch);
                for chunk in batch.chunks(BATCH) {
                    self.write(chunk);
                    rows.done(chunk.len());
                }
                batch.clear();
                for done in flushed {
                    let _ = done.send(());
                }
            }
            self.keep_house();
            busy = self.clock.now().since(began);
        }
    }

    /// Writes a batch, once more after opening the database anew; what can't be written is lost, counted and
    /// told.
    pub(super) fn write(&mut self, batch: &[Row]) {
        if batch.is_empty() {
            return;
        }
        let mut written = self.try_write(batch);
        if written.is_err() {
            self.database = None;
            written = self.try_write(batch);
        }
        match written {
            Ok(()) => {
                self.metrics.rows.inc_by(batch.len() as u64);
                self.recovered();
            }
            Err(error) => self.broke(&error, batch.len()),
        }
    }

    fn broke(&mut self, error: &LedgerError, lost: usize) {
        self.database = None;
        self.metrics.failures.inc();
        self.metrics.dropped.inc_by(lost as u64);
        self.metrics.up.set(0);
        if self.healthy.swap(false, Ordering::Relaxed) {
            error!(%error, required = self.rules.required, "the ledger can't be written: rows are lost until it can");
        }
    }

    fn try_write(&mut self, batch: &[Row]) -> Result<(), LedgerError> {
        let mut counter = self.counter;
        opened(&mut self.database, &self.rules)?.write(batch, &mut self.tags, &mut counter)?;
        self.counter = counter;
        Ok(())
    }

    /// As if the process had begun anew.
    #[cfg(test)]
    pub(super) fn restart_counter(&mut self) {
        self.counter = 0;
    }

    /// Sums up what is old, and forgets what is too old, a step at a time. A database that couldn't be written
    /// is tried again.
    fn keep_house(&mut self) {
        if !self.healthy.load(Ordering::Relaxed) {
            return self.try_again();
        }
        let now = self.clock.wall();
        // Looked for once a second, unless there is more to do.
        if self.more || now.timestamp() != self.kept_at {
            self.kept_at = now.timestamp();
            self.keep_house_at(now.timestamp_millis());
        }
    }

    /// One step, as of a time in milliseconds since 1970; whether there is more to do.
    pub(super) fn keep_house_at(&mut self, now: i64) -> bool {
        match opened(&mut self.database, &self.rules).and_then(|database| rollup::keep_house(&mut database.connection, &self.rules, now)) {
            Ok(more) => self.more = more,
            Err(error) => {
                // Sums can wait; whether rows can be written, they say themselves.
                self.more = false;
                self.database = None;
                self.metrics.failures.inc();
                debug!(%error, "the ledger's sums have to wait");
            }
        }
        self.more
    }

    /// Whether rows can be written again.
    fn try_again(&mut self) {
        self.database = None;
        if opened(&mut self.database, &self.rules).and_then(Database::probe).is_ok() {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            self.metrics.up.set(1);
            info!("the ledger can be written again");
        }
    }
}

/// The database, opened anew if it is gone.
fn opened<'d>(database: &'d mut Option<Database>, rules: &LedgerRules) -> Result<&'d mut Database, LedgerError> {
    if database.is_none() {
        *database = Some(Database::open(rules)?);
    }
    database.as_mut().ok_or_else(|| LedgerError::Query("the ledger is closed".to_owned()))
}
