//! `instructions`, `prompt` and `input` of the Responses API.
//!
//! There are dozens of types of items. Their common structure is enough: `…_call` is a call by the model, `…_output` is
//! its result, and everything else has a role and a content.

use std::borrow::Cow;

use super::content::{add, as_text};
use super::message::{Call, Message, Role};
use crate::json::{Item, Kind};

pub(super) fn messages(body: Item<'_>) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    let instructions = body.get("instructions");
    if !instructions.is_null() {
        let mut message = Message::by(Role::System);
        add(&mut message, instructions);
        messages.push(message);
    }
    // The backend has the template itself; its variables are in the request.
    let variables = body.get("prompt").get("variables");
    if variables.is_object() {
        let mut message = Message::by(Role::User);
        variables.members().for_each(|(_, value)| add(&mut message, value));
        messages.push(message);
    }
    let input = body.get("input");
    match input.kind() {
        Kind::Array => input.items().for_each(|one| item(one, &mut messages)),
        Kind::Null => {}
        _ => item(input, &mut messages),
    }
    messages
}

fn item<'t>(item: Item<'t>, messages: &mut Vec<Message<'t>>) {
    if !item.is_object() {
        let mut message = Message::by(Role::User);
        add(&mut message, item);
        return messages.push(message);
    }
    match item.get("type").str().as_ref() {
        kind if kind.ends_with("_output") => messages.push(result(item.get("output"))),
        kind if kind.ends_with("_call") || kind == "mcp_approval_request" => called(kind, item, messages),
        "reasoning" => {
            let mut message = Message::by(Role::Assistant);
            for name in ["summary", "content"] {
                add(&mut message, item.get(name));
            }
            messages.push(message);
        }
        "mcp_approval_response" => messages.push(Message::saying(Role::User, item.get("reason").str())),
        _ if item.has("role") || item.has("content") => {
            let mut message = Message::by(Role::of(item));
            add(&mut message, item.get("content"));
            messages.push(message);
        }
        // A single part, a reference to a stored object, or an unknown type.
        _ => {
            let mut message = Message::by(Role::User);
            add(&mut message, item);
            messages.push(message);
        }
    }
}

fn result(output: Item<'_>) -> Message<'_> {
    let mut message = Message::by(Role::Tool);
    // A screenshot.
    if output.has("image_url") || output.has("file_id") {
        message.attachments += 1;
    } else {
        add(&mut message, output);
    }
    message
}

fn called<'t>(kind: &str, item: Item<'t>, messages: &mut Vec<Message<'t>>) {
    let mut message = Message::by(Role::Assistant);
    // The encoded image.
    if item.get("result").kind() == Kind::String {
        message.attachments += 1;
    }
    let name = item.get("name").text().unwrap_or_else(|| Cow::Owned(kind.strip_suffix("_call").unwrap_or(kind).to_owned()));
    let arguments = ["arguments", "input", "action", "actions", "operation", "code", "queries"].into_iter().find(|name| item.has(name));
    let arguments = arguments.map_or(Cow::Borrowed(""), |name| as_text(item.get(name)));
    message.calls.push(Call { name, arguments });
    messages.push(message);
    // Tools that run at the backend have their results in the same item.
    for name in ["output", "outputs", "results"] {
        let output = item.get(name);
        if !output.is_null() {
            messages.push(result(output));
        }
    }
}
