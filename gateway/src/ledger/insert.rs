//! One statement for many rows. A column with the same value as in the previous row is not bound again: most columns
//! are equal, and binding a value in SQLite takes longer than comparing it.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Transaction};

use spillway_plugins::prices::Cost;

use super::row::Row;

const SQL: &str = "INSERT OR IGNORE INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
     ?19, ?20, ?21, ?22, ?23, ?24)";
/// The number of parameters plus one, because they count from 1.
const PARAMETERS: usize = 25;

/// The statement, and the values bound to it; NULL at first.
pub(super) struct Insert<'c> {
    statement: CachedStatement<'c>,
    numbers: [Option<i64>; PARAMETERS],
    consumer: Option<Arc<str>>,
    tags: Option<Arc<str>>,
    cache: Option<&'static str>,
}

impl<'c> Insert<'c> {
    pub(super) fn new(transaction: &'c Transaction<'_>) -> rusqlite::Result<Self> {
        let statement = transaction.prepare_cached(SQL)?;
        Ok(Insert { statement, numbers: [None; PARAMETERS], consumer: None, tags: None, cache: None })
    }

    /// Inserts a row of this kind, with these tags. Returns its id: this one, or the next free one.
    pub(super) fn row(&mut self, row: &Row, kind: i64, tags: Option<Arc<str>>, mut id: i64) -> rusqlite::Result<i64> {
        let usage = &row.metered.usage;
        let (cost, hour_price) = match row.cost {
            Cost::Known(money) => (Some(count(money.0)), None),
            Cost::Hourly(money) => (None, Some(count(money.0))),
            Cost::Unknown => (None, None),
        };
        self.number(2, Some(kind))?;
        // An id is ASCII: SQLite needs no check.
        self.statement.raw_bind_parameter(3, ToSqlOutput::Borrowed(ValueRef::Text(&row.request)))?;
        self.number(4, Some(count(row.attempt as u64)))?;
        self.number(5, Some(i64::from(row.answered)))?;
        if self.consumer != row.consumer {
            self.consumer.clone_from(&row.consumer);
            self.statement.raw_bind_parameter(6, self.consumer.as_deref())?;
        }
        if self.tags != tags {
            self.tags = tags;
            self.statement.raw_bind_parameter(7, self.tags.as_deref())?;
        }
        self.number(8, row.status.map(i64::from))?;
        let counts =
            [usage.input, usage.output, usage.cached_input, usage.cache_write, usage.reasoning, usage.input_audio, usage.output_audio];
        for (parameter, number) in (9..).zip(counts) {
            self.number(parameter, Some(count(number)))?;
        }
        self.number(16, cost)?;
        self.number(17, hour_price)?;
        if self.cache != row.cache {
            self.cache = row.cache;
            self.statement.raw_bind_parameter(18, self.cache)?;
        }
        self.number(19, row.first_us.map(count))?;
        self.number(20, Some(count(row.us)))?;
        self.number(21, row.cap.map(count))?;
        self.number(22, row.reserved.map(count))?;
        self.number(23, Some(count(row.waited_us)))?;
        self.number(24, Some(count(row.began_us)))?;
        loop {
            self.number(1, Some(id))?;
            if self.statement.raw_execute()? == 1 {
                return Ok(id);
            }
            // The id is taken: only after a clock was set back, or a restart within a millisecond.
            id += 1;
        }
    }

    fn number(&mut self, parameter: usize, number: Option<i64>) -> rusqlite::Result<()> {
        if self.numbers[parameter] != number {
            self.numbers[parameter] = number;
            self.statement.raw_bind_parameter(parameter, number)?;
        }
        Ok(())
    }
}

/// SQLite's integers are signed.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
