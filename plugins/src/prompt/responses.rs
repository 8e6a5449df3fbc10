//! `instructions`, `prompt` and `input` of the Responses API.
//!
//! There are dozens of types of items. Their common structure is enough: `…_call` is a call by the model, `…_output` is
//! its result, and everything else has a role and a content.

use serde_json::{Map, Value};

use super::content::{add, as_text, text};
use super::message::{Call, Message, Role};

pub(super) fn messages(body: &Map<String, Value>) -> Vec<Message> {
    let mut messages = Vec::new();
    if let Some(instructions) = body.get("instructions").filter(|value| !value.is_null()) {
        let mut message = Message::by(Role::System);
        add(&mut message, instructions);
        messages.push(message);
    }
    // The backend has the template itself; its variables are in the request.
    if let Some(Value::Object(variables)) = body.get("prompt").and_then(|prompt| prompt.get("variables")) {
        let mut message = Message::by(Role::User);
        variables.values().for_each(|value| add(&mut message, value));
        messages.push(message);
    }
    match body.get("input") {
        Some(Value::Array(items)) => items.iter().for_each(|one| item(one, &mut messages)),
        None | Some(Value::Null) => {}
        Some(other) => item(other, &mut messages),
    }
    messages
}

fn item(value: &Value, messages: &mut Vec<Message>) {
    let Value::Object(item) = value else {
        let mut message = Message::by(Role::User);
        add(&mut message, value);
        return messages.push(message);
    };
    match text(item, "type").unwrap_or_default() {
        kind if kind.ends_with("_output") => messages.push(result(item.get("output"))),
        kind if kind.ends_with("_call") || kind == "mcp_approval_request" => called(kind, item, messages),
        "reasoning" => {
            let mut message = Message::by(Role::Assistant);
            for name in ["summary", "content"] {
                add(&mut message, item.get(name).unwrap_or(&Value::Null));
            }
            messages.push(message);
        }
        "mcp_approval_response" => messages.push(Message::saying(Role::User, text(item, "reason").unwrap_or_default())),
        _ if item.contains_key("role") || item.contains_key("content") => {
            let mut message = Message::by(Role::of(item));
            add(&mut message, item.get("content").unwrap_or(&Value::Null));
            messages.push(message);
        }
        // A single part, a reference to a stored object, or an unknown type.
        _ => {
            let mut message = Message::by(Role::User);
            add(&mut message, value);
            messages.push(message);
        }
    }
}

fn result(output: Option<&Value>) -> Message {
    let mut message = Message::by(Role::Tool);
    match output {
        // A screenshot.
        Some(Value::Object(part)) if part.contains_key("image_url") || part.contains_key("file_id") => message.attachments += 1,
        Some(other) => add(&mut message, other),
        None => {}
    }
    message
}

fn called(kind: &str, item: &Map<String, Value>, messages: &mut Vec<Message>) {
    let mut message = Message::by(Role::Assistant);
    // The encoded image.
    if item.get("result").is_some_and(Value::is_string) {
        message.attachments += 1;
    }
    let name = text(item, "name").unwrap_or_else(|| kind.strip_suffix("_call").unwrap_or(kind));
    let arguments = ["arguments", "input", "action", "actions", "operation", "code", "queries"].into_iter().find_map(|name| item.get(name));
    message.calls.push(Call { name: name.to_owned(), arguments: arguments.map(as_text).unwrap_or_default() });
    messages.push(message);
    // Tools that run at the backend have their results in the same item.
    for name in ["output", "outputs", "results"] {
        if let Some(output) = item.get(name).filter(|output| !output.is_null()) {
            messages.push(result(Some(output)));
        }
    }
}
