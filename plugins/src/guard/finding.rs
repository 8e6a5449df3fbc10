//! What was found that is not allowed.

use super::category::Category;

/// Why a content is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// One of the guard's own rules, by its name.
    Denied(String),
    /// A prompt that is longer than allowed.
    TooLong {
        /// The most tokens.
        limit: u64,
    },
    /// A tool that isn't allowed.
    Tool(String),
    /// A category of harm.
    Category(Category),
    /// A list of terms at the content safety service, by its name.
    Blocklist(String),
    /// An attempt to make the model ignore its instructions.
    Attack,
    /// The content can't be read, or can be read in two ways.
    Unreadable,
    /// An API whose content isn't checked.
    Unread(&'static str),
}

impl Finding {
    /// A short name for metrics, from a bounded set.
    pub fn label(&self) -> &'static str {
        match self {
            Finding::Denied(_) => "denied",
            Finding::TooLong { .. } => "too_long",
            Finding::Tool(_) => "tool",
            Finding::Category(category) => category.label(),
            Finding::Blocklist(_) => "blocklist",
            Finding::Attack => "attack",
            Finding::Unreadable => "unreadable",
            Finding::Unread(_) => "unread",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::Denied(name) => write!(f, "rule '{name}'"),
            Finding::TooLong { limit } => write!(f, "more than {limit} tokens"),
            Finding::Tool(name) => write!(f, "the tool '{}'", name.chars().take(64).collect::<String>()),
            Finding::Category(category) => f.write_str(category.label()),
            Finding::Blocklist(name) => write!(f, "blocklist '{name}'"),
            Finding::Attack => f.write_str("prompt attack"),
            Finding::Unreadable => f.write_str("it can't be read in one way only"),
            Finding::Unread(api) => write!(f, "what the API '{api}' carries is not looked at"),
        }
    }
}
