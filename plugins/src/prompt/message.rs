//! A message of a conversation.

use std::borrow::Cow;

use crate::json::Item;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message<'t> {
    /// Its role.
    pub role: Role,
    /// Its texts, with line ends between the parts.
    pub text: Cow<'t, str>,
    /// Images, audio, files, tokens and parts of unknown types.
    pub attachments: usize,
    /// Tool calls of the model.
    pub calls: Vec<Call<'t>>,
}

/// A tool call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call<'t> {
    /// The tool.
    pub name: Cow<'t, str>,
    /// The arguments, mostly JSON.
    pub arguments: Cow<'t, str>,
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

impl<'t> Message<'t> {
    /// An empty message.
    pub(super) fn by(role: Role) -> Self {
        Message { role, ..Message::default() }
    }

    /// A message with this text.
    pub(super) fn saying(role: Role, text: Cow<'t, str>) -> Self {
        Message { role, text, ..Message::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.attachments == 0 && self.calls.is_empty()
    }

    /// Adds a text on a new line.
    pub(super) fn say(&mut self, text: Cow<'t, str>) {
        if self.text.is_empty() {
            self.text = text;
        } else if !text.is_empty() {
            let all = self.text.to_mut();
            all.push('\n');
            all.push_str(&text);
        }
    }
}
