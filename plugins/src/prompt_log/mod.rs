//! What is recorded of prompts and answers: how much, and without sensitive texts.

mod compact;
pub mod otel;
mod record;
pub mod redact;
mod write;

pub use compact::{Compact, Mended, mend};
pub use record::{Answer, Content, Request, content};

/// How much of a request is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nothing.
    Off,
    /// Everything except prompt and answer.
    Metadata,
    /// Prompt and answer, without sensitive texts.
    #[default]
    Redacted,
    /// Prompt and answer, unchanged.
    Full,
}

impl Level {
    /// All of them, by their names.
    pub const NAMES: [(&str, Level); 4] =
        [("off", Level::Off), ("metadata", Level::Metadata), ("redacted", Level::Redacted), ("full", Level::Full)];

    /// Its name in a record.
    pub fn name(self) -> &'static str {
        Level::NAMES[self as usize].0
    }

    /// Whether prompt and answer are recorded.
    pub fn has_content(self) -> bool {
        self >= Level::Redacted
    }
}
