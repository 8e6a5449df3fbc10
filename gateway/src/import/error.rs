//! Why nothing could be imported.

use super::finding::Finding;

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImportError {
    /// No file was given.
    #[error("no file to import; {0}")]
    NoInput(&'static str),
    /// A file is not in the form that was expected.
    #[error("{place}: {problem}; {remedy}")]
    Unreadable {
        /// The file, and the position in it.
        place: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The files contain nothing that could serve a request.
    #[error("{place}: {problem}; {remedy}{}", listed(.findings))]
    NothingFound {
        /// The files.
        place: String,
        /// What is missing.
        problem: String,
        /// What to do about it.
        remedy: String,
        /// What was found nevertheless.
        findings: Vec<Finding>,
    },
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}
