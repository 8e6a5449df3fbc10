//! The writing thread: collects rows, commits them together, and does maintenance in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{debug, error, info};

use super::by_share::{self, PricesByShare};
use super::database::Database;
use super::error::LedgerError;
use super::rollup;
use super::row::Row;
use super::schema::SEQUENCE_BITS;
use super::tags::Tags;
use crate::batch_queue::{Receiver, Woken};
use crate::clock::Clock;
use crate::config::{Durability, LedgerRules, PriceByShare};
use crate::telemetry::metrics::LedgerMetrics;

/// How long rows are collected before they are written together. While the thread sleeps, handing over a row doesn't
/// wake it.
const GATHER: Duration = Duration::from_millis(50);
/// Most rows in one transaction.
const BATCH: usize = 4096;
/// How often maintenance runs, and a broken database is tried again, while no rows come.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    rules: LedgerRules,
    database: Option<Database>,
    counter: i64,
    tags: Tags,
    /// Whether there is more maintenance to do.
    more: bool,
    /// The second in which it was done last.
    kept_at: i64,
    prices_by_share: PricesByShare,
    /// Those that are kept already, and for which hour.
    kept_prices: Option<(i64, Arc<[PriceByShare]>)>,
    healthy: Arc<AtomicBool>,
    pub(super) metrics: LedgerMetrics,
    clock: Clock,
}

impl Writer {
    /// With a database, or without one: then it is tried again now and then.
    pub(super) fn new(
        rules: LedgerRules,
        database: Option<Database>,
        healthy: Arc<AtomicBool>,
        metrics: LedgerMetrics,
        clock: Clock,
        prices_by_share: PricesByShare,
    ) -> Self {
        // Two processes that start in the same microsecond must not start with the same number.
        let counter = i64::from(fastrand::u32(..1 << SEQUENCE_BITS));
        Writer {
            rules,
            database,
            counter,
            tags: Tags::default(),
            more: false,
            kept_at: 0,
            prices_by_share,
            kept_prices: None,
            healthy,
            metrics,
            clock,
        }
    }

    /// Writes until the sender is dropped.
    #[expect(clippy::disallowed_methods, reason = "this thread is its own and has nothing else to do")]
    pub(super) fn run(mut self, rows: &Receiver<Row>) {
        let mut batch: Vec<Row> = Vec::new();
        // How long the last batch and the maintenance took: rows were collected meanwhile.
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
            if woken == Woken::Idle {
                rows.give_back(&mut batch);
            }
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
            self.maintain();
            busy = self.clock.now().since(began);
        }
    }

    /// Writes a batch; if that fails, opens the database again and tries once more. Rows that can't be written are
    /// lost, counted and logged.
    pub(super) fn write(&mut self, batch: &[Row]) {
        if batch.is_empty() {
            return;
        }
        self.find_again();
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
            error!(%error, required = self.rules.required, "the ledger can't be written: rows are lost until it can be written again");
        }
    }

    fn try_write(&mut self, batch: &[Row]) -> Result<(), LedgerError> {
        let mut counter = self.counter;
        opened(&mut self.database, &self.rules)?.write(batch, &mut self.tags, &mut counter)?;
        self.counter = counter;
        Ok(())
    }

    /// If the file was removed or replaced, goes on in the one that has its name now.
    fn find_again(&mut self) {
        let Some(Database { connection, files, .. }) = self.database.take_if(|database| !database.files.is_there()) else { return };
        self.metrics.failures.inc();
        files.let_go(connection, self.clock.wall().timestamp());
        // The other one doesn't have them.
        self.kept_prices = None;
    }

    /// As if the process had restarted.
    #[cfg(test)]
    pub(super) fn restart_counter(&mut self) {
        self.counter = 0;
    }

    /// Sums up old rows, and deletes those that are too old, one step at a time. If the database couldn't be written,
    /// it is tried again.
    fn maintain(&mut self) {
        if !self.healthy.load(Ordering::Relaxed) {
            return self.try_again();
        }
        let now = self.clock.wall();
        // Checked once a second, unless there is more to do.
        if self.more || now.timestamp() != self.kept_at {
            self.kept_at = now.timestamp();
            self.keep_house_at(now.timestamp_millis());
        }
    }

    /// One step, at a time in milliseconds since 1970. Returns whether there is more to do.
    pub(super) fn keep_house_at(&mut self, now: i64) -> bool {
        self.find_again();
        let kept = self.keep_prices(now.div_euclid(rollup::HOUR));
        let maintained = kept.and_then(|()| rollup::maintain(&mut opened(&mut self.database, &self.rules)?.connection, &self.rules, now));
        match maintained {
            Ok(more) => self.more = more,
            Err(error) => {
                // Sums can wait; a failed write of rows is reported where it happens.
                self.more = false;
                self.database = None;
                self.metrics.failures.inc();
                debug!(%error, "the ledger's sums are delayed");
            }
        }
        self.more
    }

    /// Keeps how this hour's prices are divided: once an hour, and after a change.
    fn keep_prices(&mut self, hour: i64) -> Result<(), LedgerError> {
        let Some(prices) = self.prices_by_share.get() else { return Ok(()) };
        if self.kept_prices.as_ref().is_some_and(|(known, kept)| *known == hour && Arc::ptr_eq(kept, &prices)) {
            return Ok(());
        }
        by_share::keep(&mut opened(&mut self.database, &self.rules)?.connection, hour, &prices)?;
        self.kept_prices = Some((hour, prices));
        Ok(())
    }

    /// Tries whether rows can be written again.
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

/// The database, opened again if it was dropped.
fn opened<'d>(database: &'d mut Option<Database>, rules: &LedgerRules) -> Result<&'d mut Database, LedgerError> {
    if database.is_none() {
        *database = Some(Database::open(rules)?);
    }
    database.as_mut().ok_or_else(|| LedgerError::Query("the ledger is closed".to_owned()))
}
