//! Where a request offers tools: in the lists of its top level, and within its conversation.
//!
//! The body was read before ([`crate::request::read_fields`]): it is an object, and the names that are used here are written
//! exactly so.

use std::borrow::Cow;

use memchr::memmem;

use crate::json::{Kind, Reader, Value};
use crate::names::REQUEST;
use crate::walk::{Token, Tokens, Unreadable};

/// Lists of tools: of all APIs, the older functions, Anthropic's MCP servers, Azure's data sources.
pub(crate) const LISTS: [&str; 4] = ["tools", "functions", "mcp_servers", "data_sources"];

/// Members whose items or blocks can bring tools: OpenAI's items `additional_tools` and `tool_search_output`, Anthropic's
/// blocks `tool_addition`.
const CONVERSATIONS: [&str; 3] = ["input", "messages", "system"];

/// What lists the tools of a server that is offered elsewhere: answers bring it, and callers send it back.
const LISTINGS: [&str; 2] = ["mcp_list_tools", "mcp_tool_listing"];

/// Tools at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A list of them.
    List(Value),
    /// One of them.
    One(Value),
    /// The web search of chats, which has only options.
    WebSearch,
}

/// Calls `found` with all that a body offers, and with the member of the body that it is in.
///
/// # Errors
/// [`Unreadable`] if it can be read in two ways.
pub(crate) fn offered(body: &[u8], mut found: impl FnMut(&'static str, Offer)) -> Result<(), Unreadable> {
    let mut within = Vec::new();
    let read = Reader::new(body).object(|name, value| {
        if let Some(list) = LISTS.iter().find(|list| **list == name) {
            found(list, Offer::List(value));
        } else if name == "web_search_options" && value.kind == Kind::Object {
            found("web_search_options", Offer::WebSearch);
        } else if let Some(conversation) = CONVERSATIONS.iter().find(|conversation| **conversation == name)
            && matches!(value.kind, Kind::Array | Kind::Object)
            && may_offer(value.bytes(body))
        {
            within.push((*conversation, value));
        }
    });
    read.map_err(|_| Unreadable)?;
    within.iter().try_for_each(|(field, value)| in_conversation(body, value, &mut |offer| found(field, offer)))
}

/// Whether a conversation may have members that offer tools, escaped or not. Names in texts have escaped quotes.
fn may_offer(conversation: &[u8]) -> bool {
    ["\"tools\"", "\"definition\"", "\\u00"].iter().any(|word| memmem::find(conversation, word.as_bytes()).is_some())
}

/// An object that is being read.
#[derive(Default)]
struct Frame<'t> {
    kind: Option<Cow<'t, str>>,
    /// Its tools, until its type is known.
    tools: Option<Value>,
}

