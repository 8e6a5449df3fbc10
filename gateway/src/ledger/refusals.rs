//! Requests and attempts that cost nothing, because they were refused or failed: what a replay needs beside the attempts
//! in the ledger. In a database of its own, so that many refusals delay no answer's row. Nothing else reads it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use tracing::warn;

use super::error::LedgerError;
use super::removed::OpenFiles;
use super::row::RequestId;
use crate::batch_queue::{Receiver, Sender, inbox};
use crate::config::LedgerRules;
use crate::telemetry::metrics::LedgerMetrics;

/// The file in `state_dir`.
const FILE: &str = "refusals.sqlite";
/// Refusals that may wait for the writer.
const QUEUE: usize = 16_384;
/// Most refusals that are kept; the oldest are deleted.
const MOST: i64 = 2_000_000;
/// How long refusals are collected before they are written together.
const GATHER: Duration = Duration::from_millis(50);
/// How long one process waits for another one's transaction.
const BUSY: Duration = Duration::from_secs(5);
/// Refusals that are read at once.
const PAGE: i64 = 4096;

/// Times are in microseconds. `attempt` is 0 for a request that was sent nowhere: then `outcome` is the limit's kind, or the
/// error's code.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS refusals (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    request TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    consumer TEXT,
    api TEXT NOT NULL,
    class TEXT NOT NULL,
    model TEXT NOT NULL,
    backend TEXT NOT NULL,
    deployment TEXT NOT NULL,
    outcome TEXT NOT NULL,
    owner TEXT NOT NULL,
    status INTEGER,
    retry_after INTEGER,
    of_deployment INTEGER NOT NULL,
    tokens INTEGER,
    cost INTEGER,
    cap INTEGER,
    waited INTEGER NOT NULL,
    began INTEGER NOT NULL,
    took INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS refusals_at ON refusals (at, id);
";

/// A request or an attempt that cost nothing. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When the request arrived, since 1970.
    pub at: i64,
    /// The request's id.
    pub request: RequestId,
    /// The number of the attempt, from 1; 0 for a request that was sent nowhere.
    pub attempt: u32,
    /// The consumer, if known.
    pub consumer: Option<Arc<str>>,
    /// The operation, if this program knows it.
    pub api: Option<Api>,
    /// The consumer's class.
    pub class: Class,
    /// The model asked for.
    pub model: Arc<str>,
    /// The backend; empty if none was asked.
    pub backend: Arc<str>,
    /// The deployment.
    pub deployment: Arc<str>,
    /// An attempt's label, the kind of the limit that refused, or the code of the gateway's own answer.
    pub outcome: Arc<str>,
    /// Whose limit refused it; empty if none did.
    pub owner: Arc<str>,
    /// The backend's status, or what the caller got if no backend was asked.
    pub status: Option<u16>,
    /// How long the backend asked to be left alone.
    pub retry_after: Option<i64>,
    /// A 429 is about the deployment alone, not about a quota that others may share.
    pub of_deployment: bool,
    /// The tokens that a limit should have reserved; of an attempt: the upper bound of its prompt. `None` if no limit asked.
    pub tokens: Option<u64>,
    /// The cost that a limit should have reserved, in `Money`'s unit.
    pub cost: Option<u64>,
    /// The most tokens that the request allowed its answers to have together.
    pub cap: Option<u64>,
    /// How long the request had waited for a target before.
    pub waited: i64,
    /// From the request's arrival to the beginning of the attempt.
    pub began: i64,
    /// How long it took.
    pub took: i64,
}

/// Accepts refusals.
#[derive(Debug)]
pub struct Refusals {
    rows: Sender<Refusal>,
    metrics: LedgerMetrics,
}

impl Refusals {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn start(rules: &LedgerRules, metrics: &LedgerMetrics) -> Result<Self, LedgerError> {
        let (rows, outlet) = inbox(QUEUE, metrics.refusals_waiting.clone());
        let writer = Writer { rules: rules.clone(), connection: None, was_told: false, metrics: metrics.clone() };
        std::thread::Builder::new().name("refusals".to_owned()).spawn(move || writer.run(&outlet)).map_err(LedgerError::Thread)?;
        Ok(Refusals { rows, metrics: metrics.clone() })
    }

