//! The content of a request as text: for the prompt log, the content guard and the semantic cache.
//!
//! Every dialect becomes the same list of messages. Nothing is dropped silently: everything except text counts as an
//! attachment. Reading is lenient, because the backend decides what is valid. If a member occurs twice, the last one
//! counts, as in `serde_json`.

mod chat;
mod content;
mod message;
mod messages;
mod plain;
mod responses;
#[cfg(test)]
mod tests;
mod tools;

pub use message::{Call, Message, Role};

use crate::api::Api;
use crate::json::{Item, Kind, Tree};

/// The content of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Its messages, oldest first; may be empty.
    pub messages: Vec<Message>,
    /// Names of the tools in it; a built-in tool without a name has its type (`web_search`).
    pub tools: Vec<String>,
    /// Further texts of the caller that the model reads, one per line: descriptions of tools, the form of the answer.
    pub beside: String,
}

impl Prompt {
    /// The application's messages, separated by line ends.
    pub fn system(&self) -> String {
        let texts: Vec<&str> = self.messages.iter().filter(|one| one.role == Role::System).map(|one| one.text.as_str()).collect();
        texts.join("\n")
    }

    /// The text of the user's last message; `None` if there is no such message, or no text in it. It need not be the
    /// last message of all.
    pub fn last_user(&self) -> Option<&str> {
        let last = self.messages.iter().rfind(|one| one.role == Role::User)?;
        (!last.text.is_empty()).then_some(last.text.as_str())
    }

    /// Every text in it, in order: all messages, and the arguments of calls. A caller writes all of these, also the
    /// model's earlier messages.
    pub fn input_text(&self) -> impl Iterator<Item = &str> {
        self.messages
            .iter()
            .flat_map(|one| std::iter::once(one.text.as_str()).chain(one.calls.iter().map(|call| call.arguments.as_str())))
            .filter(|text| !text.is_empty())
    }
}

/// Reads a request's body. `None` if it isn't a JSON object, or if `api` has no prompt in JSON.
pub fn read(api: Api, body: &[u8]) -> Option<Prompt> {
    let read = match api {
        Api::Chat => chat::messages,
        Api::Completions => plain::completions,
        Api::Responses => responses::messages,
        Api::Messages => messages::messages,
        Api::Embeddings => plain::embeddings,
        Api::ImageGenerations => plain::image,
        Api::Speech => plain::speech,
        _ => return None,
    };
    let tree = Tree::parse(body)?;
    let body = Some(tree.root()).filter(|body| body.is_object())?;
    let mut beside = String::new();
    for name in ["tools", "functions", "response_format", "text", "prediction"] {
        strings(body.get(name), &mut beside);
    }
    Some(Prompt { messages: read(body), tools: tools::names(body), beside })
}

/// Adds every text in a value, one per line, except texts that only name a type.
fn strings(value: Item<'_>, to: &mut String) {
    match value.kind() {
        Kind::String => {
            to.push_str(&value.str());
            to.push('\n');
        }
        Kind::Array => value.items().for_each(|element| strings(element, to)),
        Kind::Object => value.members().filter(|(name, _)| name != "type").for_each(|(_, member)| strings(member, to)),
        Kind::Null | Kind::Bool | Kind::Number => {}
    }
}
