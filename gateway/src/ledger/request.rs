//! A report's query, as callers and operators send it, and its answer.

use serde_json::{Value, json};

use super::error::LedgerError;
use super::usage::{UsageQuery, UsageRow, parse_time};

/// Parses `since=30d&until=…&by=consumer,model`; without `since` the last 30 days. `now` is in milliseconds since 1970.
///
/// # Errors
/// [`LedgerError::Query`]
pub fn query(text: &str, now: i64) -> Result<UsageQuery, LedgerError> {
    let (mut since, mut until, mut by, mut consumer) = (None, None, String::new(), None);
    for (name, value) in form(text) {
        match name.as_str() {
            "since" => since = Some(parse_time(&value, now)?),
            "until" => until = Some(parse_time(&value, now)?),
            "by" => by = value,
            "consumer" => consumer = Some(value),
            other => return Err(LedgerError::Query(format!("unknown parameter '{other}'; known: since, until, by, consumer"))),
        }
    }
    let since = since.map_or_else(|| parse_time("30d", now), Ok)?;
    Ok(UsageQuery { since, until: until.unwrap_or(now + 1), by: UsageQuery::dimensions(&by)?, consumer })
}

/// The pairs of a query string, decoded.
fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// Decodes `%3A` and `+` in a query string.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], byte) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (other, _) => decoded.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The report as JSON.
pub fn body(rows: &[UsageRow]) -> Value {
    json!({ "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::usage::Dimension;

    #[test]
    fn parameters_are_read() {
        let now = 1_800_000_000_000;
        let asked = query("since=12h&by=day,tag%3Ax-team&consumer=crm+bot", now).unwrap();
        assert_eq!((asked.since, asked.until), (now - 12 * 3_600_000, now + 1));
        assert_eq!(asked.by, [Dimension::Time("day"), Dimension::Tag("x-team".into())]);
        assert_eq!(asked.consumer.as_deref(), Some("crm bot"));
        assert_eq!(query("since=2026-11-01T08:00:00%2B01:00", now).unwrap().since, 1_793_516_400_000);
        assert_eq!(query("", now).unwrap().by, UsageQuery::dimensions("consumer,model").unwrap());
        for (bad, word) in
            [("since=soon", "'soon' is not a time"), ("by=colour", "'colour'"), ("x=1", "unknown parameter"), ("by=tag:a'b", "tag:HEADER")]
        {
            assert!(query(bad, now).unwrap_err().to_string().contains(word), "{bad}");
        }
    }
}
