//! Hourly sums: reports over months read these, and they are kept longer than single attempts.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::error::LedgerError;
use super::schema::{COUNTER_BITS, first_id, mark_changed, time_of};
use crate::config::LedgerRules;

/// An hour in milliseconds.
pub(super) const HOUR: i64 = 3_600_000;
/// Most attempts that are deleted in one step: the writer must not wait long.
const FORGET: i64 = 5_000;

/// The first hour that is not summed up yet, in hours since 1970.
pub(super) fn rolled(connection: &Connection) -> Result<i64, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'rolled'")?;
    let found = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// Adds the attempts with ids from `first`, before `end`, to the sums of their hours.
pub(super) fn add(connection: &Connection, first: i64, end: i64) -> Result<(), LedgerError> {
    let sql = format!("INSERT INTO hours {} {MERGE}", of_attempts("id >= ?1 AND id < ?2"));
    connection.prepare_cached(&sql)?.execute(params![first, end])?;
    Ok(())
}

/// The columns of `hours`: its key of eleven, and the sums.
pub(super) const COLUMNS: &str = "hour, consumer, tags, api, model, pool, backend, deployment, tier, service_tier, spilled_from, requests, \
     attempts, input, output, cached_input, cache_write, reasoning, input_audio, output_audio, estimated, unknown, cost, cost_estimated, \
     unpriced, hour_price";

/// The statement that sums up the attempts for which this condition holds, with these columns.
pub(super) fn of_attempts(condition: &str) -> String {
    format!(
        "SELECT (id >> {COUNTER_BITS}) / {HOUR}, coalesce(consumer, ''), coalesce(tags, ''), api, model, pool, backend, deployment, tier, \
         service_tier, spilled_from, {SUMS} FROM attempts WHERE {condition} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
    )
}

/// Adds what is inserted to what an hour has already.
pub(super) const MERGE: &str = "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, \
     attempts = attempts + excluded.attempts, \
     input = input + excluded.input, output = output + excluded.output, cached_input = cached_input + excluded.cached_input, \
     cache_write = cache_write + excluded.cache_write, reasoning = reasoning + excluded.reasoning, \
     input_audio = input_audio + excluded.input_audio, output_audio = output_audio + excluded.output_audio, \
     estimated = estimated + excluded.estimated, unknown = unknown + excluded.unknown, cost = CAST(min(cost + excluded.cost, 9e18) AS INTEGER), \
     cost_estimated = cost_estimated + excluded.cost_estimated, unpriced = unpriced + excluded.unpriced, \
     hour_price = nullif(max(coalesce(hour_price, 0), coalesce(excluded.hour_price, 0)), 0)";

/// The sums over attempts; the columns of `hours` after its key.
const SUMS: &str = "sum(answered), count(*), sum(input), sum(output), sum(cached_input), sum(cache_write), sum(reasoning), \
     sum(input_audio), sum(output_audio), sum(CASE source WHEN 'estimated' THEN input + output ELSE 0 END), \
     sum(source = 'unknown'), CAST(min(total(cost), 9e18) AS INTEGER), sum(cost_estimated), sum(cost IS NULL AND hour_price IS NULL), max(hour_price)";

/// Sums up one hour that is over, or deletes some rows that are too old. Returns whether there is more to do: one step
/// is as long as rows should have to wait. `now` is in milliseconds since 1970.
pub(super) fn maintain(connection: &mut Connection, rules: &LedgerRules, now: i64) -> Result<bool, LedgerError> {
    // Attempts of an hour are written for a while after it; those that come later are added one by one.
    let due = now.div_euclid(HOUR) - 1;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rolled = rolled(&transaction)?;
    if rolled < due {
        // Hours without attempts are skipped.
        let first: Option<i64> =
            transaction.query_row("SELECT min(id) FROM entries WHERE id >= ?1", [first_id(rolled * HOUR)], |row| row.get(0))?;
        let hour = first.map_or(due, |id| time_of(id).div_euclid(HOUR)).clamp(rolled, due);
        let end = (hour + 1).min(due);
        add(&transaction, first_id(rolled * HOUR), first_id(end * HOUR))?;
        if end > hour {
            // A program that doesn't know the table of changes may have written to this hour meanwhile.
            mark_changed(&transaction, hour)?;
        }
        transaction.execute("INSERT INTO meta VALUES ('rolled', ?1) ON CONFLICT DO UPDATE SET value = excluded.value", [end])?;
        transaction.commit()?;
        return Ok(true);
    }
    let before = |age: std::time::Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let oldest = first_id(before(rules.retention).min(rolled * HOUR));
    let oldest_hour = before(rules.hours).div_euclid(HOUR);
    transaction.execute("DELETE FROM hours WHERE hour < ?1", [oldest_hour])?;
    transaction.execute("DELETE FROM changes WHERE hour < ?1", [oldest_hour])?;
    transaction.execute("DELETE FROM prices_by_share WHERE hour < ?1", [oldest_hour])?;
    let forgotten =
        transaction.execute("DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE id < ?1 LIMIT ?2)", [oldest, FORGET])?;
    transaction.commit()?;
    Ok(forgotten as i64 == FORGET)
}
