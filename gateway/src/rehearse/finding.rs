//! What a rehearsal found: a setting that will hurt, where it is, and what to do.

use serde::Serialize;

use super::place::Place;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; it may be intended.
    Note,
    /// Callers wait, or more is paid than is needed, when a fault happens.
    Warning,
    /// Callers get errors although the config has what could serve them.
    Error,
}

impl Severity {
    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name of its kind, such as `no-second-location`; for tests and for CI.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The setting that causes it.
    pub place: Place,
    /// What happens, in a sentence.
    pub text: String,
    /// What to change, in a sentence.
    pub remedy: String,
}