    /// Hands one over, or counts it as lost.
    pub fn write(&self, refusal: Refusal) {
        if !self.rows.push(refusal) {
            self.metrics.refusals_dropped.inc();
        }
    }

    /// Waits until everything that was handed over is written.
    pub async fn flush(&self) {
        self.rows.flush().await;
    }
}

struct Writer {
    rules: LedgerRules,
    connection: Option<(Connection, OpenFiles)>,
    /// The log says that they can't be written.
    was_told: bool,
    metrics: LedgerMetrics,
}

impl Writer {
    fn run(mut self, rows: &Receiver<Refusal>) {
        rows.write_batches(GATHER, |batch| match self.write(batch) {
            Ok(()) => self.was_told = false,
            Err(error) => {
                self.connection = None;
                self.metrics.refusals_dropped.inc_by(batch.len() as u64);
                if !std::mem::replace(&mut self.was_told, true) {
                    warn!(%error, "refusals can't be recorded");
                }
            }
        });
    }

    fn write(&mut self, batch: &[Refusal]) -> Result<(), LedgerError> {
        if let Some((_, files)) = self.connection.take_if(|(_, files)| !files.is_there()) {
            self.metrics.failures.inc();
            files.forget();
        }
        let (connection, _) = match &mut self.connection {
            Some(open) => open,
            closed => closed.insert(OpenFiles::of(&self.rules.folder.join(FILE), || open(&self.rules.folder))?),
        };
        let transaction = connection.transaction()?;
        let mut last = 0;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO refusals VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
            )?;
            for row in batch {
                let number = |count: Option<u64>| count.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
                last = insert.insert(params![
                    row.at,
                    std::str::from_utf8(&row.request).unwrap_or(""),
                    row.attempt,
                    row.consumer.as_deref(),
                    row.api.map_or("", Api::label),
                    row.class.label(),
                    &*row.model,
                    &*row.backend,
                    &*row.deployment,
                    &*row.outcome,
                    &*row.owner,
                    row.status,
                    row.retry_after,
                    row.of_deployment,
                    number(row.tokens),
                    number(row.cost),
                    number(row.cap),
                    row.waited,
                    row.began,
                    row.took,
                ])?;
            }
        }
        let oldest =
            batch.iter().map(|row| row.at).max().unwrap_or(0) - i64::try_from(self.rules.retention.as_micros()).unwrap_or(i64::MAX);
        // A few more than come in, so that it ends.
        let step = batch.len() as i64 * 2 + 1000;
        transaction.execute("DELETE FROM refusals WHERE id <= ?1", [last - MOST])?;
        transaction
            .execute("DELETE FROM refusals WHERE id IN (SELECT id FROM refusals WHERE at < ?1 ORDER BY at LIMIT ?2)", [oldest, step])?;
        Ok(transaction.commit()?)
    }
}

fn open(folder: &Path) -> Result<Connection, LedgerError> {
    std::fs::create_dir_all(folder).map_err(|source| LedgerError::Folder { path: folder.to_owned(), source })?;
    let cannot_open = |error: std::io::Error| {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), Some(format!("{FILE}: {error}")))
    };
    crate::private::database(&folder.join(FILE)).map_err(cannot_open)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder.join(FILE), flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// The refusals of a time range, in order of their requests' arrival, a page at a time.
#[derive(Debug)]
pub struct RefusalRows {
    connection: Option<Connection>,
    /// Time and id of the last one that was read.
    last: (i64, i64),
    end: i64,
    page: VecDeque<Refusal>,
}

