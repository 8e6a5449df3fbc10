//! The file with the sums of an hour: JSON lines, compressed with gzip. The first line says whose they are, what the columns are, and
//! how prices per hour are divided by shares; every other line is a row of sums.
//!
//! The same sums always make the same bytes, so that two processes of one node that ship the same version of an hour write the
//! same file.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rusqlite::types::Value as Sql;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::by_share::Rule;
use super::super::rollup::COLUMNS;
use super::name::{Contents, FileName, LedgerId, hour_text};

/// The format of these files.
const FORMAT: u32 = 1;
/// Longest file, uncompressed: an hour has as many rows as there are combinations of consumers, tags, models and members.
const LONGEST: u64 = 256 << 20;
/// The most that a column of numbers may have in all rows of a file, except for prices: more tokens than any node can have in an hour,
/// and so few that the sums of 120 years still fit into 63 bits.
const MOST: i64 = 1 << 43;
/// The columns with prices, in millionths of a millionth of a dollar, which reports add up as floating-point numbers.
const PRICES: [&str; 2] = ["cost", "hour_price"];
/// The columns that are names; all others are numbers that are not negative.
const NAMES: [&str; 9] = ["consumer", "tags", "api", "model", "pool", "backend", "deployment", "service_tier", "spilled_from"];

/// One row of sums, in the order of [`COLUMNS`].
pub(in crate::ledger) type SumsRow = Vec<Sql>;

/// What a file has of an hour.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::ledger) struct HourSums {
    /// The sums.
    pub(in crate::ledger) rows: Vec<SumsRow>,
    /// How the prices of deployments are divided by shares.
    pub(in crate::ledger) by_share: Vec<Rule>,
}

/// A file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// Its bytes are not what was written.
    #[error("is torn or damaged: {0}")]
    Torn(std::io::Error),
    /// Its contents are not what its name says.
    #[error("is damaged: its checksum is not the one in its name")]
    Checksum,
    /// A newer version of this program wrote it.
    #[error("was written by a newer version of spillway (format {0}); use that version")]
    Newer(u32),
    /// It is too long.
    #[error("has more than 256 MiB")]
    TooLong,
    /// Its first line says something else than its name.
    #[error("has other contents than its name says")]
    Foreign,
    /// Shares that can't be.
    #[error("has shares that can't be: each must be positive, and all together at most 100 percent")]
    Shares,
    /// A line is none of sums.
    #[error("line {0} is not a row of sums")]
    Line(usize),
    /// Its numbers are none that a node can have.
    #[error("line {line} has a number in the column {column} that can't be: with the lines before, it is more than {MOST}")]
    TooMuch {
        /// The line.
        line: usize,
        /// The column.
        column: &'static str,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    node: String,
    ledger: String,
    hour: String,
    version: i64,
    rows: usize,
    columns: Vec<String>,
    /// An earlier program neither writes nor reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by_share: Vec<Rule>,
}

impl Head {
    fn new(ledger: &LedgerId, hour: i64, version: i64, rows: usize) -> Self {
        Head {
            format: FORMAT,
            node: ledger.node.clone(),
            ledger: format!("{:016x}", ledger.number),
            hour: hour_text(hour),
            version,
            rows,
            columns: columns().map(str::to_owned).collect(),
            by_share: Vec::new(),
        }
    }
}

/// The names of the columns.
pub(in crate::ledger) fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.split(", ").map(str::trim)
}

/// Makes a file of the sums of an hour: its name, and its bytes.
///
/// # Errors
/// None: both are written to memory. The types of what writes them have errors.
pub(super) fn encode(ledger: &LedgerId, hour: i64, version: i64, sums: &HourSums) -> std::io::Result<(FileName, Vec<u8>)> {
    let HourSums { rows, by_share } = sums;
    let head = Head { by_share: by_share.clone(), ..Head::new(ledger, hour, version, rows.len()) };
    let mut text = serde_json::to_vec(&head)?;
    text.push(b'\n');
    for row in rows {
        let row: Vec<Value> = row.iter().map(json).collect();
        serde_json::to_writer(&mut text, &row)?;
        text.push(b'\n');
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&text)?;
    let name = FileName { ledger: ledger.clone(), hour, version, checksum: checksum(&text), contents: Contents::Sums };
    Ok((name, encoder.finish()?))
}

