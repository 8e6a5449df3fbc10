//! The tools that a request offers.

use crate::json::{Kind, Reader, Value};

/// Lists of tools: of all APIs, the older functions, Anthropic's MCP servers, Azure's data sources.
const LISTS: [&str; 4] = ["tools", "functions", "mcp_servers", "data_sources"];

/// Deepest nesting of tools in tools: no API has more.
const DEEPEST: usize = 4;

/// The first tool in a request's body that isn't allowed. A function counts by its name; any other tool by its kind,
/// and by its name, too. A tool with neither has an empty name, which is never allowed.
pub(super) fn not_allowed(body: &[u8], allowed: &[String]) -> Option<String> {
    let mut found = None;
    let mut lists = Vec::new();
    let mut search = false;
    let read = Reader::new(body).object(|name, value| {
        if LISTS.contains(&name) {
            lists.push(value);
        } else if name == "web_search_options" {
            search = value.kind == Kind::Object;
        }
    });
    if read.is_err() {
        return Some(String::new());
    }
    lists.iter().for_each(|list| in_list(body, list, allowed, DEEPEST, &mut found));
    if search && found.is_none() {
        refuse("web_search", allowed, &mut found);
    }
    found
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
}
