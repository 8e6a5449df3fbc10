//! The tools that a request offers.

use crate::json::{Kind, Reader, Value};
use crate::offered::{Offer, offered};

/// Deepest nesting of tools in tools: no API has more.
const DEEPEST: usize = 4;

/// The first tool in a request's body that isn't allowed. A function counts by its name; any other tool by its kind,
/// and by its name, too. A tool with neither has an empty name, which is never allowed.
pub(super) fn not_allowed(body: &[u8], allowed: &[String]) -> Option<String> {
    let mut found = None;
    let read = offered(body, |_, offer| match offer {
        Offer::List(list) => in_list(body, &list, allowed, DEEPEST, &mut found),
        Offer::One(tool) if found.is_none() => one(body, &tool, allowed, DEEPEST, &mut found),
        Offer::One(_) => {}
        Offer::WebSearch => refuse("web_search", allowed, &mut found),
    });
    match read {
        Ok(()) => found,
        Err(_) => Some(found.unwrap_or_default()),
    }
}

fn in_list(body: &[u8], list: &Value, allowed: &[String], deepest: usize, found: &mut Option<String>) {
    if list.kind != Kind::Array {
        return;
    }
    // This can't fail: the text was parsed before.
    let _ = Reader::within(body, list).array(|tool| {
        if found.is_none() {
            one(body, &tool, allowed, deepest, found);
        }
    });
}

fn one(body: &[u8], tool: &Value, allowed: &[String], deepest: usize, found: &mut Option<String>) {
    let (mut kind, mut own, mut within, mut tools) = (None, None, None, None);
    // A text that only a more lenient reader can decode: what it says is unknown.
    let mut unreadable = false;
    let mut text = |value: &Value| {
        let text = value.as_str(body);
        unreadable |= text.is_none() && value.kind == Kind::String;
        text
    };
    if tool.kind == Kind::Object {
        let _ = Reader::within(body, tool).object(|name, value| match name {
            "type" => kind = text(&value),
            "name" => own = text(&value),
            "tools" => tools = Some(value),
            "function" | "custom" if value.kind == Kind::Object && (within.is_none() || name == "function") => {
                let _ = Reader::within(body, &value).object(|name, value| {
                    if name == "name" {
                        within = text(&value);
                    }
                });
            }
            _ => {}
        });
    }
    let name = within.or(own);
    let kind = kind.filter(|kind| !matches!(&**kind, "function" | "custom"));
    if unreadable || (name.is_none() && kind.is_none()) {
        refuse("", allowed, found);
    }
    for name in kind.iter().chain(&name) {
        refuse(name, allowed, found);
    }
    match tools {
        Some(_) if deepest == 0 => refuse("", allowed, found),
        // A namespace has tools of its own.
        Some(tools) => in_list(body, &tools, allowed, deepest - 1, found),
        None => {}
    }
}

fn refuse(name: &str, allowed: &[String], found: &mut Option<String>) {
    if found.is_none() && !allowed.iter().any(|one| one == name) {
        *found = Some(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    #[test]
    fn a_name_that_cannot_be_decoded_is_not_allowed() {
        let long = "x".repeat(1000);
        for tool in [
            format!(r#"{{"type":"web_search","name":"{long}\q"}}"#),
            format!(r#"{{"type":"function","name":"f","function":{{"name":"{long}\ud800"}}}}"#),
            format!(r#"{{"type":"{long}\u12","name":"f"}}"#),
        ] {
            let body = format!(r#"{{"tools":[{tool}]}}"#);
            assert_eq!(not_allowed(body.as_bytes(), &["f".to_owned(), "web_search".to_owned()]).as_deref(), Some(""), "{body}");
        }
    }

    #[test]
    fn tools_go_by_name_and_kind() {
        let refused = |body: Json, allowed: &[&str]| {
            not_allowed(body.to_string().as_bytes(), &allowed.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let chat = json!({ "tools": [{ "type": "function", "function": { "name": "f" } }, { "type": "custom", "custom": { "name": "c" } }],
            "functions": [{ "name": "old" }], "web_search_options": {} });
        assert_eq!(refused(chat.clone(), &["f", "c", "old", "web_search"]), None);
        for missing in ["f", "c", "old", "web_search"] {
            let rest: Vec<&str> = ["f", "c", "old", "web_search"].into_iter().filter(|name| *name != missing).collect();
            assert_eq!(refused(chat.clone(), &rest).as_deref(), Some(missing));
        }
        let responses = json!({ "tools": [{ "type": "web_search" }, { "type": "namespace", "name": "n", "tools": [{ "type": "function", "name": "in" }] }] });
        assert_eq!(refused(responses.clone(), &["web_search", "namespace", "n", "in"]), None);
        assert_eq!(refused(responses, &["web_search", "namespace", "n"]).as_deref(), Some("in"));
        let servers = json!({ "mcp_servers": [{ "type": "url", "name": "s", "url": "u" }] });
        assert_eq!(refused(servers, &["url"]).as_deref(), Some("s"));
        assert_eq!(refused(json!({ "tools": [{}] }), &["f"]).as_deref(), Some(""));
        assert_eq!(refused(json!({ "tools": ["f"] }), &["f"]).as_deref(), Some(""));
        assert_eq!(refused(json!({ "messages": [] }), &[]), None);
    }

    #[test]
    fn tools_within_a_conversation_must_be_allowed_too() {
        let refused = |body: Json, allowed: &str| not_allowed(body.to_string().as_bytes(), &[allowed.to_owned(), "namespace".to_owned()]);
        let evil = json!({ "type": "namespace", "name": "search", "tools": [{ "type": "function", "name": "evil" }] });
        for body in [
            json!({ "input": [{ "type": "additional_tools", "role": "developer", "tools": [evil] }], "tools": [{ "name": "search" }] }),
            json!({ "input": [{ "type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [evil] }] }),
            json!({ "messages": [{ "role": "system", "content": [{ "type": "tool_addition", "tool": { "type": "tool_definition", "definition": { "name": "evil" } } }] }] }),
        ] {
            assert_eq!(refused(body.clone(), "search").as_deref(), Some("evil"), "{body}");
            let text = body.to_string().replace("evil", "search");
            assert_eq!(refused(serde_json::from_str(&text).unwrap(), "search"), None, "{text}");
        }
        assert_eq!(not_allowed(br#"{"input":[{"tools":[],"type":"a","type":"b"}]}"#, &[]).as_deref(), Some(""));
    }
}
