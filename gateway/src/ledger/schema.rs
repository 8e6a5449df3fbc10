//! Opens the database, and defines its tables.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::LedgerError;
use crate::config::Durability;

/// The file in `state_dir`.
pub(super) const FILE: &str = "ledger.sqlite";

/// How long one process waits for another one's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// The format that this program writes; a higher number is from a newer program.
const VERSION: i64 = 3;

/// What attempts have in common is stored once, in `kinds`: a row is half as long and takes half the work. A name that
/// there is none of is empty.
const KINDS: &str = "
CREATE TABLE IF NOT EXISTS kinds (
    kind INTEGER PRIMARY KEY,
    api TEXT NOT NULL,
    model TEXT NOT NULL,
    pool TEXT NOT NULL,
    backend TEXT NOT NULL,
    deployment TEXT NOT NULL,
    tier INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    source TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    spilled_from TEXT NOT NULL,
    cost_estimated INTEGER NOT NULL,
    class TEXT NOT NULL,
    UNIQUE (api, model, pool, backend, deployment, tier, outcome, source, service_tier, spilled_from, cost_estimated, class)
) STRICT;
";

/// An attempt's id is its time to the microsecond and a counter, so that the table is in order of time without an index: new rows go to
/// the end, and a range of time is a range of ids. Readers see it with its kind as `attempts`. The last four columns are
/// null in rows that an earlier format has written.
const ENTRIES: &str = "
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    request TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    consumer TEXT,
    tags TEXT,
    status INTEGER,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cached_input INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    cost INTEGER,
    hour_price INTEGER,
    cache TEXT,
    first_us INTEGER,
    us INTEGER NOT NULL,
    cap INTEGER,
    reserved INTEGER,
    waited_us INTEGER,
    began_us INTEGER
) STRICT;
";

const HOURS: &str = "
CREATE TABLE IF NOT EXISTS hours (
    hour INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    tags TEXT NOT NULL,
    api TEXT NOT NULL,
    model TEXT NOT NULL,
    pool TEXT NOT NULL,
    backend TEXT NOT NULL,
    deployment TEXT NOT NULL,
    tier INTEGER NOT NULL,
    service_tier TEXT NOT NULL,
    spilled_from TEXT NOT NULL,
    requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cached_input INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    cost_estimated INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    hour_price INTEGER,
    PRIMARY KEY (hour, consumer, tags, api, model, pool, backend, deployment, tier, service_tier, spilled_from)
) STRICT, WITHOUT ROWID;
";

const META: &str = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/// The tables of a database that has only hourly sums.
pub(super) fn sums_tables() -> String {
    format!("{KINDS} {ENTRIES} {HOURS} {META} {PRICES_BY_SHARE} {VIEW}")
}

/// How often each hour's sums have changed: what was shipped of an hour is complete if nothing has changed since. Earlier
/// programs of the same format don't know the table, and may go on writing.
const CHANGES: &str = "
CREATE TABLE IF NOT EXISTS changes (hour INTEGER PRIMARY KEY, revision INTEGER NOT NULL) STRICT;
";

/// How prices per hour are divided by shares, for each hour. The table came after format 3; a program that doesn't know it can read and write all others.
const PRICES_BY_SHARE: &str = "
CREATE TABLE IF NOT EXISTS prices_by_share (
    hour INTEGER NOT NULL,
    backend TEXT NOT NULL,
    deployment TEXT NOT NULL,
    hour_price INTEGER NOT NULL,
    payers TEXT NOT NULL,
    PRIMARY KEY (hour, backend, deployment)
) STRICT, WITHOUT ROWID;
";

/// Format 1 had all of an attempt in one table with the name of today's view. This makes format 2's tables of it.
const FROM_1: &str = "
ALTER TABLE attempts RENAME TO attempts_1;
CREATE TABLE kinds (
    kind INTEGER PRIMARY KEY, api TEXT NOT NULL, model TEXT NOT NULL, pool TEXT NOT NULL, backend TEXT NOT NULL, deployment TEXT NOT NULL,
    tier INTEGER NOT NULL, outcome TEXT NOT NULL, source TEXT NOT NULL,
    UNIQUE (api, model, pool, backend, deployment, tier, outcome, source)
) STRICT;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, request TEXT NOT NULL, attempt INTEGER NOT NULL, answered INTEGER NOT NULL,
    consumer TEXT, tags TEXT, status INTEGER, input INTEGER NOT NULL, output INTEGER NOT NULL, cached_input INTEGER NOT NULL,
    cache_write INTEGER NOT NULL, reasoning INTEGER NOT NULL, input_audio INTEGER NOT NULL, output_audio INTEGER NOT NULL,
    cost INTEGER, hour_price INTEGER, cache TEXT, first_us INTEGER, us INTEGER NOT NULL
) STRICT;
INSERT INTO kinds (api, model, pool, backend, deployment, tier, outcome, source)
    SELECT DISTINCT api, model, pool, backend, deployment, tier, outcome, source FROM attempts_1;
INSERT INTO entries SELECT id, kind, request, attempt, answered, consumer, tags, status, input, output, cached_input, cache_write,
    reasoning, input_audio, output_audio, cost, hour_price, cache, first_us, us
    FROM attempts_1 JOIN kinds USING (api, model, pool, backend, deployment, tier, outcome, source);
DROP TABLE attempts_1;
";

