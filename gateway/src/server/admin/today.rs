//! Today's usage by consumer, from the ledger, a few seconds old.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc};
use tokio::sync::Mutex;

use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::ledger::Reader;
use crate::ledger::usage::{Dimension, UsageQuery, UsageRow};

/// How long a report from the ledger is used again.
const FRESH: Duration = Duration::from_secs(10);

/// Today's usage by consumer, from the ledger, a few seconds old: an open page must not make the gateway read the
/// ledger every second.
#[derive(Debug, Default)]
pub(super) struct Today(Mutex<Option<Report>>);

/// A report.
#[derive(Debug)]
struct Report {
    at: Tick,
    /// The start of the day, in milliseconds since 1970.
    since: i64,
    rows: Arc<Vec<UsageRow>>,
}

impl Today {
    /// The start of the day, in milliseconds since 1970, and the rows, the largest first; `None` without a ledger.
    pub(super) async fn rows(&self, gateway: &Gateway) -> Option<(i64, Arc<Vec<UsageRow>>)> {
        let ledger = gateway.ledger.clone()?;
        let mut kept = self.0.lock().await;
        let now = gateway.clock.now();
        if let Some(report) = kept.as_ref().filter(|report| now.since(report.at) < FRESH) {
            return Some((report.since, Arc::clone(&report.rows)));
        }
        let since = midnight(gateway.clock.wall());
        let query = UsageQuery { since, until: i64::MAX >> 20, by: vec![Dimension::Name("consumer")], consumer: None };
        let mut rows = ledger.report(Reader::Operator, query).await.ok()?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.input_tokens.saturating_add(row.output_tokens)));
        let rows = Arc::new(rows);
        *kept = Some(Report { at: now, since, rows: Arc::clone(&rows) });
        Some((since, rows))
    }
}

fn midnight(now: DateTime<Utc>) -> i64 {
    now.date_naive().and_time(NaiveTime::MIN).and_utc().timestamp_millis()
}
