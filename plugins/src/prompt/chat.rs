//! `messages` of a chat completion.

use serde_json::{Map, Value};

use super::content::{add, call};
use super::message::{Message, Role};

pub(super) fn messages(body: &Map<String, Value>) -> Vec<Message> {
    match body.get("messages") {
        Some(Value::Array(list)) => list.iter().map(message).collect(),
        None | Some(Value::Null) => Vec::new(),
        Some(other) => vec![message(other)],
    }
}

fn message(value: &Value) -> Message {
    let Value::Object(fields) = value else {
        let mut message = Message::by(Role::User);
        add(&mut message, value);
        return message;
    };
    let mut message = Message::by(Role::of(fields));
    // The model's reasoning and refusals come back next to the content.
    for name in ["reasoning_content", "content", "refusal"] {
        add(&mut message, fields.get(name).unwrap_or(&Value::Null));
    }
    // An earlier spoken answer, by its id.
    if fields.get("audio").is_some_and(Value::is_object) {
        message.attachments += 1;
    }
    if let Some(Value::Object(function)) = fields.get("function_call") {
        message.calls.push(call(function, "arguments"));
    }
    for one in fields.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        match (one.get("function"), one.get("custom")) {
            (Some(Value::Object(function)), _) => message.calls.push(call(function, "arguments")),
            (_, Some(Value::Object(custom))) => message.calls.push(call(custom, "input")),
            _ => message.attachments += 1,
        }
    }
    message
}