/// In one pass: the tools of items, and definitions of tools at any depth. What only the caller or the model understands, such
/// as the arguments of a call, is not looked at.
fn in_conversation(body: &[u8], conversation: &Value, found: &mut impl FnMut(Offer)) -> Result<(), Unreadable> {
    let begin = conversation.range.start;
    let mut tokens = Tokens::new(conversation.bytes(body))?;
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut name = Cow::Borrowed("");
    // Within a value that is not looked at: how deep it is.
    let mut passed: Option<usize> = None;
    while let Some(token) = tokens.token()? {
        if let Some(depth) = passed {
            passed = (tokens.depth() > depth).then_some(depth);
            continue;
        }
        let is_object = token == Token::Object;
        if is_object || token == Token::Array {
            let (kind, at) = (if is_object { Kind::Object } else { Kind::Array }, begin + tokens.range().start);
            let value = || {
                let rest = Value { kind, range: at..conversation.range.end };
                Reader::within(body, &rest).value(0).map_err(|_| Unreadable)
            };
            let mut is_own = (REQUEST.apart)(name.as_bytes(), is_object);
            if name == "definition" && is_object {
                found(Offer::One(value()?));
                is_own = true;
            } else if name == "tools" && !is_object {
                let tools = value()?;
                match frames.last_mut() {
                    Some(frame) => frame.tools = Some(tools),
                    None => found(Offer::List(tools)),
                }
                is_own = true;
            }
            if is_own {
                passed = Some(tokens.depth() - 1);
            } else {
                // Also for an array, so that each end has its own.
                frames.push(Frame::default());
            }
        }
        match (&token, &*name) {
            (Token::Text(text), "type") => {
                if let Some(frame) = frames.last_mut() {
                    frame.kind = Some(text.clone());
                }
            }
            (Token::End, _) => {
                let Frame { kind, tools } = frames.pop().unwrap_or_default();
                let is_listing = kind.is_some_and(|kind| LISTINGS.contains(&&*kind));
                if let Some(tools) = tools.filter(|_| !is_listing) {
                    found(Offer::List(tools));
                }
            }
            _ => {}
        }
        name = if let Token::Name(next) = token { next } else { Cow::Borrowed("") };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// What a body offers, as JSON.
    fn found(body: &str) -> Result<Vec<(&'static str, Json)>, Unreadable> {
        let mut all = Vec::new();
        offered(body.as_bytes(), |field, offer| {
            let value = match offer {
                Offer::List(value) | Offer::One(value) => serde_json::from_slice(value.bytes(body.as_bytes())).unwrap(),
                Offer::WebSearch => json!("web search"),
            };
            all.push((field, value));
        })?;
        Ok(all)
    }

    #[test]
    fn tools_are_found_wherever_an_api_has_them() {
        let (tools, tool) = (json!([{ "type": "function", "name": "f" }]), json!({ "name": "f", "input_schema": { "definition": {} } }));
        let added = json!({ "type": "tool_addition", "tool": { "type": "tool_definition", "definition": tool } });
        for (body, field, expected) in [
            (json!({ "tools": tools }), "tools", &tools),
            (json!({ "mcp_servers": tools }), "mcp_servers", &tools),
            (
                json!({ "input": [{ "type": "additional_tools", "role": "developer", "tools": tools }, { "role": "user", "content": "x" }] }),
                "input",
                &tools,
            ),
            (json!({ "input": [{ "tools": tools, "type": "tool_search_output", "execution": "client" }] }), "input", &tools),
            (json!({ "messages": [{ "role": "user", "content": "x" }, { "role": "system", "content": [added] }] }), "messages", &tool),
            (
                json!({ "messages": [{ "role": "assistant", "content": [{ "type": "compaction", "tool_changes": [added] }] }] }),
                "messages",
                &tool,
            ),
            (json!({ "input": { "tools": tools } }), "input", &tools),
        ] {
            assert_eq!(found(&body.to_string()), Ok(vec![(field, expected.clone())]), "{body}");
        }
        let escaped = r#"{"input":[{"type":"additional_tools","\u0074ools":[1]}]}"#;
        assert_eq!(found(escaped), Ok(vec![("input", json!([1]))]));
        let many =
            json!({ "input": [{ "tools": [[{ "tools": [1] }]] }, [{ "a": { "tools": [2] } }, { "tools": 3 }]], "web_search_options": {} });
        let expected = vec![("web_search_options", json!("web search")), ("input", json!([[{ "tools": [1] }]])), ("input", json!([2]))];
        assert_eq!(found(&many.to_string()), Ok(expected));
    }

    #[test]
    fn what_is_no_offer_is_none() {
        let call = json!({ "type": "tool_use", "input": { "tools": [1], "definition": {} } });
        for body in [
            json!({ "messages": [{ "role": "assistant", "content": [call] }] }),
            json!({ "messages": [{ "role": "user", "content": "\"tools\": [1]" }] }),
            json!({ "input": [{ "type": "mcp_list_tools", "server_label": "s", "tools": [{ "name": "f" }] }] }),
            json!({ "messages": [{ "role": "assistant", "content": [{ "tools": [{ "name": "f" }], "type": "mcp_tool_listing" }] }] }),
            json!({ "tool_choice": { "type": "allowed_tools", "tools": [1] }, "input": "tools" }),
            json!({ "input": [{ "type": "custom", "format": { "definition": "start: x" }, "parameters": { "tools": [1] } }] }),
        ] {
            assert_eq!(found(&body.to_string()), Ok(Vec::new()), "{body}");
        }
        assert_eq!(found(r#"{"input":[{"tools":[1],"type":"additional_tools","type":"mcp_list_tools"}]}"#), Err(Unreadable));
        assert_eq!(found("[]"), Err(Unreadable));
    }
}
