//! Reports of usage, by consumer, model, day or any other column of a row.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};
use serde::Serialize;
use serde_json::{Map, Value};
use spillway_plugins::prices::Money;

use super::by_share::{self, Place};
use super::error::LedgerError;
use super::rollup::{COLUMNS, HOUR, of_attempts, rolled};
use super::schema::{first_id, open_to_read, time_of};

/// What a report is broken down by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// A column that is a name.
    Name(&'static str),
    /// The tier.
    Tier,
    /// The beginning of the hour, the day or the month, in UTC.
    Time(&'static str),
    /// A tag header of the callers.
    Tag(String),
}

/// The columns that are names.
const NAMES: [&str; 8] = ["consumer", "model", "api", "pool", "backend", "deployment", "service_tier", "spilled_from"];
/// The units of time.
const TIMES: [&str; 3] = ["hour", "day", "month"];

impl FromStr for Dimension {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        if let Some(name) = NAMES.into_iter().find(|name| *name == text) {
            return Ok(Dimension::Name(name));
        }
        if let Some(unit) = TIMES.into_iter().find(|unit| *unit == text) {
            return Ok(Dimension::Time(unit));
        }
        match text.strip_prefix("tag:") {
            _ if text == "tier" => Ok(Dimension::Tier),
            Some(tag) if is_tag(tag) => Ok(Dimension::Tag(tag.to_ascii_lowercase())),
            _ => Err(LedgerError::Query(format!(
                "'{text}' is not a dimension of usage; known: {}, tier, {}, tag:HEADER",
                NAMES.join(", "),
                TIMES.join(", ")
            ))),
        }
    }
}

/// Whether this can be a header's name.
fn is_tag(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dimension::Name(name) | Dimension::Time(name) => f.write_str(name),
            Dimension::Tier => f.write_str("tier"),
            Dimension::Tag(name) => write!(f, "tag:{name}"),
        }
    }
}

impl Dimension {
    /// The SQL expression, in a table with a column `hour`. Names come from the lists above, or were checked to contain
    /// only letters, digits and dashes.
    fn expression(&self) -> String {
        match self {
            Dimension::Name(name) => format!("nullif({name}, '')"),
            Dimension::Tier => "tier".to_owned(),
            Dimension::Time("hour") => "strftime('%Y-%m-%dT%H:00:00Z', hour * 3600, 'unixepoch')".to_owned(),
            Dimension::Time("day") => "strftime('%Y-%m-%d', hour * 3600, 'unixepoch')".to_owned(),
            Dimension::Time(_) => "strftime('%Y-%m', hour * 3600, 'unixepoch')".to_owned(),
            Dimension::Tag(name) => format!("json_extract(nullif(tags, ''), '$.\"{name}\"')"),
        }
    }

    /// Its name and its value for a consumer that did not use a deployment in an hour.
    fn idle(&self, (hour, backend, deployment): &Place, consumer: &str) -> (String, Value) {
        let begin = chrono::DateTime::from_timestamp(hour.saturating_mul(3600), 0).unwrap_or_default();
        let value = match self {
            Dimension::Name("consumer") => Some(consumer.to_owned()).filter(|name| !name.is_empty()),
            Dimension::Name("backend") => Some(backend.clone()),
            Dimension::Name("deployment") => Some(deployment.clone()),
            Dimension::Time("hour") => Some(begin.format("%Y-%m-%dT%H:00:00Z").to_string()),
            Dimension::Time("day") => Some(begin.format("%Y-%m-%d").to_string()),
            Dimension::Time(_) => Some(begin.format("%Y-%m").to_string()),
            Dimension::Name(_) | Dimension::Tier | Dimension::Tag(_) => None,
        };
        (self.to_string(), value.map_or(Value::Null, Value::String))
    }
}

/// A query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// Start of the time range, in milliseconds since 1970.
    pub since: i64,
    /// End of the time range.
    pub until: i64,
    /// The dimensions.
    pub by: Vec<Dimension>,
    /// Only this consumer's usage.
    pub consumer: Option<String>,
}

