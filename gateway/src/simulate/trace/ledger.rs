//! Traffic from the gateway's ledger: one request for each answer that a caller got.

use std::path::Path;
use std::time::Duration;

use spillway_plugins::api::Api;

use super::{Trace, TraceError, Unused};
use crate::clock::Tick;
use crate::ledger::attempts::AttemptRows;
use crate::simulate::request::{Names, Request};

/// Answers in a ledger.
#[derive(Debug)]
pub struct LedgerTrace {
    rows: AttemptRows,
    unused: Unused,
}

impl LedgerTrace {
    /// Those in `folder`, from `since` on, before `until`, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`TraceError::Ledger`]
    pub fn new(folder: &Path, since: i64, until: i64) -> Result<Self, TraceError> {
        Ok(LedgerTrace { rows: AttemptRows::new(folder, since, until, true)?, unused: Unused::default() })
    }
}

impl Trace for LedgerTrace {
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError> {
        while let Some(row) = self.rows.next_row()? {
            if row.is_cached {
                self.unused.cached += 1;
                continue;
            }
            if row.kind.is_unmetered {
                self.unused.unmetered += 1;
                continue;
            }
            return Ok(Some(Request {
                at: Tick(u64::try_from(row.at).unwrap_or(0).saturating_mul(1_000_000)) + Duration::from_micros(row.at_us.into()),
                model: names.number(&row.kind.model),
                consumer: row.consumer.as_deref().map(|name| names.number(name)),
                api: row.kind.api.unwrap_or(Api::Chat),
                class: row.kind.class,
                usage: row.usage,
                cap: row.cap,
                took: Some(Duration::from_micros(row.us)),
                first: row.first(),
                deadline: None,
                seen: None,
            }));
        }
        Ok(None)
    }

    fn unused(&self) -> Unused {
        self.unused.clone()
    }
}
