//! `system` and `messages` in Anthropic's dialect.
//!
//! Tool results are blocks of a user's message there. They become messages of their own, in the same order.

use serde_json::{Map, Value};

use super::content::{add, text};
use super::message::{Message, Role};

pub(super) fn messages(body: &Map<String, Value>) -> Vec<Message> {
    let mut messages = Vec::new();
    if let Some(system) = body.get("system").filter(|system| !system.is_null()) {
        let mut message = Message::by(Role::System);
        add(&mut message, system);
        messages.push(message);
    }
    match body.get("messages") {
        Some(Value::Array(list)) => list.iter().for_each(|one| split(one, &mut messages)),
        Some(other) => split(other, &mut messages),
        None => {}
    }
    messages
}

fn split(value: &Value, messages: &mut Vec<Message>) {
    let (role, content) = match value {
        Value::Object(fields) => (Role::of(fields), fields.get("content").unwrap_or(&Value::Null)),
        Value::Null => return,
        other => (Role::User, other),
    };
    let blocks = match content {
        Value::Array(blocks) => blocks.as_slice(),
        other => std::slice::from_ref(other),
    };
    let before = messages.len();
    let mut current = Message::by(role);
    for block in blocks {
        // `tool_result`, `web_search_tool_result` and the like.
        let result = block.as_object().filter(|block| text(block, "type").is_some_and(|kind| kind.ends_with("tool_result")));
        let Some(result) = result else {
            add(&mut current, block);
            continue;
        };
        if !current.is_empty() {
            messages.push(std::mem::replace(&mut current, Message::by(role)));
        }
        let mut message = Message::by(Role::Tool);
        add(&mut message, result.get("content").unwrap_or(&Value::Null));
        messages.push(message);
    }
    if !current.is_empty() || messages.len() == before {
        messages.push(current);
    }
}
