//! Sums by the hour: reports over months read these, and outlive the single attempts.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::schema::{COUNTER_BITS, first_id};
use super::{LedgerError, LedgerRules};

/// An hour in milliseconds.
pub(super) const HOUR: i64 = 3_600_000;
/// Most attempts that are forgotten in one go: the writer must not be kept from its rows for long.
const FORGET: i64 = 5_000;

/// Hours before this one are summed up; in hours since 1970.
pub(super) fn rolled(connection: &Connection) -> Result<i64, LedgerError> {
    let found = connection.query_row("SELECT value FROM meta WHERE name = 'rolled'", [], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// Adds the attempts with ids from `first`, before `end`, to their hours' sums.
pub(super) fn add(connection: &Connection, first: i64, end: i64) -> Result<(), LedgerError> {
    let sql = format!(
        "INSERT INTO hours SELECT (id >> {COUNTER_BITS}) / {HOUR}, coalesce(consumer, ''), coalesce(tags, ''), api, model, pool, backend, \
         deployment, tier, {SUMS} FROM attempts WHERE id >= ?1 AND id < ?2 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 \
         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, attempts = attempts + excluded.attempts, \
         input = input + excluded.input, output = output + excluded.output, cached_input = cached_input + excluded.cached_input, \
         cache_write = cache_write + excluded.cache_write, reasoning = reasoning + excluded.reasoning, \
         input_audio = input_audio + excluded.input_audio, output_audio = output_audio + excluded.output_audio, \
         estimated = estimated + excluded.estimated, unknown = unknown + excluded.unknown, cost = cost + excluded.cost, \
         unpriced = unpriced + excluded.unpriced, hour_price = nullif(max(coalesce(hour_price, 0), coalesce(excluded.hour_price, 0)), 0)"
    );
    connection.prepare_cached(&sql)?.execute(params![first, end])?;
    Ok(())
}

/// What attempts add up to; the columns of `hours` after its key.
pub(super) const SUMS: &str = "sum(answered), count(*), sum(input), sum(output), sum(cached_input), sum(cache_write), sum(reasoning), \
     sum(input_audio), sum(output_audio), sum(CASE source WHEN 'estimated' THEN input + output ELSE 0 END), \
     sum(source = 'unknown'), coalesce(sum(cost), 0), sum(cost IS NULL AND hour_price IS NULL), max(hour_price)";

/// Sums up hours that are over, forgets what is older than the rules say, and returns the first hour that
/// is not summed up. `now` is in milliseconds since 1970.
pub(super) fn keep_house(connection: &mut Connection, rules: &LedgerRules, rolled: i64, now: i64) -> Result<i64, LedgerError> {
    // Attempts of an hour come in for a while after it; later ones are added one by one.
    let due = now.div_euclid(HOUR) - 1;
    if due <= rolled {
        return Ok(rolled);
    }
    let transaction = connection.transaction()?;
    add(&transaction, first_id(rolled * HOUR), first_id(due * HOUR))?;
    transaction.execute("INSERT INTO meta VALUES ('rolled', ?1) ON CONFLICT DO UPDATE SET value = excluded.value", [due])?;
    let before = |age: std::time::Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let oldest = before(rules.retention).min(due * HOUR);
    transaction.execute("DELETE FROM hours WHERE hour < ?1", [before(rules.hours).div_euclid(HOUR)])?;
    transaction.commit()?;
    loop {
        let forgotten = connection
            .execute("DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE id < ?1 LIMIT ?2)", [first_id(oldest), FORGET])?;
        if (forgotten as i64) < FORGET {
            return Ok(due);
        }
    }
}
