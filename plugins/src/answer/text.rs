//! The text of answers, for a log: also of streams that broke off, as far as they arrived.

use std::borrow::Cow;

use super::read;
use crate::api::Api;
use crate::json::{Item, Kind, Tree};

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

/// Reads an answer's messages, one per choice, from its plain form or from a stream. `None` if it can't be parsed.
pub fn text(api: Api, answer: &[u8], streamed: bool) -> Option<Vec<Message>> {
    let assembled;
    let answer = if streamed {
        assembled = read::stream(api, answer)?.answer.to_string();
        assembled.as_bytes()
    } else {
        answer
    };
    let tree = Tree::parse(answer)?;
    let answer = Some(tree.root()).filter(|answer| answer.is_object())?;
    Some(match api {
        Api::Chat => answer.get("choices").items().map(of_chat_choice).collect(),
        Api::Completions => answer.get("choices").items().map(of_text_choice).collect(),
        Api::Responses => of_response(answer).into_iter().collect(),
        Api::Messages => of_message(answer).into_iter().collect(),
        _ => Vec::new(),
    })
}

/// The finish reason of a response: its status, or the reason why it is incomplete.
pub(super) fn response_finish(answer: Item<'_>) -> Option<String> {
    let status = answer.get("status").text().filter(|status| !matches!(status.as_ref(), "in_progress" | "queued"));
    answer.get("incomplete_details").get("reason").text().or(status).map(Cow::into_owned)
}

fn finish(item: Item<'_>, name: &str) -> Option<String> {
    item.get(name).text().map(Cow::into_owned)
}

fn of_chat_choice(choice: Item<'_>) -> Message {
    let message = choice.get("message");
    let mut text = String::new();
    push_parts(&mut text, message.get("content"));
    for more in [message.get("refusal"), message.get("audio").get("transcript")] {
        text.push_str(&more.str());
    }
    let function = Some(message.get("function_call")).filter(|call| call.is_object());
    let called = |call: Item<'_>| [call.get("custom"), call.get("function")].into_iter().find(|called| called.is_object()).map(of_call);
    let calls = message.get("tool_calls").items().map(|call| called(call).unwrap_or_default());
    let calls = calls.chain(function.map(of_call)).collect();
    Message { role: role(message), text, calls, finish: finish(choice, "finish_reason") }
}

fn of_text_choice(choice: Item<'_>) -> Message {
    let text = choice.get("text").str().into_owned();
    Message { role: "assistant".to_owned(), text, calls: Vec::new(), finish: finish(choice, "finish_reason") }
}

fn of_response(answer: Item<'_>) -> Option<Message> {
    let output = Some(answer.get("output")).filter(|output| output.kind() == Kind::Array)?;
    let mut message = Message { role: "assistant".to_owned(), finish: response_finish(answer), ..Message::default() };
    for item in output.items() {
        match item.get("type").str().as_ref() {
            "message" => push_parts(&mut message.text, item.get("content")),
            "function_call" | "custom_tool_call" | "mcp_call" => message.calls.push(of_call(item)),
            _ => {}
        }
    }
    Some(message)
}

fn of_message(answer: Item<'_>) -> Option<Message> {
    let content = Some(answer.get("content")).filter(|content| content.kind() == Kind::Array)?;
    let mut message = Message { role: role(answer), finish: finish(answer, "stop_reason"), ..Message::default() };
    for block in content.items() {
        match block.get("type").str().as_ref() {
            "text" => message.text.push_str(&block.get("text").str()),
            "tool_use" | "server_tool_use" | "mcp_tool_use" => message.calls.push(of_call(block)),
            _ => {}
        }
    }
    Some(message)
}

/// Content is a text, or a list of parts with texts.
fn push_parts(text: &mut String, content: Item<'_>) {
    text.push_str(&content.str());
    for part in content.items() {
        text.push_str(&part.get("text").str());
        text.push_str(&part.get("refusal").str());
    }
}

fn of_call(call: Item<'_>) -> Call {
    let arguments = [call.get("arguments"), call.get("input")].into_iter().find(|value| !value.is_null());
    let arguments = arguments.map_or_else(String::new, |value| value.to_text().into_owned());
    Call { name: call.get("name").str().into_owned(), arguments }
}

fn role(message: Item<'_>) -> String {
    message.get("role").text().map_or_else(|| "assistant".to_owned(), Cow::into_owned)
}
