//! The database while it is written: its connection, and the numbers of the kinds that it knows.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior, params};
use spillway_plugins::api::Api;

use super::row::{Cost, Place, Row};
use super::schema::{COUNTER_BITS, first_id, open};
use super::tags::Tags;
use super::{LedgerError, LedgerRules, rollup};

/// Most kinds whose numbers are kept at hand: every reload makes the places anew.
const KINDS: usize = 10_000;

/// An open database. Whatever fails, it is dropped and opened anew: then what it knew is known no more.
pub(super) struct Database {
    pub(super) connection: Connection,
    kinds: Kinds,
}

/// What many attempts have in common: where (the same place is the same piece of memory, which whoever keeps
/// the key keeps), which API, how it went, and where the counts are from.
type Kind = (usize, Api, &'static str, &'static str);
type Kinds = HashMap<Kind, (Arc<Place>, i64)>;

impl Database {
    pub(super) fn open(rules: &LedgerRules) -> Result<Self, LedgerError> {
        Ok(Database { connection: open(&rules.folder, rules.durability)?, kinds: Kinds::default() })
    }

    /// Writes a batch in one transaction; `counter` counts the ids.
    pub(super) fn write(&mut self, batch: &[Row], tags: &mut Tags, counter: &mut i64) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rolled = rollup::rolled(&transaction)?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for row in batch {
            *counter = (*counter + 1) & ((1 << COUNTER_BITS) - 1);
            let hour = row.at.div_euclid(rollup::HOUR);
            let tags = row.tags.as_ref().map(|text| tags.bounded(hour, text));
            let kind = number(&mut self.kinds, &transaction, row)?;
            let id = insert_row(&mut insert, row, kind, tags.as_deref(), first_id(row.at) + *counter)?;
            if hour < rolled {
                rollup::add(&transaction, id, id + 1)?;
            }
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    /// Whether it can be written: a row is, and taken back.
    pub(super) fn probe(&mut self) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction()?;
        transaction
            .execute("INSERT INTO entries SELECT -1, 0, '', 0, 0, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0", [])?;
        transaction.execute("DELETE FROM entries WHERE id = -1", [])?;
        Ok(transaction.commit()?)
    }
}

/// The number of a row's kind.
fn number(kinds: &mut Kinds, transaction: &Transaction<'_>, row: &Row) -> rusqlite::Result<i64> {
    let (place, outcome, source) = (&row.place, row.outcome, row.metered.source.label());
    let kind: Kind = (Arc::as_ptr(place).addr(), row.api, outcome, source);
    if let Some((_, number)) = kinds.get(&kind) {
        return Ok(*number);
    }
    let parameters =
        params![row.api.label(), &*place.model, &*place.pool, &*place.backend, &*place.deployment, place.tier, outcome, source,];
    transaction.prepare_cached("INSERT OR IGNORE INTO kinds VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(parameters)?;
    let number = transaction
        .prepare_cached(
            "SELECT kind FROM kinds WHERE api = ?1 AND model = ?2 AND pool = ?3 AND backend = ?4 AND deployment = ?5 AND tier = ?6 \
             AND outcome = ?7 AND source = ?8",
        )?
        .query_row(parameters, |row| row.get(0))?;
    if kinds.len() >= KINDS {
        kinds.clear();
    }
    kinds.insert(kind, (Arc::clone(place), number));
    Ok(number)
}

const INSERT: &str = "INSERT OR IGNORE INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
     ?18, ?19, ?20)";

/// Inserts a row; the id that it has got.
fn insert_row(statement: &mut CachedStatement<'_>, row: &Row, kind: i64, tags: Option<&str>, mut id: i64) -> rusqlite::Result<i64> {
    let usage = &row.metered.usage;
    let (cost, hour_price) = match row.cost {
        Cost::Known(money) => (Some(count(money.0)), None),
        Cost::Hourly(money) => (None, Some(count(money.0))),
        Cost::Unknown => (None, None),
    };
    loop {
        let inserted = statement.execute(params![
            id,
            kind,
            std::str::from_utf8(&row.request).unwrap_or(""),
            count(row.attempt as u64),
            row.answered,
            row.consumer.as_deref(),
            tags,
            row.status,
            count(usage.input),
            count(usage.output),
            count(usage.cached_input),
            count(usage.cache_write),
            count(usage.reasoning),
            count(usage.input_audio),
            count(usage.output_audio),
            cost,
            hour_price,
            row.cache,
            row.first_us.map(count),
            count(row.us),
        ])?;
        if inserted == 1 {
            return Ok(id);
        }
        // Somebody has this id: only after a clock was set back, or a restart within a millisecond.
        id += 1;
    }
}

/// SQLite's integers have a sign.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