impl UsageQuery {
    /// Parses `consumer,model` and the like; an empty text means these two.
    ///
    /// # Errors
    /// [`LedgerError::Query`]
    pub fn dimensions(text: &str) -> Result<Vec<Dimension>, LedgerError> {
        let text = if text.is_empty() { "consumer,model" } else { text };
        let mut by: Vec<Dimension> = Vec::new();
        for one in text.split(',') {
            let one = one.trim().parse()?;
            if !by.contains(&one) {
                by.push(one);
            }
        }
        Ok(by)
    }
}

/// One line of a report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UsageRow {
    /// The values of the dimensions; null if there is none.
    #[serde(flatten)]
    pub by: Map<String, Value>,
    /// Requests that were answered.
    pub requests: i64,
    /// Attempts that cost something, or may have.
    pub attempts: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Of the input: read from the provider's cache.
    pub cached_input_tokens: i64,
    /// Of the input: written to the provider's cache.
    pub cache_write_tokens: i64,
    /// Of the output: reasoning.
    pub reasoning_tokens: i64,
    /// Of the input: audio.
    pub input_audio_tokens: i64,
    /// Of the output: audio.
    pub output_audio_tokens: i64,
    /// Of all tokens: not reported by a backend, but estimated.
    pub estimated_tokens: i64,
    /// Attempts with unknown usage.
    pub unknown_attempts: i64,
    /// The cost, as far as prices are known; null if none is.
    pub cost_usd: Option<f64>,
    /// The part of it that is paid by usage, without shares of deployments with a price per hour.
    pub paid_usd: Option<f64>,
    /// Attempts whose service tier has no known price: they cost what another tier would.
    pub estimated_cost_attempts: i64,
    /// Attempts with unknown cost.
    pub unpriced_attempts: i64,
}

/// A report.
///
/// # Errors
/// [`LedgerError`]
pub fn usage(folder: &Path, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
    match open_to_read(folder)? {
        Some(connection) => usage_in(&connection, query),
        None => Ok(Vec::new()),
    }
}

/// As [`usage`], of an open database.
pub(super) fn usage_in(connection: &Connection, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
    // All reads see the same state.
    let connection = connection.unchecked_transaction()?;
    let source = Source::new(&connection, query)?;
    let mut rows = sums(&connection, &source, query)?;
    for Flat { key, by, usd } in hourly(&connection, &source, query)? {
        // A share that was not used has a line, too.
        let row = rows.entry(key).or_insert_with(|| UsageRow { by, paid_usd: Some(0.0), ..UsageRow::default() });
        row.cost_usd = Some(row.cost_usd.unwrap_or(0.0) + usd);
    }
    Ok(rows.into_values().collect())
}

/// Where the sums come from: hours that are summed up already, and single attempts before, after and in between.
struct Source {
    sql: String,
    parameters: Vec<Sql>,
    /// The range that it covers, in milliseconds since 1970.
    since: i64,
    until: i64,
}

impl Source {
    /// Of the attempts in the query's time range, of all consumers or of one.
    fn new(connection: &Connection, query: &UsageQuery) -> Result<Self, LedgerError> {
        let (mut since, mut until) = (query.since.max(0), query.until.max(0));
        let rolled = rolled(connection)?;
        // Hours whose attempts are deleted exist only as a whole.
        let oldest: Option<i64> = connection.query_row("SELECT min(id) FROM entries", [], |row| row.get(0))?;
        let oldest = oldest.map_or(rolled * HOUR, time_of).min(rolled * HOUR);
        if since < oldest {
            since = since.div_euclid(HOUR) * HOUR;
        }
        if until < oldest {
            until = (until + HOUR - 1).div_euclid(HOUR) * HOUR;
        }
        let whole = (since + HOUR - 1).div_euclid(HOUR)..until.div_euclid(HOUR).min(rolled);
        let only = if query.consumer.is_some() { " AND consumer = ?" } else { "" };
        let consumer = || query.consumer.clone().map(Sql::from);
        let mut parameters = Vec::new();
        let mut parts = Vec::new();
        let mut attempts = |from: i64, to: i64, parameters: &mut Vec<Sql>| {
            parts.push(of_attempts(&format!("id >= ? AND id < ?{only}")));
            parameters.extend([Sql::from(first_id(from)), Sql::from(first_id(to))]);
            parameters.extend(consumer());
        };
        if whole.is_empty() {
            attempts(since, until, &mut parameters);
        } else {
            attempts(since, whole.start * HOUR, &mut parameters);
            attempts(whole.end * HOUR, until, &mut parameters);
            parts.insert(0, format!("SELECT * FROM hours WHERE hour >= ? AND hour < ?{only}"));
            parameters.splice(0..0, [Sql::from(whole.start), Sql::from(whole.end)].into_iter().chain(consumer()));
        }
        Ok(Source { sql: format!("WITH used({COLUMNS}) AS ({})", parts.join(" UNION ALL ")), parameters, since, until })
    }
}

