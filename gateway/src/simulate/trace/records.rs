//! Rows of another gateway's log: JSON lines, or CSV with a line of names.

use std::io::{BufRead, BufReader, Read};

use csv::{ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::TraceError;

/// The longest line that is read; what is longer is no row.
const LONGEST: u64 = 16 << 20;

/// A row: values by name.
pub(super) type Record = Map<String, Value>;

/// A row with its line, or the line and what is wrong with it.
pub(super) type Line = (u64, Result<Record, String>);

/// Rows, one after the other.
pub(super) enum Records<R: Read> {
    Json(BufReader<R>, u64),
    Csv(Box<::csv::Reader<BufReader<R>>>, StringRecord),
}

impl<R: Read> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Records::Json(..)) { "JSON lines" } else { "CSV" })
    }
}

impl<R: Read> Records<R> {
    /// JSON lines, if the first letter is that of an object; else CSV.
    ///
    /// # Errors
    /// [`TraceError::Read`], [`TraceError::Csv`]
    pub(super) fn new(from: R) -> Result<Self, TraceError> {
        let mut reader = BufReader::new(from);
        let begins = reader.fill_buf().map_err(TraceError::Read)?;
        let begins = begins.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begins);
        let first = begins.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(first, Some(b'{' | b'[') | None) {
            return Ok(Records::Json(reader, 0));
        }
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(reader);
        let names = reader.headers()?.clone();
        Ok(Records::Csv(Box::new(reader), names))
    }

    /// The next row with its line, or the line and what is wrong with it; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`], if the rest can't be read.
    pub(super) fn next(&mut self) -> Result<Option<Line>, TraceError> {
        match self {
            Records::Json(reader, line) => json(reader, line),
            Records::Csv(reader, names) => {
                let mut row = StringRecord::new();
                match reader.read_record(&mut row) {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let line = row.position().map_or(0, ::csv::Position::line);
                        let pairs = names.iter().zip(row.iter()).filter(|(_, value)| !value.is_empty());
                        let clean = |name: &str| name.trim_start_matches('\u{feff}').trim().to_owned();
                        Ok(Some((line, Ok(pairs.map(|(name, value)| (clean(name), Value::from(value))).collect()))))
                    }
                    Err(error) if matches!(error.kind(), ::csv::ErrorKind::Io(_)) => Err(error.into()),
                    Err(error) => Ok(Some((error.position().map_or(0, ::csv::Position::line), Err("it is not text in UTF-8".to_owned())))),
                }
            }
        }
    }
}

fn json<R: Read>(reader: &mut BufReader<R>, number: &mut u64) -> Result<Option<Line>, TraceError> {
    loop {
        let mut line = Vec::new();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(TraceError::Read)?;
        if read == 0 {
            return Ok(None);
        }
        *number += 1;
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        let row = match serde_json::from_slice(text) {
            Ok(Value::Object(row)) => Ok(row),
            Ok(Value::Array(_)) => Err("it is a list: write one object per line, for example with jq -c '.[]'".to_owned()),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(error) => Err(format!("it is not JSON: {error}")),
        };
        return Ok(Some((*number, row)));
    }
}

/// The text of a value.
pub(super) fn text<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    record.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// The number in a value, which may be a text.
pub(super) fn number(record: &Record, name: &str) -> Option<f64> {
    let value = record.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number| number.is_finite())
}

/// A count in a value, which may be a text.
pub(super) fn count(record: &Record, name: &str) -> Option<u64> {
    number(record, name).filter(|count| (0.0..1e12).contains(count)).map(|count| count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Line> {
        let mut records = Records::new(text).unwrap();
        let mut all = Vec::new();
        while let Some(next) = records.next().unwrap() {
            all.push(next);
        }
        all
    }

    #[test]
    fn lines_of_json_and_csv_are_the_same_rows() {
        let json = all(b"\xef\xbb\xbf{\"a\": \"x\", \"b\": 7}\n\n{\"a\": \"y\", \"b\": \"8\"}\n");
        let csv = all(b"\xef\xbb\xbfa,b,c\nx,7,\ny,8,\n");
        for (json, csv) in json.iter().zip(&csv) {
            let (json, csv) = (json.1.as_ref().unwrap(), csv.1.as_ref().unwrap());
            assert_eq!((text(json, "a"), count(json, "b"), text(json, "c")), (text(csv, "a"), count(csv, "b"), text(csv, "c")));
        }
        assert_eq!((json.len(), csv.len(), json[1].0), (2, 2, 3));
    }

    #[test]
    fn rubbish_is_told_line_by_line() {
        let rows = all(b"{\"a\": 1}\nnonsense\n[1]\n\xff\n5\n{\"a\": 2}");
        let wrong: Vec<u64> = rows.iter().filter(|(_, row)| row.is_err()).map(|(line, _)| *line).collect();
        assert_eq!((rows.len(), wrong), (6, vec![2, 3, 4, 5]));
        assert!(all(b"").is_empty());
    }
}
