//! Requests that are not conversations: completions, embeddings, images, speech.

use super::content::add;
use super::message::{Message, Role};
use crate::json::{Item, Kind};

/// `prompt` and `suffix`. The suffix comes first, so that the last message is the prompt.
pub(super) fn completions(body: Item<'_>) -> Vec<Message<'_>> {
    let suffix = body.get("suffix").text().filter(|suffix| !suffix.is_empty());
    let mut messages: Vec<Message<'_>> = suffix.map(|suffix| Message::saying(Role::User, suffix)).into_iter().collect();
    messages.extend(inputs(body.get("prompt")));
    messages
}

/// `input`
pub(super) fn embeddings(body: Item<'_>) -> Vec<Message<'_>> {
    inputs(body.get("input"))
}

/// `prompt`
pub(super) fn image(body: Item<'_>) -> Vec<Message<'_>> {
    inputs(body.get("prompt"))
}

/// `instructions` and `input`
pub(super) fn speech(body: Item<'_>) -> Vec<Message<'_>> {
    let instructions = body.get("instructions").text().filter(|text| !text.is_empty());
    let mut messages: Vec<Message<'_>> = instructions.map(|text| Message::saying(Role::System, text)).into_iter().collect();
    messages.extend(inputs(body.get("input")));
    messages
}

/// One text or many, each becomes a message; token numbers are not text.
fn inputs(value: Item<'_>) -> Vec<Message<'_>> {
    match value.kind() {
        Kind::Array if !has_number(value) => value.items().map(input).collect(),
        Kind::Null => Vec::new(),
        _ => vec![input(value)],
    }
}

fn input(value: Item<'_>) -> Message<'_> {
    let mut message = Message::by(Role::User);
    if has_number(value) {
        message.attachments = 1;
    } else {
        add(&mut message, value);
    }
    message
}

/// Whether it is a list with a number in it.
fn has_number(list: Item<'_>) -> bool {
    list.items().any(|element| element.kind() == Kind::Number)
}
