//! The semantic cache on disk, so that it survives a restart. A thread of its own writes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, params};
use spillway_plugins::cache::semantic::{Known, Particulars, Question};
use spillway_plugins::cache::{CacheKey, Entry};
use spillway_plugins::prompt_log::redact::RedactError;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::background_queue;

/// The file in `state_dir`.
const FILE: &str = "semantic-cache.sqlite";
/// Answers that may wait to be written; further ones are lost at a restart.
const QUEUE: usize = 1024;

/// The semantic cache can't be kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder can't be created.
    #[error("plugins.cache.semantic: can't make {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The database can't be used.
    #[error("plugins.cache.semantic: {0}")]
    Database(#[from] rusqlite::Error),
    /// The texts of a dry run can't be redacted.
    #[error("plugins.cache.semantic: {0}")]
    Redact(#[from] RedactError),
    /// The thread can't be started.
    #[error("plugins.cache.semantic: can't start its thread: {0}")]
    Thread(std::io::Error),
}

enum Job {
    Put(Known),
    Flush(oneshot::Sender<()>),
}

/// The database, behind its thread.
#[derive(Debug)]
pub(super) struct Store {
    queue: SyncSender<Job>,
}

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS known (
    id INTEGER PRIMARY KEY,
    scope BLOB NOT NULL,
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    entry BLOB NOT NULL,
    good_until INTEGER NOT NULL,
    UNIQUE (scope, text)
) STRICT;
CREATE INDEX IF NOT EXISTS ends ON known (good_until);
PRAGMA user_version = 1;
";

impl Store {
    /// Opens it and passes what is still valid at `now` to `learn`, the oldest first. A file that is broken, or from
    /// another version, is replaced by an empty one: it is only a cache.
    pub(super) fn open(folder: &Path, max: usize, now: i64, learn: impl FnOnce(Vec<Known>)) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join(FILE);
        // It contains prompts and answers.
        let private = || crate::private::database(&path).map_err(|source| StoreError::Folder { path: path.clone(), source });
        private()?;
        let connection = match connect(&path) {
            Ok(connection) => connection,
            Err(error) => {
                warn!(%error, path = %path.display(), "the semantic cache on disk can't be used: it is replaced by an empty one");
                for suffix in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(folder.join(format!("{FILE}{suffix}")));
                }
                private()?;
                connect(&path)?
            }
        };
        let known = load(&connection, max, now)?;
        info!(count = known.len(), "the semantic cache was loaded from disk");
        learn(known);
        let (queue, jobs) = sync_channel(QUEUE);
        let run = move || run(&connection, &jobs, max);
        std::thread::Builder::new().name("semantic-cache".to_owned()).spawn(run).map_err(StoreError::Thread)?;
        Ok(Store { queue })
    }

    /// Writes an answer soon; if too many wait, the answer is not written.
    pub(super) fn put(&self, known: Known) {
        let _ = self.queue.try_send(Job::Put(known));
    }

    pub(super) async fn flush(&self, limit: Duration) {
        background_queue::flush(&self.queue, Job::Flush, limit).await;
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > 1 {
        return Err(rusqlite::Error::InvalidQuery);
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

fn load(connection: &Connection, max: usize, now: i64) -> rusqlite::Result<Vec<Known>> {
    connection.execute("DELETE FROM known WHERE good_until <= ?1", [now])?;
    let mut statement =
        connection.prepare("SELECT scope, text, vector, entry FROM (SELECT * FROM known ORDER BY id DESC LIMIT ?1) ORDER BY id")?;
    let mut rows = statement.query([i64::try_from(max).unwrap_or(i64::MAX)])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        let (scope, text, vector, entry): (Vec<u8>, String, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let (Ok(scope), Ok(entry)) = (<[u8; 32]>::try_from(scope), Entry::from_bytes(&Bytes::from(entry))) else { continue };
        let components = vector.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        // The particulars may be from another version: they are computed again.
        let question = Question { scope: CacheKey(scope), particulars: Particulars::of(&text), text };
        known.push(Known { question, vector: components.collect(), entry: Arc::new(entry) });
    }
    Ok(known)
}

fn run(connection: &Connection, jobs: &Receiver<Job>, max: usize) {
    let mut failing = false;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Flush(done) => drop(done.send(())),
            Job::Put(known) => {
                let written = put(connection, &known, max);
                if let (Err(error), false) = (&written, failing) {
                    error!(%error, "the semantic cache can't be written to disk; it works in memory only");
                }
                failing = written.is_err();
            }
        }
    }
}

fn put(connection: &Connection, known: &Known, max: usize) -> rusqlite::Result<()> {
    let Known { question, vector, entry } = known;
    let vector: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO known (scope, text, vector, entry, good_until) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    insert.execute(params![question.scope.0.as_slice(), question.text, vector, entry.to_bytes(), entry.good_until])?;
    // Ids grow: all that are more than `max` behind the last one are removed.
    let oldest = connection.last_insert_rowid().saturating_sub(i64::try_from(max).unwrap_or(i64::MAX));
    connection.prepare_cached("DELETE FROM known WHERE id <= ?1")?.execute([oldest])?;
    Ok(())
}
