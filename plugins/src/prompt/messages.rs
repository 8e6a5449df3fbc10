//! `system` and `messages` in Anthropic's dialect.
//!
//! Tool results are blocks of a user's message there. They become messages of their own, in the same order.

use super::content::add;
use super::message::{Message, Role};
use crate::json::{Item, Kind};

pub(super) fn messages(body: Item<'_>) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    let system = body.get("system");
    if !system.is_null() {
        let mut message = Message::by(Role::System);
        add(&mut message, system);
        messages.push(message);
    }
    let all = body.get("messages");
    match all.kind() {
        Kind::Array => all.items().for_each(|one| split(one, &mut messages)),
        _ => split(all, &mut messages),
    }
    messages
}

fn split<'t>(value: Item<'t>, messages: &mut Vec<Message<'t>>) {
    let (role, content) = match value.kind() {
        Kind::Object => (Role::of(value), value.get("content")),
        Kind::Null => return,
        _ => (Role::User, value),
    };
    let blocks: Vec<Item<'_>> = if content.kind() == Kind::Array { content.items().collect() } else { vec![content] };
    let before = messages.len();
    let mut current = Message::by(role);
    for block in blocks {
        // `tool_result`, `web_search_tool_result` and the like.
        if !block.get("type").str().ends_with("tool_result") {
            add(&mut current, block);
            continue;
        }
        if !current.is_empty() {
            messages.push(std::mem::replace(&mut current, Message::by(role)));
        }
        let mut message = Message::by(Role::Tool);
        add(&mut message, block.get("content"));
        messages.push(message);
    }
    if !current.is_empty() || messages.len() == before {
        messages.push(current);
    }
}
