//! The database that a report reads: the ledger of one node, or the sums of all nodes. Reports don't know the difference.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::params_from_iter;

use super::by_share::{self, Rule};
use super::error::LedgerError;
use super::rollup::{COLUMNS, MERGE};
use super::schema::{open_to_read, sums_tables};
use super::ship::{SumsRow, columns};
use super::usage::{UsageQuery, UsageRow, usage_in};

/// A database for reports.
#[derive(Debug)]
pub struct ReportDatabase {
    /// `None`: a node without a ledger yet.
    connection: Option<Connection>,
}

impl ReportDatabase {
    /// The ledger in this folder.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn of_node(folder: &Path) -> Result<Self, LedgerError> {
        Ok(ReportDatabase { connection: open_to_read(folder)? })
    }

    /// One for sums, which has none yet. It is a temporary file without a name, of which SQLite has most in memory.
    pub(super) fn of_sums() -> Result<Self, LedgerError> {
        let connection = Connection::open("")?;
        connection.execute_batch(&sums_tables())?;
        // All hours are summed up, those to come, too.
        connection.execute("INSERT INTO meta VALUES ('rolled', ?1)", [i64::from(u32::MAX)])?;
        Ok(ReportDatabase { connection: Some(connection) })
    }

    /// Adds sums, all or none.
    pub(super) fn add(&self, rows: &[SumsRow]) -> Result<(), LedgerError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let transaction = connection.unchecked_transaction()?;
        let places = vec!["?"; columns().count()].join(", ");
        let mut insert = transaction.prepare_cached(&format!("INSERT INTO hours ({COLUMNS}) VALUES ({places}) {MERGE}"))?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    /// Adds how the price of a deployment in an hour is divided.
    pub(super) fn add_rule(&self, hour: i64, rule: &Rule) -> Result<(), LedgerError> {
        self.connection.as_ref().map_or(Ok(()), |connection| by_share::insert(connection, hour, rule))
    }

    /// A report.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        self.connection.as_ref().map_or(Ok(Vec::new()), |connection| usage_in(connection, query))
    }
}