impl RefusalRows {
    /// Those of requests that arrived from `since` on, before `until`, in milliseconds since 1970. None if none were recorded.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn new(folder: &Path, since: i64, until: i64) -> Result<Self, LedgerError> {
        let path = folder.join(FILE);
        let connection = match path.exists() {
            false => None,
            true => {
                let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
                connection.busy_timeout(BUSY)?;
                connection.pragma_update(None, "query_only", true)?;
                Some(connection)
            }
        };
        let micros = |millis: i64| millis.saturating_mul(1000);
        Ok(RefusalRows { connection, last: (micros(since) - 1, i64::MAX), end: micros(until), page: VecDeque::new() })
    }

    /// Whether any are recorded at all.
    pub fn are_recorded(&self) -> bool {
        self.connection.is_some()
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn next_row(&mut self) -> Result<Option<Refusal>, LedgerError> {
        if self.page.is_empty() {
            self.read()?;
        }
        Ok(self.page.pop_front())
    }

    fn read(&mut self) -> Result<(), LedgerError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let mut statement = connection.prepare_cached(
            "SELECT at, request, attempt, consumer, api, class, model, backend, deployment, outcome, owner, status, retry_after, \
             of_deployment, tokens, cost, cap, waited, began, took, id FROM refusals \
             WHERE (at, id) > (?1, ?2) AND at < ?3 ORDER BY at, id LIMIT ?4",
        )?;
        let mut rows = statement.query(params![self.last.0, self.last.1, self.end, PAGE])?;
        while let Some(row) = rows.next()? {
            let text = |column: usize| row.get::<_, String>(column).map(Arc::<str>::from);
            let known = |column: usize| row.get::<_, Option<i64>>(column).map(|count| count.and_then(|count| u64::try_from(count).ok()));
            let (api, class): (String, String) = (row.get(4)?, row.get(5)?);
            let refusal = Refusal {
                at: row.get(0)?,
                request: row.get::<_, String>(1)?.as_bytes().into(),
                attempt: row.get(2)?,
                consumer: row.get::<_, Option<String>>(3)?.map(Into::into),
                api: Api::ALL.into_iter().find(|known| known.label() == api),
                class: Class::ALL.into_iter().find(|known| known.label() == class).unwrap_or_default(),
                model: text(6)?,
                backend: text(7)?,
                deployment: text(8)?,
                outcome: text(9)?,
                owner: text(10)?,
                status: row.get(11)?,
                retry_after: row.get(12)?,
                of_deployment: row.get(13)?,
                tokens: known(14)?,
                cost: known(15)?,
                cap: known(16)?,
                waited: row.get(17)?,
                began: row.get(18)?,
                took: row.get(19)?,
            };
            self.last = (refusal.at, row.get(20)?);
            self.page.push_back(refusal);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::telemetry::metrics::Metrics;

    pub(in crate::ledger) fn refusal(at: i64, attempt: u32) -> Refusal {
        Refusal {
            at,
            request: b"id".as_slice().into(),
            attempt,
            consumer: Some("crm".into()),
            api: Some(Api::Chat),
            class: Class::Batch,
            model: "m".into(),
            backend: "ptu".into(),
            deployment: "d".into(),
            outcome: "throttled".into(),
            owner: "".into(),
            status: Some(429),
            retry_after: Some(1_500_000),
            of_deployment: true,
            tokens: None,
            cost: None,
            cap: Some(7),
            waited: 0,
            began: 120,
            took: 3_000,
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_in_order_of_arrival_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let rules = LedgerRules {
            folder: folder.path().to_owned(),
            durability: Durability::Fast,
            required: false,
            retention: Duration::from_secs(3600),
            hours: Duration::from_secs(400 * 86_400),
            may_grow: true,
            refusals: true,
            ship: None,
        };
        let none = RefusalRows::new(folder.path(), 0, i64::MAX).unwrap();
        assert!(!none.are_recorded(), "there is no file yet");
        let metrics = Metrics::new().unwrap();
        let refusals = Refusals::start(&rules, &metrics.ledger).unwrap();
        let hour = 3_600_000_000;
        for (at, attempt) in [(3 * hour + 2, 1), (3 * hour + 1, 0), (hour, 1), (3 * hour + 2, 2)] {
            refusals.write(refusal(at, attempt));
        }
        refusals.flush().await;
        let read = |since: i64, until: i64| {
            let mut rows = RefusalRows::new(folder.path(), since, until).unwrap();
            let mut all = Vec::new();
            while let Some(row) = rows.next_row().unwrap() {
                all.push(row);
            }
            all
        };
        let all = read(0, i64::MAX / 1000);
        assert_eq!(all, [refusal(3 * hour + 1, 0), refusal(3 * hour + 2, 1), refusal(3 * hour + 2, 2)], "the one of hour 1 is too old");
        assert_eq!(read(0, 3 * hour / 1000).len(), 0);
        assert_eq!(metrics.ledger.refusals_dropped.get(), 0);
    }
}
