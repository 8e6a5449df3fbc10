//! The database for writing: its connection, and the known numbers of kinds.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::service_tier::ServiceTier;

use super::error::LedgerError;
use super::insert::Insert;
use super::removed::OpenFiles;
use super::rollup;
use super::row::{MemberLabels, Row};
use super::schema::{FILE, SEQUENCE_BITS, id_at, mark_changed, open};
use super::tags::Tags;
use crate::config::LedgerRules;

/// Most kinds whose numbers are in memory: every reload makes new ones.
const KINDS: usize = 10_000;

/// An open database. After any failure it is dropped and opened again, and its numbers are looked up again.
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) files: OpenFiles,
    kinds: Kinds,
}

/// What many attempts have in common: the place (by its address, which stays valid as long as the key's owner keeps the
/// place), the API, the outcome, the source of the counts, the service tier, whether its price is another tier's, and
/// the consumer's class.
type Kind = (usize, Api, &'static str, &'static str, &'static str, bool, Class);

/// The kinds whose numbers are known.
#[derive(Default)]
struct Kinds {
    numbers: HashMap<Kind, (Arc<MemberLabels>, i64)>,
    /// The kind of the last row, which is most often also the next one's.
    last: Option<(Kind, i64)>,
}

impl Database {
    pub(super) fn open(rules: &LedgerRules) -> Result<Self, LedgerError> {
        let (connection, files) = OpenFiles::of(&rules.folder.join(FILE), || open(&rules.folder, rules.durability))?;
        if !rules.may_grow {
            fill(&connection)?;
        }
        Ok(Database { connection, files, kinds: Kinds::default() })
    }

    /// Writes a batch in one transaction; `counter` numbers the ids.
    pub(super) fn write(&mut self, batch: &[Row], tags: &mut Tags, counter: &mut i64) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rolled = rollup::rolled(&transaction)?;
        let mut insert = Insert::new(&transaction)?;
        let mut changed = None;
        for row in in_order(batch) {
            *counter = (*counter + 1) & ((1 << SEQUENCE_BITS) - 1);
            let hour = row.at.div_euclid(rollup::HOUR);
            if changed != Some(hour) {
                mark_changed(&transaction, hour)?;
                changed = Some(hour);
            }
            let tags = row.tags.as_ref().map(|text| tags.bounded(hour, &row.consumer, text));
            let kind = self.kinds.number(&transaction, row)?;
            let id = insert.row(row, kind, tags, id_at(row.at, row.at_us, *counter))?;
            if hour < rolled {
                rollup::add(&transaction, id, id + 1)?;
            }
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    /// Whether the database can be written: inserts a row, and removes it.
    pub(super) fn probe(&mut self) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO entries (id, kind, request, attempt, answered, input, output, cached_input, cache_write, reasoning, input_audio, \
                      output_audio, us) VALUES (-1, 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
            [],
        )?;
        transaction.execute("DELETE FROM entries WHERE id = -1", [])?;
        Ok(transaction.commit()?)
    }
}

/// Leaves the database no room, as a full disk does: it may not grow, and what it has is used up by rows of a time to come,
/// which no maintenance removes.
fn fill(connection: &Connection) -> Result<(), LedgerError> {
    /// The year 2100, in milliseconds since 1970.
    const LATER: i64 = 4_102_444_800_000;
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    connection.pragma_update(None, "max_page_count", pages)?;
    let row = "INSERT INTO entries (id, kind, request, attempt, answered, input, output, cached_input, cache_write, reasoning, \
               input_audio, output_audio, us) \
               VALUES (max(?1, (SELECT coalesce(max(id), 0) + 1 FROM entries)), 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
    let is_full = |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
    loop {
        match connection.execute(row, [super::schema::first_id(LATER)]) {
            Ok(_) => {}
            Err(error) if is_full(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sorted by time: rows for the end of the table need no search.
fn in_order(batch: &[Row]) -> impl Iterator<Item = &Row> {
    // Rows are long: only their times are sorted.
    let mut order: Vec<(i64, u16, usize)> = batch.iter().enumerate().map(|(index, row)| (row.at, row.at_us, index)).collect();
    order.sort_unstable();
    order.into_iter().map(|(.., index)| &batch[index])
}

impl Kinds {
    /// The number of a row's kind.
    fn number(&mut self, transaction: &Transaction<'_>, row: &Row) -> rusqlite::Result<i64> {
        let source = row.metered.source.label();
        let kind: Kind = (Arc::as_ptr(&row.place).addr(), row.api, row.outcome, source, service_tier(row), row.cost_estimated, row.class);
        if let Some((last, number)) = self.last
            && last == kind
        {
            return Ok(number);
        }
        let number = match self.numbers.get(&kind) {
            Some((_, number)) => *number,
            None => {
                let number = look_up(transaction, row)?;
                if self.numbers.len() >= KINDS {
                    self.numbers.clear();
                }
                self.numbers.insert(kind, (Arc::clone(&row.place), number));
                number
            }
        };
        self.last = Some((kind, number));
        Ok(number)
    }
}

/// The name of a row's service tier; empty if its answer names none.
fn service_tier(row: &Row) -> &'static str {
    row.service_tier.map_or("", ServiceTier::label)
}

/// The number of a row's kind in the database; inserts the kind if it is new.
fn look_up(transaction: &Transaction<'_>, row: &Row) -> rusqlite::Result<i64> {
    let MemberLabels { model, pool, backend, deployment, tier, spilled_from } = &*row.place;
    let parameters = params![
        row.api.label(),
        &**model,
        &**pool,
        &**backend,
        &**deployment,
        tier,
        row.outcome,
        row.metered.source.label(),
        service_tier(row),
        spilled_from.as_deref().unwrap_or_default(),
        row.cost_estimated,
        row.class.label(),
    ];
    transaction
        .prepare_cached("INSERT OR IGNORE INTO kinds VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")?
        .execute(parameters)?;
    transaction
        .prepare_cached(
            "SELECT kind FROM kinds WHERE api = ?1 AND model = ?2 AND pool = ?3 AND backend = ?4 AND deployment = ?5 AND tier = ?6 \
             AND outcome = ?7 AND source = ?8 AND service_tier = ?9 AND spilled_from = ?10 AND cost_estimated = ?11 AND class = ?12",
        )?
        .query_row(parameters, |row| row.get(0))
}
