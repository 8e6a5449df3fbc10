//! `messages` of a chat completion.

use super::content::{add, call};
use super::message::{Message, Role};
use crate::json::{Item, Kind};

pub(super) fn messages(body: Item<'_>) -> Vec<Message<'_>> {
    let messages = body.get("messages");
    match messages.kind() {
        Kind::Array => messages.items().map(message).collect(),
        Kind::Null => Vec::new(),
        _ => vec![message(messages)],
    }
}

fn message(value: Item<'_>) -> Message<'_> {
    if !value.is_object() {
        let mut message = Message::by(Role::User);
        add(&mut message, value);
        return message;
    }
    let mut message = Message::by(Role::of(value));
    // Most messages have nothing else.
    if value.members().all(|(name, _)| matches!(name.as_ref(), "role" | "content")) {
        add(&mut message, value.get("content"));
        return message;
    }
    // The model's reasoning and refusals come back next to the content.
    for name in ["reasoning_content", "content", "refusal"] {
        add(&mut message, value.get(name));
    }
    // An earlier spoken answer, by its id.
    if value.get("audio").is_object() {
        message.attachments += 1;
    }
    let function = value.get("function_call");
    if function.is_object() {
        message.calls.push(call(function, "arguments"));
    }
    for one in value.get("tool_calls").items() {
        let (function, custom) = (one.get("function"), one.get("custom"));
        match (function.is_object(), custom.is_object()) {
            (true, _) => message.calls.push(call(function, "arguments")),
            (_, true) => message.calls.push(call(custom, "input")),
            _ => message.attachments += 1,
        }
    }
    message
}