type Key = Vec<String>;

/// A group's key, and the values of its dimensions.
fn group(row: &Row<'_>, by: &[Dimension]) -> rusqlite::Result<(Key, Map<String, Value>)> {
    let mut key = Vec::with_capacity(by.len());
    let mut values = Map::new();
    for (index, dimension) in by.iter().enumerate() {
        let value = match row.get(index)? {
            Sql::Null => Value::Null,
            Sql::Integer(number) => Value::from(number),
            Sql::Real(number) => Value::from(number),
            Sql::Text(text) => Value::from(text),
            Sql::Blob(_) => Value::Null,
        };
        key.push(value.to_string());
        values.insert(dimension.to_string(), value);
    }
    Ok((key, values))
}

fn select(source: &Source, query: &UsageQuery, columns: &str, further: &[&str], only: &str) -> (String, Vec<Sql>) {
    let expressions: Vec<String> = query.by.iter().map(Dimension::expression).chain(further.iter().map(|one| (*one).to_owned())).collect();
    let select: Vec<&str> = expressions.iter().map(String::as_str).chain([columns]).collect();
    let group = if expressions.is_empty() {
        "true".to_owned()
    } else {
        (1..=expressions.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
    };
    let sql = format!("{} SELECT {} FROM used WHERE {only} GROUP BY {group} ORDER BY {group}", source.sql, select.join(", "));
    (sql, source.parameters.clone())
}

fn sums(connection: &Connection, source: &Source, query: &UsageQuery) -> Result<BTreeMap<Key, UsageRow>, LedgerError> {
    let (sql, parameters) = select(
        source,
        query,
        "sum(requests), sum(attempts), sum(input), sum(output), sum(cached_input), sum(cache_write), sum(reasoning), sum(input_audio), \
         sum(output_audio), sum(estimated), sum(unknown), total(cost), sum(cost_estimated), sum(unpriced)",
        &[],
        "true",
    );
    let mut statement = connection.prepare(&sql)?;
    let first = query.by.len();
    let rows = statement.query_map(params_from_iter(parameters), |row| {
        let (key, by) = group(row, &query.by)?;
        let count = |index: usize| row.get::<_, i64>(first + index);
        let (attempts, unpriced, picodollars) = (count(1)?, count(13)?, row.get::<_, f64>(first + 11)?);
        let paid_usd = (unpriced < attempts).then_some(picodollars / Money::USD.0 as f64);
        let row = UsageRow {
            by,
            requests: count(0)?,
            attempts,
            input_tokens: count(2)?,
            output_tokens: count(3)?,
            cached_input_tokens: count(4)?,
            cache_write_tokens: count(5)?,
            reasoning_tokens: count(6)?,
            input_audio_tokens: count(7)?,
            output_audio_tokens: count(8)?,
            estimated_tokens: count(9)?,
            unknown_attempts: count(10)?,
            cost_usd: paid_usd,
            paid_usd,
            estimated_cost_attempts: count(12)?,
            unpriced_attempts: unpriced,
        };
        Ok((key, row))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A group's part of a price per hour.
struct Flat {
    key: Key,
    by: Map<String, Value>,
    usd: f64,
}

/// How an hour's price of a deployment is divided.
enum Division {
    /// By tokens, among those who used it in that hour: the price, and all tokens.
    ByUse(f64, i64),
    /// By shares: what each consumer owes, and its tokens.
    ByShare(BTreeMap<String, f64>, BTreeMap<String, i64>),
}

impl Division {
    /// What this many tokens of a consumer cost.
    fn of(&self, consumer: &str, tokens: i64) -> f64 {
        let part = |usd: f64, all: i64| if all > 0 { usd * tokens as f64 / all as f64 } else { 0.0 };
        match self {
            Division::ByUse(usd, all) => part(*usd, *all),
            Division::ByShare(owed, used) => part(owed.get(consumer).copied().unwrap_or(0.0), used.get(consumer).copied().unwrap_or(0)),
        }
    }
}

/// The cost of deployments with a price per hour.
fn hourly(connection: &Connection, source: &Source, query: &UsageQuery) -> Result<Vec<Flat>, LedgerError> {
    // All consumers that used it in these hours, whatever part the query asks for.
    let (since, until) = (source.since.div_euclid(HOUR), (source.until + HOUR - 1).div_euclid(HOUR));
    let everybody = UsageQuery { by: Vec::new(), consumer: None, since: since * HOUR, until: until * HOUR };
    let by_share = by_share::kept(connection, since, until)?;
    // Consumers matter only to shares.
    let place: &[&str] =
        if by_share.is_empty() { &["hour", "backend", "deployment", "''"] } else { &["hour", "backend", "deployment", "consumer"] };
    let (sql, parameters) =
        select(&Source::new(connection, &everybody)?, &everybody, "max(hour_price), sum(input + output)", place, "hour_price IS NOT NULL");
    let mut used: HashMap<Place, (f64, BTreeMap<String, i64>)> = HashMap::new();
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    while let Some(row) = rows.next()? {
        let (price, tokens) = used.entry((row.get(0)?, row.get(1)?, row.get(2)?)).or_default();
        *price = price.max(row.get::<_, i64>(4)? as f64 / Money::USD.0 as f64);
        *tokens.entry(row.get(3)?).or_default() += row.get::<_, i64>(5)?;
    }
    let mut costs = Vec::new();
    let mut divisions: HashMap<Place, Division> = HashMap::new();
    for (place, shares) in by_share {
        let used = used.remove(&place).unwrap_or_default().1;
        let owed = shares.owed(&used);
        // What is owed by those who used nothing belongs to the beginning of the hour.
        if (source.since..source.until).contains(&(place.0 * HOUR)) {
            let is_idle =
                |name: &str| used.get(name).is_none_or(|tokens| *tokens <= 0) && query.consumer.as_deref().is_none_or(|only| only == name);
            costs.extend(owed.iter().filter(|(name, _)| is_idle(name)).map(|(name, usd)| {
                let (key, by) =
                    query.by.iter().map(|one| one.idle(&place, name)).map(|(name, value)| (value.to_string(), (name, value))).unzip();
                Flat { key, by, usd: *usd }
            }));
        }
        divisions.insert(place, Division::ByShare(owed, used));
    }
    divisions.extend(used.into_iter().map(|(place, (price, tokens))| (place, Division::ByUse(price, tokens.values().sum()))));
    if divisions.is_empty() {
        return Ok(costs);
    }
    let (sql, parameters) = select(source, query, "sum(input + output)", place, "hour_price IS NOT NULL");
    let first = query.by.len();
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    while let Some(row) = rows.next()? {
        let place: Place = (row.get(first)?, row.get(first + 1)?, row.get(first + 2)?);
        let (consumer, tokens): (String, i64) = (row.get(first + 3)?, row.get(first + 4)?);
        let usd = divisions.get(&place).map_or(0.0, |division| division.of(&consumer, tokens));
        if usd > 0.0 {
            let (key, by) = group(row, &query.by)?;
            costs.push(Flat { key, by, usd });
        }
    }
    Ok(costs)
}

/// Parses `30d`, `12h` (before `now`) or a time as RFC 3339 or a date; in milliseconds since 1970.
///
/// # Errors
/// [`LedgerError::Query`]
pub fn parse_time(text: &str, now: i64) -> Result<i64, LedgerError> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    if let Some(day) = text.parse::<chrono::NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)) {
        return Ok(day.and_utc().timestamp_millis());
    }
    let ago: Option<crate::config::scalar::DurationText> = text.parse().ok();
    match ago {
        Some(ago) => Ok(now.saturating_sub(i64::try_from(ago.0.as_millis()).unwrap_or(i64::MAX))),
        None => Err(LedgerError::Query(format!("'{text}' is not a time: use 30d, 12h, 2026-11-01 or 2026-11-01T08:00:00Z"))),
    }
}
