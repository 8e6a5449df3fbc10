//! Errors of a comparison.

use crate::ledger::error::LedgerError;

/// An export can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It can't be read.
    #[error("can't read the export: {0}")]
    Csv(#[from] csv::Error),
    /// It lacks a column.
    #[error("the export has no column for {what}; one of: {names}")]
    Column {
        /// The missing column.
        what: &'static str,
        /// Its possible names.
        names: String,
    },
    /// A line can't be parsed.
    #[error("line {line} of the export: {what}")]
    Line {
        /// Its number.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// No line is about tokens of a model.
    #[error("the export has no line about one of the config's Azure backends (by ResourceId)")]
    Nothing,
    /// The ledger can't be read.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The sums to compare with can't be read.
    #[error("{0}")]
    Sums(String),
}
