//! Traffic as a stream: only what has just been read is in memory.

mod apim;
pub mod csv;
pub mod foreign;
mod foreign_row;
pub mod ledger;
mod litellm;
pub mod order;
pub mod recorded;
mod records;

use super::request::{Names, Request};
use crate::ledger::LedgerError;

/// Where requests come from, in order of time.
pub trait Trace {
    /// The next request; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`], if the rest can't be read.
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError>;

    /// What was not used so far, and why.
    fn unused(&self) -> Unused;
}

/// Rows that were not used, or not as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Unused {
    /// Rows that can't be read.
    pub broken: u64,
    /// The first of them: where, and what is wrong.
    pub first_broken: Option<String>,
    /// Rows out of order that were sorted, and used.
    pub sorted: u64,
    /// Rows more than an hour out of order.
    pub late: u64,
    /// Answers from the gateway's cache: no backend was asked.
    pub cached: u64,
    /// Answers whose usage is not known.
    pub unmetered: u64,
    /// Requests whose usage the log doesn't know, and that are taken to be like the others of their model; they are used.
    pub assumed: u64,
    /// Tokens of requests that the log doesn't have.
    pub unmatched: u64,
}

/// Traffic can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The ledger can't be read.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// A log can't be read.
    #[error("can't read the log: {0}")]
    Read(std::io::Error),
    /// The CSV file can't be read.
    #[error("can't read the CSV file: {0}")]
    Csv(#[from] ::csv::Error),
    /// The CSV file has no such column.
    #[error(
        "the CSV file has no column '{0}'; it needs a line of names: time, model, input, output, and if known cached, class, cap, consumer, duration_ms, deadline_s"
    )]
    Column(&'static str),
    /// There is nothing to replay.
    #[error("the ledger has no requests in this time range; choose another one with --since and --until")]
    Nothing,
}
