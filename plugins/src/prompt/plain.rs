//! Requests that are not conversations: completions, embeddings, images, speech.

use serde_json::{Map, Value};

use super::content::{add, text};
use super::message::{Message, Role};

/// `prompt` and `suffix`. The suffix comes first, so that the last message is the prompt.
pub(super) fn completions(body: &Map<String, Value>) -> Vec<Message> {
    let suffix = text(body, "suffix").filter(|suffix| !suffix.is_empty());
    let mut messages: Vec<Message> = suffix.map(|suffix| Message::saying(Role::User, suffix)).into_iter().collect();
    messages.extend(inputs(body.get("prompt")));
    messages
}

/// `input`
pub(super) fn embeddings(body: &Map<String, Value>) -> Vec<Message> {
    inputs(body.get("input"))
}

/// `prompt`
pub(super) fn image(body: &Map<String, Value>) -> Vec<Message> {
    inputs(body.get("prompt"))
}

/// `instructions` and `input`
pub(super) fn speech(body: &Map<String, Value>) -> Vec<Message> {
    let instructions = text(body, "instructions").filter(|text| !text.is_empty());
    let mut messages: Vec<Message> = instructions.map(|text| Message::saying(Role::System, text)).into_iter().collect();
    messages.extend(inputs(body.get("input")));
    messages
}

/// One text or many, each becomes a message; token numbers are not text.
fn inputs(value: Option<&Value>) -> Vec<Message> {
    match value {
        Some(Value::Array(list)) if !list.iter().any(Value::is_number) => list.iter().map(input).collect(),
        None | Some(Value::Null) => Vec::new(),
        Some(one) => vec![input(one)],
    }
}

fn input(value: &Value) -> Message {
    let mut message = Message::by(Role::User);
    match value {
        Value::Array(list) if list.iter().any(Value::is_number) => message.attachments = 1,
        other => add(&mut message, other),
    }
    message
}
