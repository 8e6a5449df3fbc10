//! The names of shipped files: whose they are, which hour they cover, and which version of it they are. A name says all that
//! decides whether a file counts, so that nobody has to open a file that doesn't.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// An hour in seconds.
const HOUR_SECONDS: i64 = 3600;
/// What separates the parts of a name, and what a path can't have, is escaped in a node's name.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// A ledger: rows with the same node and number come from one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId {
    /// The node's name.
    pub node: String,
    /// The ledger's number: a node whose ledger was lost goes on with another one.
    pub number: u64,
}

impl LedgerId {
    /// The node's name, as a part of a path.
    pub fn folder(&self) -> String {
        utf8_percent_encode(&self.node, ESCAPED).to_string()
    }

    /// The name of the file with its state.
    pub fn state_file(&self) -> String {
        format!("{:016x}.json", self.number)
    }
}

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contents {
    /// The sums of an hour.
    Sums,
    /// The attempts of an hour.
    Attempts,
}

impl Contents {
    fn extension(self) -> &'static str {
        match self {
            Contents::Sums => "jsonl.gz",
            Contents::Attempts => "parquet",
        }
    }
}

/// The name of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// The ledger that it comes from.
    pub ledger: LedgerId,
    /// The hour, in hours since 1970.
    pub hour: i64,
    /// How often the hour had changed when the file was made: a higher version replaces a lower one.
    pub version: i64,
    /// The beginning of the SHA-256 of what it has, uncompressed.
    pub checksum: u64,
    /// What it has.
    pub contents: Contents,
}

impl FileName {
    /// Parses a name; `None` for a file that is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, '.');
        let node = percent_decode_str(parts.next()?).decode_utf8().ok()?.into_owned();
        let number = hexadecimal(parts.next()?)?;
        let hour = parse_hour(parts.next()?)?;
        let version = parts.next()?.strip_prefix('v')?.parse().ok().filter(|version| *version > 0)?;
        let checksum = hexadecimal(parts.next()?)?;
        let extension = parts.next()?;
        let contents = [Contents::Sums, Contents::Attempts].into_iter().find(|contents| contents.extension() == extension)?;
        let name = FileName { ledger: LedgerId { node, number }, hour, version, checksum, contents };
        // There is one way to write each.
        (name.to_string() == text).then_some(name)
    }

    /// The day of its hour, which is the name of its folder.
    pub fn day(&self) -> String {
        day_of(self.hour)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileName { ledger, hour, version, checksum, contents } = self;
        write!(f, "{}.{:016x}.{}.v{version}.{checksum:016x}.{}", ledger.folder(), ledger.number, hour_text(*hour), contents.extension())
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
}

/// An hour, such as `2026-11-30T08`.
pub fn hour_text(hour: i64) -> String {
    time_of(hour).format("%Y-%m-%dT%H").to_string()
}

/// The day of an hour, such as `2026-11-30`.
pub fn day_of(hour: i64) -> String {
    time_of(hour).format("%Y-%m-%d").to_string()
}

/// The first hour of a day; `None` if this is none.
pub fn first_hour_of(day: &str) -> Option<i64> {
    let hour = parse_hour(&format!("{day}T00"))?;
    (day_of(hour) == day).then_some(hour)
}

/// The hour that [`hour_text`] writes so.
pub fn parse_hour(text: &str) -> Option<i64> {
    let (day, hour) = text.split_once('T')?;
    let day = chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
    let hour: u32 = hour.parse().ok()?;
    Some(day.and_hms_opt(hour, 0, 0)?.and_utc().timestamp().div_euclid(HOUR_SECONDS))
}

fn time_of(hour: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(hour.saturating_mul(HOUR_SECONDS), 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(
            node in ".{1,40}", number: u64, hour in 0i64..2_000_000, version in 1i64..i64::MAX, checksum: u64, sums: bool,
        ) {
            let contents = if sums { Contents::Sums } else { Contents::Attempts };
            let name = FileName { ledger: LedgerId { node, number }, hour, version, checksum, contents };
            let text = name.to_string();
            prop_assert_eq!(FileName::parse(&text), Some(name));
            prop_assert!(!text.contains('/') && !text.starts_with('.'));
        }

        #[test]
        fn any_other_name_is_none(text in ".{0,80}") {
            if let Some(name) = FileName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn names_that_are_nearly_right_are_foreign() {
        let good = "a.00000000000000ff.2026-11-30T08.v3.0123456789abcdef.jsonl.gz";
        assert!(FileName::parse(good).is_some());
        for (from, to) in
            [("T08", "T24"), ("T08", "T8"), (".v3", ".v0"), (".v3", ".v03"), ("ff.", "FF."), (".gz", ".gz.tmp"), ("-30", "-31")]
        {
            assert_eq!(FileName::parse(&good.replace(from, to)), None, "{from} {to}");
        }
        assert_eq!((first_hour_of("2026-11-30").map(hour_text), first_hour_of("2026-11-31")), (Some("2026-11-30T00".into()), None));
    }
}
