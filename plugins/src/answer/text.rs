//! The text of answers, for a log: also of streams that broke off, as far as they arrived.

use serde_json::Value;

use super::read;
use crate::api::Api;

/// The message of one choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The role.
    pub role: String,
    /// Its content, or its refusal; reasoning isn't part of it.
    pub text: String,
    /// The tool calls.
    pub calls: Vec<Call>,
    /// The finish reason, if it ended.
    pub finish: Option<String>,
}

/// A tool call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// The arguments, as JSON text for most tools.
    pub arguments: String,
}

/// Reads an answer's messages, one per choice, from its plain form or from a stream. Empty if it can't be parsed.
pub fn text(api: Api, answer: &[u8], streamed: bool) -> Vec<Message> {
    let answer = if streamed {
        read::stream(api, answer).map(|read| read.answer)
    } else {
        serde_json::from_slice(answer).ok().filter(Value::is_object)
    };
    let Some(answer) = answer else { return Vec::new() };
    match api {
        Api::Chat => list(&answer["choices"]).map(of_chat_choice).collect(),
        Api::Completions => list(&answer["choices"]).map(of_text_choice).collect(),
        Api::Responses => of_response(&answer).into_iter().collect(),
        Api::Messages => of_message(&answer).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The finish reason of a response: its status, or the reason why it is incomplete.
pub(super) fn response_finish(answer: &Value) -> Option<String> {
    let status = answer["status"].as_str().filter(|status| !matches!(*status, "in_progress" | "queued"));
    answer["incomplete_details"]["reason"].as_str().or(status).map(str::to_owned)
}

fn of_chat_choice(choice: &Value) -> Message {
    let message = &choice["message"];
    let mut text = String::new();
    push_parts(&mut text, &message["content"]);
    for more in [&message["refusal"], &message["audio"]["transcript"]] {
        text.push_str(string(more));
    }
    let function = Some(&message["function_call"]).filter(|call| call.is_object());
    let calls = list(&message["tool_calls"]).map(|call| if call["custom"].is_object() { &call["custom"] } else { &call["function"] });
    let calls = calls.chain(function).map(of_call).collect();
    Message { role: role(message), text, calls, finish: choice["finish_reason"].as_str().map(str::to_owned) }
}

fn of_text_choice(choice: &Value) -> Message {
    let finish = choice["finish_reason"].as_str().map(str::to_owned);
    Message { role: "assistant".to_owned(), text: string(&choice["text"]).to_owned(), calls: Vec::new(), finish }
}

fn of_response(answer: &Value) -> Option<Message> {
    let output = answer["output"].as_array()?;
    let mut message = Message { role: "assistant".to_owned(), finish: response_finish(answer), ..Message::default() };
    for item in output {
        match item["type"].as_str() {
            Some("message") => push_parts(&mut message.text, &item["content"]),
            Some("function_call" | "custom_tool_call" | "mcp_call") => message.calls.push(of_call(item)),
            _ => {}
        }
    }
    Some(message)
}

fn of_message(answer: &Value) -> Option<Message> {
    let content = answer["content"].as_array()?;
    let mut message = Message { role: role(answer), finish: answer["stop_reason"].as_str().map(str::to_owned), ..Message::default() };
    for block in content {
        match block["type"].as_str() {
            Some("text") => message.text.push_str(string(&block["text"])),
            Some("tool_use" | "server_tool_use" | "mcp_tool_use") => message.calls.push(of_call(block)),
            _ => {}
        }
    }
    Some(message)
}

/// Content is a text, or a list of parts with texts.
fn push_parts(text: &mut String, content: &Value) {
    text.push_str(string(content));
    for part in list(content) {
        text.push_str(string(&part["text"]));
        text.push_str(string(&part["refusal"]));
    }
}

fn of_call(call: &Value) -> Call {
    let arguments = [&call["arguments"], &call["input"]].into_iter().find(|value| !value.is_null()).map_or_else(String::new, json_text);
    Call { name: string(&call["name"]).to_owned(), arguments }
}

/// Text unchanged, anything else as JSON.
fn json_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn role(message: &Value) -> String {
    message["role"].as_str().unwrap_or("assistant").to_owned()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