/// Reads a file with this name.
///
/// # Errors
/// [`BadFile`]
pub(super) fn decode(name: &FileName, bytes: &[u8]) -> Result<HourSums, BadFile> {
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(LONGEST + 1).read_to_end(&mut text).map_err(BadFile::Torn)?;
    if text.len() as u64 > LONGEST {
        return Err(BadFile::TooLong);
    }
    if checksum(&text) != name.checksum {
        return Err(BadFile::Checksum);
    }
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head: Value = lines.next().and_then(|line| serde_json::from_slice(line).ok()).ok_or(BadFile::Line(1))?;
    let format = head["format"].as_u64().and_then(|format| u32::try_from(format).ok()).ok_or(BadFile::Line(1))?;
    if format > FORMAT {
        return Err(BadFile::Newer(format));
    }
    let head: Head = serde_json::from_value(head).map_err(|_| BadFile::Line(1))?;
    let expected = Head::new(&name.ledger, name.hour, name.version, head.rows);
    let is_expected =
        (&head.node, &head.ledger, &head.hour, head.version) == (&expected.node, &expected.ledger, &expected.hour, expected.version);
    if !is_expected || head.columns != expected.columns {
        return Err(BadFile::Foreign);
    }
    if !head.by_share.iter().all(Rule::is_valid) {
        return Err(BadFile::Shares);
    }
    let mut rows = Vec::with_capacity(head.rows.min(text.len() / 32));
    let mut totals = vec![0; expected.columns.len()];
    for (index, line) in lines.enumerate() {
        let row = row(name.hour, line).ok_or(BadFile::Line(index + 2))?;
        add(&mut totals, &row).map_err(|column| BadFile::TooMuch { line: index + 2, column })?;
        rows.push(row);
    }
    if rows.len() == head.rows { Ok(HourSums { rows, by_share: head.by_share }) } else { Err(BadFile::Line(rows.len() + 2)) }
}

/// The beginning of the SHA-256 of this text.
fn checksum(text: &[u8]) -> u64 {
    first_bytes(ring::digest::digest(&ring::digest::SHA256, text).as_ref())
}

/// The first eight bytes of a digest, as a number.
pub(super) fn first_bytes(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn json(value: &Sql) -> Value {
    match value {
        Sql::Integer(number) => Value::from(*number),
        Sql::Text(text) => Value::from(text.as_str()),
        Sql::Real(number) => Value::from(*number),
        Sql::Null | Sql::Blob(_) => Value::Null,
    }
}

/// Adds a row's numbers to those of the rows before; fails with the column that becomes more than [`MOST`].
fn add(totals: &mut [i64], row: &SumsRow) -> Result<(), &'static str> {
    for ((total, value), column) in totals.iter_mut().zip(row).zip(columns()) {
        if let Sql::Integer(number) = value
            && column != "hour"
            && !PRICES.contains(&column)
        {
            *total = total.checked_add(*number).filter(|total| *total <= MOST).ok_or(column)?;
        }
    }
    Ok(())
}

