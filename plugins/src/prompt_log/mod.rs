//! What is written down of prompts and answers: how much, and without what must not be kept.

mod compact;
pub mod otel;
mod record;
pub mod redact;

pub use compact::{Compact, Mended, mend};
pub use record::{Answer, Content, Request, content};

/// How much of a request is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nothing.
    Off,
    /// All but prompt and answer.
    Metadata,
    /// Prompt and answer, without what must not be kept.
    #[default]
    Redacted,
    /// Prompt and answer as they were.
    Full,
}

impl Level {
    /// All of them, by their names.
    pub const NAMES: [(&str, Level); 4] =
        [("off", Level::Off), ("metadata", Level::Metadata), ("redacted", Level::Redacted), ("full", Level::Full)];

    /// As it is written in a record.
    pub fn name(self) -> &'static str {
        Level::NAMES[self as usize].0
    }

    /// Whether prompt and answer are written down.
    pub fn has_content(self) -> bool {
        self >= Level::Redacted
    }
}