/// Format 2 had no service tiers, and fewer columns. Adding columns touches no row; the other tables are short.
const FROM_2: &str = "
DROP VIEW IF EXISTS attempts;
ALTER TABLE kinds RENAME TO kinds_2;
ALTER TABLE hours RENAME TO hours_2;
ALTER TABLE entries ADD COLUMN cap INTEGER;
ALTER TABLE entries ADD COLUMN reserved INTEGER;
ALTER TABLE entries ADD COLUMN waited_us INTEGER;
ALTER TABLE entries ADD COLUMN began_us INTEGER;
";
const INTO_3: &str = "
INSERT INTO kinds SELECT *, '', '', 0, '' FROM kinds_2;
INSERT INTO hours SELECT hour, consumer, tags, api, model, pool, backend, deployment, tier, '', '', requests, attempts, input, output,
    cached_input, cache_write, reasoning, input_audio, output_audio, estimated, unknown, cost, 0, unpriced, hour_price FROM hours_2;
DROP TABLE kinds_2;
DROP TABLE hours_2;
";
const VIEW: &str = "CREATE VIEW attempts AS SELECT * FROM entries JOIN kinds USING (kind);";

/// Bits of an attempt's id that are the counter.
pub(super) const COUNTER_BITS: u32 = 20;

/// Bits of the counter below the microsecond.
pub(super) const SEQUENCE_BITS: u32 = 10;

/// The id of an attempt at this time, in milliseconds since 1970, and the microseconds beyond it: within a millisecond, too,
/// ids are in order of time. `sequence` tells apart those of the same microsecond.
pub(super) fn id_at(at: i64, us: u16, sequence: i64) -> i64 {
    first_id(at) + (i64::from(us.min(999)) << SEQUENCE_BITS) + (sequence & ((1 << SEQUENCE_BITS) - 1))
}

/// The microseconds beyond the millisecond of an attempt with this id.
pub(super) fn micros_of(id: i64) -> u16 {
    u16::try_from((id & ((1 << COUNTER_BITS) - 1)) >> SEQUENCE_BITS).unwrap_or(0).min(999)
}

/// The smallest id of an attempt at this time, in milliseconds since 1970.
pub(super) fn first_id(at: i64) -> i64 {
    at.clamp(0, i64::MAX >> COUNTER_BITS) << COUNTER_BITS
}

/// The time of an attempt with this id.
pub(super) fn time_of(id: i64) -> i64 {
    id >> COUNTER_BITS
}

/// Opens the database in `folder` for writing, and creates it if there is none.
pub(super) fn open(folder: &Path, durability: Durability) -> Result<Connection, LedgerError> {
    std::fs::create_dir_all(folder).map_err(|source| LedgerError::Folder { path: folder.to_owned(), source })?;
    // This error may be temporary, as when SQLite can't open the file.
    let cannot_open = |error: std::io::Error| {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), Some(format!("{FILE}: {error}")))
    };
    crate::private::database(&folder.join(FILE)).map_err(cannot_open)?;
    // Only one thread uses it: no lock is needed.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(folder.join(FILE), flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // WAL with NORMAL loses nothing if the process dies, but may if the machine does.
    connection.pragma_update(None, "synchronous", if durability == Durability::Strict { "full" } else { "normal" })?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    // In KiB, where 2,000 are usual: rows are added at the end, and the roll-ups of an hour are few pages.
    connection.pragma_update(None, "cache_size", -1024)?;
    // In a transaction, because two processes may open it at once.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        return Err(LedgerError::Newer { version });
    }
    if version < VERSION {
        // Each earlier format becomes the next one.
        let (before, after) = match version {
            1 => (format!("{FROM_1} {FROM_2}"), INTO_3),
            2 => (FROM_2.to_owned(), INTO_3),
            _ => (String::new(), ""),
        };
        let tables = format!("{KINDS} {ENTRIES} {HOURS} {META}");
        transaction.execute_batch(&format!("{before} {tables} {after} {VIEW} PRAGMA user_version = {VERSION};"))?;
    }
    identify(&transaction)?;
    transaction.execute_batch(PRICES_BY_SHARE)?;
    transaction.commit()?;
    Ok(connection)
}

/// Gives a ledger its number, which tells it from others, and the table of changes, in which every hour that there is counts as
/// changed once.
fn identify(connection: &Connection) -> rusqlite::Result<()> {
    let number = i64::try_from(fastrand::u64(..1 << 62)).unwrap_or(1);
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('ledger', ?1)", [number])?;
    if connection.table_exists(None, "changes")? {
        return Ok(());
    }
    connection.execute_batch(CHANGES)?;
    connection.execute("INSERT OR IGNORE INTO changes SELECT DISTINCT hour, 1 FROM hours", [])?;
    let sql = format!("INSERT OR IGNORE INTO changes SELECT DISTINCT (id >> {COUNTER_BITS}) / 3600000, 1 FROM entries");
    connection.execute(&sql, [])?;
    Ok(())
}

/// An hour's sums have changed. Called in the transaction that changes them.
pub(super) fn mark_changed(connection: &Connection, hour: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO changes VALUES (?1, 1) ON CONFLICT DO UPDATE SET revision = revision + 1";
    connection.prepare_cached(sql)?.execute([hour])?;
    Ok(())
}

/// Opens the database in `folder` for reading; `None` if there is none yet.
pub(super) fn open_to_read(folder: &Path) -> Result<Option<Connection>, LedgerError> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    // Not read-only: a reader in WAL mode may have to create the files beside the database.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        // Its writer has not made its tables yet.
        0 => return Ok(None),
        VERSION => {}
        newer if newer > VERSION => return Err(LedgerError::Newer { version }),
        _ => return Err(LedgerError::Older { version }),
    }
    Ok(Some(connection))
}
