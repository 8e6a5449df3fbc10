//! Exports single attempts from the ledger: CSV, JSON lines or Parquet.

use std::io::Write;
use std::path::Path;

use rusqlite::types::ValueRef;
use serde_json::{Map, Value};
use spillway_plugins::prices::Money;

use super::error::LedgerError;
use super::parquet_file::{ColumnType, ParquetFile};
use super::schema::{first_id, open_to_read, time_of};

/// The format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a line of names.
    Csv,
    /// One JSON object per line.
    JsonLines,
    /// Parquet.
    Parquet,
}

/// An export can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger can't be read.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// It can't be written.
    #[error("can't write: {0}")]
    Output(#[from] std::io::Error),
    /// It can't be written as CSV.
    #[error("can't write: {0}")]
    Csv(#[from] csv::Error),
    /// It can't be written as Parquet.
    #[error("can't write: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> Self {
        ExportError::Ledger(error.into())
    }
}

/// The columns, and their names and types in the export.
const COLUMNS: [(&str, &str, ColumnType); 34] = [
    ("id", "time", ColumnType::Time),
    ("request", "request", ColumnType::Text),
    ("attempt", "attempt", ColumnType::Integer),
    ("answered", "answered", ColumnType::Flag),
    ("consumer", "consumer", ColumnType::Text),
    ("tags", "tags", ColumnType::Text),
    ("api", "api", ColumnType::Text),
    ("model", "model", ColumnType::Text),
    ("pool", "pool", ColumnType::Text),
    ("backend", "backend", ColumnType::Text),
    ("deployment", "deployment", ColumnType::Text),
    ("tier", "tier", ColumnType::Integer),
    ("outcome", "outcome", ColumnType::Text),
    ("status", "status", ColumnType::Integer),
    ("source", "source", ColumnType::Text),
    ("input", "input_tokens", ColumnType::Integer),
    ("output", "output_tokens", ColumnType::Integer),
    ("cached_input", "cached_input_tokens", ColumnType::Integer),
    ("cache_write", "cache_write_tokens", ColumnType::Integer),
    ("reasoning", "reasoning_tokens", ColumnType::Integer),
    ("input_audio", "input_audio_tokens", ColumnType::Integer),
    ("output_audio", "output_audio_tokens", ColumnType::Integer),
    ("cost", "cost_usd", ColumnType::Number),
    ("cache", "cache", ColumnType::Text),
    ("first_us", "first_us", ColumnType::Integer),
    ("us", "us", ColumnType::Integer),
    ("service_tier", "service_tier", ColumnType::Text),
    ("spilled_from", "spilled_from", ColumnType::Text),
    ("cost_estimated", "cost_estimated", ColumnType::Flag),
    ("class", "class", ColumnType::Text),
    ("cap", "completion_cap", ColumnType::Integer),
    ("reserved", "reserved_input_tokens", ColumnType::Integer),
    ("waited_us", "waited_us", ColumnType::Integer),
    ("began_us", "began_us", ColumnType::Integer),
];

/// Writes the attempts from `since` on, before `until` (milliseconds since 1970), in order of time. Returns how many.
///
/// # Errors
/// [`ExportError`]
pub fn export(folder: &Path, since: i64, until: i64, format: Format, to: impl Write + Send) -> Result<u64, ExportError> {
    let Some(connection) = open_to_read(folder)? else { return Ok(0) };
    let names: Vec<&str> = COLUMNS.iter().map(|(column, ..)| *column).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM attempts WHERE id >= ?1 AND id < ?2 ORDER BY id", names.join(", ")))?;
    let mut rows = statement.query([first_id(since), first_id(until)])?;
    let mut output = Output::new(format, to)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(COLUMNS.len());
        for (index, (column, ..)) in COLUMNS.iter().enumerate() {
            values.push(value(column, row.get_ref(index)?));
        }
        output.write(values)?;
        count += 1;
    }
    output.end()?;
    Ok(count)
}

fn value(column: &str, value: ValueRef<'_>) -> Value {
    match (column, value) {
        ("id", ValueRef::Integer(id)) => {
            let time = chrono::DateTime::from_timestamp_millis(time_of(id)).unwrap_or_default();
            Value::from(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
        }
        ("cost", ValueRef::Integer(cost)) => Value::from(cost as f64 / Money::USD.0 as f64),
        ("answered" | "cost_estimated", ValueRef::Integer(yes)) => Value::from(yes != 0),
        ("service_tier" | "spilled_from" | "class", ValueRef::Text(b"")) => Value::Null,
        ("tags", ValueRef::Text(text)) => serde_json::from_slice(text).unwrap_or_default(),
        (_, ValueRef::Integer(number)) => Value::from(number),
        (_, ValueRef::Real(number)) => Value::from(number),
        (_, ValueRef::Text(text)) => Value::from(String::from_utf8_lossy(text)),
        (_, ValueRef::Null | ValueRef::Blob(_)) => Value::Null,
    }
}

/// A text that no spreadsheet interprets as a formula: callers choose some of these texts.
pub(super) fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

enum Output<W: Write + Send> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
    Parquet(Box<ParquetFile<W>>),
}

impl<W: Write + Send> Output<W> {
    fn new(format: Format, to: W) -> Result<Self, ExportError> {
        match format {
            Format::JsonLines => return Ok(Output::JsonLines(to)),
            Format::Parquet => {
                let columns = COLUMNS.map(|(_, name, kind)| (name, kind));
                return Ok(Output::Parquet(Box::new(ParquetFile::new(to, &columns)?)));
            }
            Format::Csv => {}
        }
        let mut writer = csv::Writer::from_writer(to);
        writer.write_record(COLUMNS.iter().map(|(_, name, _)| *name))?;
        Ok(Output::Csv(Box::new(writer)))
    }

    fn write(&mut self, values: Vec<Value>) -> Result<(), ExportError> {
        match self {
            Output::Csv(writer) => writer.write_record(values.iter().map(|value| match value {
                Value::Null => String::new(),
                Value::String(text) => harmless(text),
                other => other.to_string(),
            }))?,
            Output::JsonLines(to) => {
                let fields = COLUMNS.iter().map(|(_, name, _)| (*name).to_owned()).zip(values);
                writeln!(to, "{}", Value::Object(Map::from_iter(fields)))?;
            }
            Output::Parquet(file) => file.write(values)?,
        }
        Ok(())
    }

    fn end(self) -> Result<(), ExportError> {
        match self {
            Output::Csv(mut writer) => writer.flush()?,
            Output::JsonLines(mut to) => to.flush()?,
            Output::Parquet(file) => file.end()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, cell) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(1)", "'@SUM(1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(harmless(text), cell);
        }
    }
}
