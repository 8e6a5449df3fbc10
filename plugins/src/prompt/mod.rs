//! The content of a request as text, for the prompt log.
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

pub use message::{Call, Message};

use std::borrow::Cow;

use crate::api::Api;
use crate::json::Tree;

/// The content of a request; its texts are the body's own as far as possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt<'t> {
    /// Its messages, oldest first; may be empty.
    pub messages: Vec<Message<'t>>,
    /// Names of the tools in it; a built-in tool without a name has its type (`web_search`).
    pub tools: Vec<Cow<'t, str>>,
}

/// Reads a request's body. `None` if it isn't a JSON object, or if `api` has no prompt in JSON.
pub fn read<'t>(api: Api, body: &'t Tree<'t>) -> Option<Prompt<'t>> {
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
    let body = Some(body.root()).filter(|body| body.is_object())?;
    Some(Prompt { messages: read(body), tools: tools::names(body) })
}