/// A row of this hour; `None` if the line is none.
fn row(hour: i64, line: &[u8]) -> Option<SumsRow> {
    let values: Vec<Value> = serde_json::from_slice(line).ok()?;
    let mut row = Vec::with_capacity(values.len());
    for (index, name) in columns().enumerate() {
        row.push(match values.get(index)? {
            Value::String(text) if NAMES.contains(&name) => Sql::Text(text.clone()),
            Value::Number(number) if !NAMES.contains(&name) => Sql::Integer(number.as_i64().filter(|number| *number >= 0)?),
            Value::Null if name == "hour_price" => Sql::Null,
            _ => return None,
        });
    }
    (values.len() == row.len() && row[0] == Sql::Integer(hour)).then_some(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(hour: i64, consumer: &str, number: i64) -> SumsRow {
        let value = |name: &str| match name {
            "hour" => Sql::Integer(hour),
            "consumer" => Sql::Text(consumer.to_owned()),
            "hour_price" => Sql::Null,
            name if NAMES.contains(&name) => Sql::Text(name.to_owned()),
            _ => Sql::Integer(number),
        };
        columns().map(value).collect()
    }

    fn of(rows: Vec<SumsRow>) -> HourSums {
        HourSums { rows, by_share: Vec::new() }
    }

    fn rule(hour_price: i64, percents: &[f64]) -> Rule {
        let payers: Vec<Value> = percents.iter().map(|percent| serde_json::json!({ "percent": percent, "consumers": ["x"] })).collect();
        serde_json::from_value(serde_json::json!({ "backend": "b", "deployment": "d", "hour_price": hour_price, "payers": payers }))
            .unwrap()
    }

    fn ledger() -> LedgerId {
        LedgerId { node: "a".to_owned(), number: 7 }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_the_same_sums_make_the_same_file(
            consumers in prop::collection::vec(".{0,12}", 0..20), number in 0..=MOST / 20, percents in prop::collection::vec(1u8..25, 0..4),
        ) {
            let mut sums = of(consumers.iter().map(|consumer| sums(9, consumer, number)).collect());
            let percents: Vec<f64> = percents.into_iter().map(f64::from).collect();
            sums.by_share.extend((!percents.is_empty()).then(|| rule(number, &percents)));
            let (name, bytes) = encode(&ledger(), 9, 3, &sums).unwrap();
            prop_assert_eq!(decode(&name, &bytes).unwrap(), sums.clone());
            prop_assert_eq!(encode(&ledger(), 9, 3, &sums).unwrap(), (name, bytes));
        }

        #[test]
        fn a_file_that_was_cut_or_changed_is_never_read(cut in 0usize..400, at in 0usize..400, bit in 0u8..8) {
            let rows = of((0..40).map(|number| sums(9, &format!("consumer {number}"), number)).collect());
            let (name, bytes) = encode(&ledger(), 9, 3, &rows).unwrap();
            prop_assert!(decode(&name, &bytes[..cut.min(bytes.len() - 9)]).is_err());
            let mut changed = bytes.clone();
            let at = at % bytes.len();
            changed[at] ^= 1 << bit;
            // A few bits of gzip's head mean nothing: then the sums are the same.
            prop_assert!(decode(&name, &changed).fails_or_gives(&rows));
        }
    }

    trait OrSame {
        fn fails_or_gives(self, sums: &HourSums) -> bool;
    }

    impl OrSame for Result<HourSums, BadFile> {
        fn fails_or_gives(self, sums: &HourSums) -> bool {
            match self {
                Ok(read) => read == *sums,
                Err(_) => true,
            }
        }
    }

    #[test]
    fn numbers_that_would_overflow_the_sums_of_a_report_are_refused_except_for_costs() {
        let with = |column: &str, numbers: [i64; 2]| {
            let at = columns().position(|name| name == column).unwrap();
            let rows = numbers.map(|number| {
                let mut row = sums(9, "x", 1);
                row[at] = Sql::Integer(number);
                row
            });
            let (name, bytes) = encode(&ledger(), 9, 3, &of(rows.into())).unwrap();
            decode(&name, &bytes).map(|sums| sums.rows.len())
        };
        for column in columns().filter(|name| *name != "hour" && !NAMES.contains(name) && !PRICES.contains(name)) {
            assert_eq!(with(column, [MOST - 1, 1]).unwrap(), 2, "{column}");
            for numbers in [[MOST, 1], [i64::MAX, i64::MAX], [1, MOST + 1]] {
                assert!(matches!(with(column, numbers), Err(BadFile::TooMuch { column: told, .. }) if told == column), "{column}");
            }
        }
        for column in PRICES {
            assert_eq!(with(column, [i64::MAX, i64::MAX]).unwrap(), 2, "{column}");
        }
    }

    #[test]
    fn a_file_under_another_name_is_foreign() {
        let (name, bytes) = encode(&ledger(), 9, 3, &of(vec![sums(9, "x", 1)])).unwrap();
        for other in [
            FileName { hour: 10, ..name.clone() },
            FileName { version: 4, ..name.clone() },
            FileName { ledger: LedgerId { node: "b".to_owned(), number: 7 }, ..name.clone() },
        ] {
            assert!(matches!(decode(&other, &bytes), Err(BadFile::Foreign)), "{other}");
        }
        assert!(matches!(decode(&FileName { checksum: 1, ..name }, &bytes), Err(BadFile::Checksum)));
        // Sums of another hour are none of this one's, whatever the first line says.
        let (name, bytes) = encode(&ledger(), 9, 3, &of(vec![sums(8, "x", 1)])).unwrap();
        assert!(matches!(decode(&name, &bytes), Err(BadFile::Line(2))));
    }

    #[test]
    fn shares_that_can_not_be_are_refused_and_without_any_the_file_is_as_before() {
        let with = |rule: Rule| {
            let (name, bytes) = encode(&ledger(), 9, 3, &HourSums { rows: Vec::new(), by_share: vec![rule] }).unwrap();
            decode(&name, &bytes).map(|sums| sums.by_share.len())
        };
        assert_eq!(with(rule(1, &[40.0, 60.0])).unwrap(), 1);
        for bad in [rule(-1, &[40.0]), rule(1, &[0.0]), rule(1, &[-40.0]), rule(1, &[60.0, 41.0])] {
            assert!(matches!(with(bad.clone()), Err(BadFile::Shares)), "{bad:?}");
        }
        let (_, bytes) = encode(&ledger(), 9, 3, &of(Vec::new())).unwrap();
        let mut text = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert!(!text.contains("share"), "{text}");
    }
}
