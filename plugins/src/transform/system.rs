//! A system prompt that is put before everything a caller sends.

use serde_json::json;

use super::member::Member;
use super::splice::Splices;
use crate::api::Api;
use crate::json::{Kind, Value};

/// Puts `text` first, if the API has a place for it.
pub(super) fn put_first(splices: &mut Splices<'_>, api: Api, body: &[u8], members: &[Member], text: &str) {
    let find =
        |name: &str| members.iter().find(|member| member.name == name && member.value.kind != Kind::Null).map(|member| &member.value);
    match api {
        Api::Chat => {
            if let Some(messages) = find("messages").filter(|messages| messages.kind == Kind::Array) {
                before_elements(splices, body, messages, &json!({ "role": "system", "content": text }).to_string());
            }
        }
        Api::Responses => before_text(splices, body, members, "instructions", text),
        Api::Messages => before_text(splices, body, members, "system", text),
        _ => {}
    }
}

fn before_elements(splices: &mut Splices<'_>, body: &[u8], list: &Value, element: &str) {
    let comma = if list.is_filled(body) { "," } else { "" };
    splices.insert_at(list.range.start + 1, format!("{element}{comma}"));
}

/// Before a member that is a text or a list of blocks.
fn before_text(splices: &mut Splices<'_>, body: &[u8], members: &[Member], name: &str, text: &str) {
    let quoted = serde_json::Value::from(text).to_string();
    // Its form between the quotes.
    let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    let mut found = members.iter().filter(|member| member.name == name).peekable();
    if found.peek().is_none() {
        return splices.insert_member(name, &quoted);
    }
    for member in found {
        let value = &member.value;
        match value.kind {
            Kind::String if value.is_filled(body) => splices.insert_at(value.range.start + 1, format!("{inner}\\n\\n")),
            Kind::Array => before_elements(splices, body, value, &json!({ "type": "text", "text": text }).to_string()),
            _ => splices.replace(value, quoted.clone()),
        }
    }
}
