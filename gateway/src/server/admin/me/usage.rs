//! What a consumer used: today, this month, and by day and model. From the ledger, a few seconds old.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, Days, NaiveTime, Utc};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::ledger::usage::{Dimension, UsageQuery, UsageRow};
use crate::ledger::{LedgerError, Reader};

/// How long a report from the ledger is used again.
const FRESH: Duration = Duration::from_secs(10);
/// Most reports that are remembered.
const REMEMBERED: usize = 1_000;
/// Days in a report, today included.
const DAYS: u64 = 30;

/// The latest report of each consumer: an open page must not make the gateway read the ledger again and again.
#[derive(Debug, Default)]
pub(in crate::server::admin) struct RecentUsage(Mutex<HashMap<Arc<str>, Read>>);

/// When a report was read, and the report.
type Read = (Tick, Arc<Value>);

impl RecentUsage {
    /// The usage of a consumer, as JSON; `None` without a ledger.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub(super) async fn of(&self, gateway: &Gateway, consumer: &Arc<str>) -> Result<Option<Arc<Value>>, LedgerError> {
        let Some(ledger) = gateway.ledger.clone() else { return Ok(None) };
        let now = gateway.clock.now();
        let is_fresh = |read: &Tick| now.since(*read) < FRESH;
        if let Some((_, usage)) = self.0.lock().get(consumer).filter(|(read, _)| is_fresh(read)) {
            return Ok(Some(Arc::clone(usage)));
        }
        let wall = gateway.clock.wall();
        let by = vec![Dimension::Time("day"), Dimension::Name("model")];
        let query = UsageQuery { since: since(wall), until: i64::MAX >> 20, by, consumer: Some(consumer.to_string()) };
        let rows = ledger.report(Reader::Consumer(consumer), query).await?;
        let usage = Arc::new(summary(&rows, wall));
        let mut remembered = self.0.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (read, _)| is_fresh(read));
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(Arc::clone(consumer), (now, Arc::clone(&usage)));
        }
        Ok(Some(usage))
    }
}

/// The start of the report, in milliseconds since 1970: it has the last days, and the whole of this month.
fn since(now: DateTime<Utc>) -> i64 {
    let today = now.date_naive();
    let first = today.with_day(1).unwrap_or(today);
    let days = today.checked_sub_days(Days::new(DAYS - 1)).unwrap_or(today);
    first.min(days).and_time(NaiveTime::MIN).and_utc().timestamp_millis()
}

fn summary(rows: &[UsageRow], now: DateTime<Utc>) -> Value {
    let day = |row: &UsageRow| row.by.get("day").and_then(Value::as_str).unwrap_or("").to_owned();
    let (today, month) = (now.format("%Y-%m-%d").to_string(), now.format("%Y-%m-").to_string());
    let days: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "day": day(row), "model": row.by.get("model"), "requests": row.requests, "input_tokens": row.input_tokens,
                "output_tokens": row.output_tokens, "cost_usd": row.cost_usd,
            })
        })
        .collect();
    json!({
        "today": sums(rows.iter().filter(|row| day(row) == today)),
        "month": sums(rows.iter().filter(|row| day(row).starts_with(&month))),
        "days": days,
    })
}

/// The sums of rows. The cost is null if none is known, and only a part if `unpriced`.
fn sums<'r>(rows: impl Iterator<Item = &'r UsageRow>) -> Value {
    let mut all = UsageRow::default();
    for row in rows {
        all.requests += row.requests;
        all.input_tokens += row.input_tokens;
        all.output_tokens += row.output_tokens;
        all.unpriced_attempts += row.unpriced_attempts;
        all.cost_usd = row.cost_usd.map_or(all.cost_usd, |cost| Some(all.cost_usd.unwrap_or(0.0) + cost));
    }
    json!({
        "requests": all.requests, "input_tokens": all.input_tokens, "output_tokens": all.output_tokens, "cost_usd": all.cost_usd,
        "unpriced": all.unpriced_attempts > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_report_has_thirty_days_and_the_whole_month() {
        for (now, first) in [
            ("2026-11-30T23:59:59Z", "2026-11-01T00:00:00Z"),
            ("2026-12-31T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-02T12:00:00Z", "2026-11-03T00:00:00Z"),
            ("2028-03-01T01:00:00Z", "2028-02-01T00:00:00Z"),
        ] {
            assert_eq!(since(at(now)), at(first).timestamp_millis(), "{now}");
        }
    }

    #[test]
    fn today_and_the_month_are_summed_up_and_an_unknown_price_is_said() {
        let row = |day: &str, cost_usd: Option<f64>| UsageRow {
            by: serde_json::from_value(json!({ "day": day, "model": "m" })).unwrap(),
            requests: 2,
            input_tokens: 10,
            output_tokens: 1,
            unpriced_attempts: i64::from(cost_usd.is_none()),
            cost_usd,
            ..UsageRow::default()
        };
        let rows = [row("2026-11-30", Some(1.0)), row("2026-12-01", Some(2.0)), row("2026-12-02", None)];
        let usage = summary(&rows, at("2026-12-02T08:00:00Z"));
        assert_eq!(usage["today"], json!({ "requests": 2, "input_tokens": 10, "output_tokens": 1, "cost_usd": null, "unpriced": true }));
        assert_eq!(usage["month"], json!({ "requests": 4, "input_tokens": 20, "output_tokens": 2, "cost_usd": 2.0, "unpriced": true }));
        assert_eq!(usage["days"].as_array().unwrap().len(), 3);
    }
}
