//! The text of answers, for a log: also of streams that broke off, as far as they arrived.

use std::borrow::Cow;

use super::read;
use crate::api::Api;
use crate::json::{Item, Kind, Tree};

/// The message of one choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message<'t> {
    /// The role.
    pub role: Cow<'t, str>,
    /// Its content, or its refusal; reasoning isn't part of it.
    pub text: Cow<'t, str>,
    /// The tool calls.
    pub calls: Vec<Call<'t>>,
    /// The finish reason, if it ended.
    pub finish: Option<Cow<'t, str>>,
}

/// A tool call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call<'t> {
    /// The tool.
    pub name: Cow<'t, str>,
    /// The arguments, as JSON text for most tools.
    pub arguments: Cow<'t, str>,
}

/// An answer in its plain form, also if it came as a stream, or as far as that came. `None` if it can't be read.
pub fn assembled(api: Api, answer: &[u8], streamed: bool) -> Option<Cow<'_, [u8]>> {
    match streamed {
        true => Some(Cow::Owned(read::stream(api, answer)?.answer.to_string().into_bytes())),
        false => Some(Cow::Borrowed(answer)),
    }
}

/// Reads the messages of an answer in its plain form, one per choice. `None` if it isn't an object.
pub fn text<'t>(api: Api, answer: &'t Tree<'t>) -> Option<Vec<Message<'t>>> {
    let answer = Some(answer.root()).filter(|answer| answer.is_object())?;
    Some(match api {
        Api::Chat => answer.get("choices").items().map(of_chat_choice).collect(),
        Api::Completions => answer.get("choices").items().map(of_text_choice).collect(),
        Api::Responses => of_response(answer).into_iter().collect(),
        Api::Messages => of_message(answer).into_iter().collect(),
        _ => Vec::new(),
    })
}

/// The finish reason of a response: its status, or the reason why it is incomplete.
fn response_finish(answer: Item<'_>) -> Option<Cow<'_, str>> {
    let status = answer.get("status").text().filter(|status| !matches!(status.as_ref(), "in_progress" | "queued"));
    answer.get("incomplete_details").get("reason").text().or(status)
}

fn of_chat_choice(choice: Item<'_>) -> Message<'_> {
    let [message, finish] = choice.get_all(["message", "finish_reason"]);
    let [role, content, refusal, audio, function, tools] =
        message.get_all(["role", "content", "refusal", "audio", "function_call", "tool_calls"]);
    let mut text = Cow::Borrowed("");
    push_parts(&mut text, content);
    for more in [refusal, audio.get("transcript")] {
        push(&mut text, more.str());
    }
    let function = Some(function).filter(|call| call.is_object());
    let calls = tools.items().map(called).chain(function.map(of_call)).collect();
    Message { role: role.text().unwrap_or(ASSISTANT), text, calls, finish: finish.text() }
}

/// A call of a function, or of a tool that takes a text.
fn called(call: Item<'_>) -> Call<'_> {
    [call.get("custom"), call.get("function")].into_iter().find(|called| called.is_object()).map(of_call).unwrap_or_default()
}

fn of_text_choice(choice: Item<'_>) -> Message<'_> {
    let text = choice.get("text").str();
    Message { role: ASSISTANT, text, calls: Vec::new(), finish: choice.get("finish_reason").text() }
}

fn of_response(answer: Item<'_>) -> Option<Message<'_>> {
    let output = Some(answer.get("output")).filter(|output| output.kind() == Kind::Array)?;
    let mut message = Message { role: ASSISTANT, finish: response_finish(answer), ..Message::default() };
    for item in output.items() {
        match item.get("type").str().as_ref() {
            "message" => push_parts(&mut message.text, item.get("content")),
            "function_call" | "custom_tool_call" | "mcp_call" => message.calls.push(of_call(item)),
            _ => {}
        }
    }
    Some(message)
}

fn of_message(answer: Item<'_>) -> Option<Message<'_>> {
    let content = Some(answer.get("content")).filter(|content| content.kind() == Kind::Array)?;
    let mut message = Message { role: role(answer), finish: answer.get("stop_reason").text(), ..Message::default() };
    for block in content.items() {
        match block.get("type").str().as_ref() {
            "text" => push(&mut message.text, block.get("text").str()),
            "tool_use" | "server_tool_use" | "mcp_tool_use" => message.calls.push(of_call(block)),
            _ => {}
        }
    }
    Some(message)
}

/// Content is a text, or a list of parts with texts.
fn push_parts<'t>(text: &mut Cow<'t, str>, content: Item<'t>) {
    push(text, content.str());
    for part in content.items() {
        push(text, part.get("text").str());
        push(text, part.get("refusal").str());
    }
}

/// Adds a text; the first one needs no copy.
fn push<'t>(text: &mut Cow<'t, str>, more: Cow<'t, str>) {
    if text.is_empty() {
        *text = more;
    } else if !more.is_empty() {
        text.to_mut().push_str(&more);
    }
}

fn of_call(call: Item<'_>) -> Call<'_> {
    let arguments = [call.get("arguments"), call.get("input")].into_iter().find(|value| !value.is_null());
    let arguments = arguments.map_or(Cow::Borrowed(""), Item::to_text);
    Call { name: call.get("name").str(), arguments }
}

/// The role of a message that doesn't name one.
const ASSISTANT: Cow<'static, str> = Cow::Borrowed("assistant");

fn role(message: Item<'_>) -> Cow<'_, str> {
    message.get("role").text().unwrap_or(ASSISTANT)
}
