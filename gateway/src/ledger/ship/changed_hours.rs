//! What the ledger has to ship: which hours have changed, and the sums of an hour.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _};

use super::super::by_share;
use super::super::error::LedgerError;
use super::super::rollup::{COLUMNS, HOUR, of_attempts, rolled};
use super::super::schema::{first_id, open_to_read};
use super::hour_file::{HourSums, SumsRow, columns};

/// A ledger that is read to be shipped.
pub(super) struct ChangedHours {
    connection: Connection,
}

impl ChangedHours {
    /// The ledger in this folder; `None` if there is none yet.
    pub(super) fn open(folder: &Path) -> Result<Option<Self>, LedgerError> {
        let Some(connection) = open_to_read(folder)? else { return Ok(None) };
        // A ledger of an earlier program, which no gateway of this version has opened yet.
        let is_known = connection.table_exists(None, "changes")?;
        Ok(is_known.then_some(ChangedHours { connection }))
    }

    /// The ledger's number.
    pub(super) fn number(&self) -> Result<u64, LedgerError> {
        let number: i64 = self.connection.query_row("SELECT value FROM meta WHERE name = 'ledger'", [], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }

    /// How often each hour has changed, from this hour on.
    pub(super) fn revisions(&self, since: i64) -> Result<BTreeMap<i64, i64>, LedgerError> {
        let mut statement = self.connection.prepare_cached("SELECT hour, revision FROM changes WHERE hour >= ?1")?;
        let rows = statement.query_map([since], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How often an hour had changed, and its sums then, in order; `None` if it is too old meanwhile.
    pub(super) fn hour(&self, hour: i64) -> Result<Option<(i64, HourSums)>, LedgerError> {
        // All as of one moment.
        let transaction = self.connection.unchecked_transaction()?;
        let revision = transaction.query_row("SELECT revision FROM changes WHERE hour = ?1", [hour], |row| row.get(0)).optional()?;
        let Some(revision) = revision else { return Ok(None) };
        let (sql, from, to) = if hour < rolled(&transaction)? {
            (
                format!("SELECT {COLUMNS} FROM hours WHERE hour >= ?1 AND hour < ?2 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"),
                hour,
                hour + 1,
            )
        } else {
            let sql = of_attempts("id >= ?1 AND id < ?2") + " ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11";
            (sql, first_id(hour * HOUR), first_id((hour + 1) * HOUR))
        };
        let width = columns().count();
        let mut statement = transaction.prepare(&sql)?;
        let rows =
            statement.query_map([from, to], |row| (0..width).map(|column| row.get::<_, Sql>(column)).collect::<Result<SumsRow, _>>())?;
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Some((revision, HourSums { rows, by_share: by_share::of_hour(&transaction, hour)? })))
    }

    /// The first hour that is not summed up yet: attempts of earlier ones are complete, except for late ones.
    pub(super) fn first_open_hour(&self) -> Result<i64, LedgerError> {
        rolled(&self.connection)
    }
}
