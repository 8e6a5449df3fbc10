//! Is the content allowed? Rules of one's own, and what Azure AI Content Safety says of a text.
//!
//! What is found tells its category, never the text.

mod ending;
mod rules;
pub mod safety;
mod windows;

pub use ending::ending;
pub use rules::{GuardError, Rules};
pub use windows::windows;

/// Why a content is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A rule of one's own, by its name.
    Denied(String),
    /// A prompt that is longer than allowed.
    TooLong {
        /// The most tokens.
        limit: u64,
    },
    /// A tool that isn't allowed.
    Tool(String),
    /// A category of harm.
    Category(safety::Category),
    /// A list of terms at the content safety service, by its name.
    Blocklist(String),
    /// An attempt to turn the model against its instructions.
    Attack,
}

impl Finding {
    /// A short name for metrics, out of a bounded set.
    pub fn label(&self) -> &'static str {
        match self {
            Finding::Denied(_) => "denied",
            Finding::TooLong { .. } => "too_long",
            Finding::Tool(_) => "tool",
            Finding::Category(category) => category.label(),
            Finding::Blocklist(_) => "blocklist",
            Finding::Attack => "attack",
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 9] = ["denied", "too_long", "tool", "hate", "self_harm", "sexual", "violence", "blocklist", "attack"];
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Denied(name) => write!(f, "rule '{name}'"),
            Finding::TooLong { limit } => write!(f, "more than {limit} tokens"),
            Finding::Tool(name) => write!(f, "the tool '{name}'"),
            Finding::Category(category) => f.write_str(category.label()),
            Finding::Blocklist(name) => write!(f, "blocklist '{name}'"),
            Finding::Attack => f.write_str("prompt attack"),
        }
    }
}
