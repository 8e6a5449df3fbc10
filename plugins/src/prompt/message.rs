//! A message of a conversation.

use crate::json::Item;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its role.
    pub role: Role,
    /// Its texts, with line ends between the parts.
    pub text: String,
    /// Images, audio, files, tokens and parts of unknown types.
    pub attachments: usize,
    /// Tool calls of the model.
    pub calls: Vec<Call>,
}

/// A tool call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// The arguments, mostly JSON.
    pub arguments: String,
}

/// The author of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// The application: system, developer, instructions.
    System,
    /// The user, and unknown authors.
    #[default]
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

impl Role {
    /// Its name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    /// From a message's `role`.
    pub(super) fn of(message: Item<'_>) -> Role {
        match message.get("role").str().as_ref() {
            "system" | "developer" => Role::System,
            "assistant" => Role::Assistant,
            "tool" | "function" => Role::Tool,
            _ => Role::User,
        }
    }
}

impl Message {
    /// An empty message.
    pub(super) fn by(role: Role) -> Message {
        Message { role, ..Message::default() }
    }

    /// A message with this text.
    pub(super) fn saying(role: Role, text: &str) -> Message {
        Message { role, text: text.to_owned(), ..Message::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.attachments == 0 && self.calls.is_empty()
    }

    /// Adds a text on a new line.
    pub(super) fn say(&mut self, text: &str) {
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }
}
