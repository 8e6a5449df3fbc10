//! An answer as text, as far as it came.

use serde_json::Value;

use super::events::Events;
use super::plain;
use crate::api::Api;

/// One choice of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Who speaks; the model, as a rule.
    pub role: String,
    /// What it says, reasoning that is shown included.
    pub text: String,
    /// The calls that it makes.
    pub calls: Vec<Call>,
    /// Why it ended, if it did.
    pub finish: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// With what, as the model wrote it.
    pub arguments: String,
}

/// The messages of an answer, one per choice; of a stream that isn't whole, what came of it.
pub fn text(api: Api, answer: &[u8], streamed: bool) -> Vec<Message> {
    let whole = if streamed {
        let events = Events::read(answer);
        plain(api, &events).or_else(|| (api == Api::Responses).then(|| Value::from(deltas(&events))))
    } else {
        serde_json::from_slice(answer).ok()
    };
    let Some(whole) = whole else { return Vec::new() };
    match api {
        Api::Chat | Api::Completions => whole["choices"].as_array().into_iter().flatten().map(of_choice).collect(),
        Api::Responses => vec![of_response(&whole)],
        Api::Messages => vec![of_message(&whole)],
        _ => Vec::new(),
    }
}

/// What the events of an unfinished response said.
fn deltas(events: &Events) -> String {
    let kinds = ["response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta"];
    let of_kind = |event: &&Value| event["type"].as_str().is_some_and(|kind| kinds.contains(&kind));
    events.data.iter().filter(of_kind).filter_map(|event| event["delta"].as_str()).collect()
}

fn call(name: &Value, arguments: &Value) -> Call {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Call { name: plain(name), arguments: plain(arguments) }
}

fn add(message: &mut Message, value: &Value) {
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { return };
    if !message.text.is_empty() {
        message.text.push('\n');
    }
    message.text.push_str(text);
}

fn finish(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn of_choice(choice: &Value) -> Message {
    let said = &choice["message"];
    let mut message = Message { role: said["role"].as_str().unwrap_or("assistant").to_owned(), ..Message::default() };
    for value in [&choice["text"], &said["reasoning_content"], &said["content"], &said["refusal"], &said["audio"]["transcript"]] {
        add(&mut message, value);
    }
    let tools = said["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
    let calls = tools.chain([&said["function_call"]]).filter(|function| function.is_object());
    message.calls = calls.map(|function| call(&function["name"], &function["arguments"])).collect();
    message.finish = finish(&choice["finish_reason"]);
    message
}

fn of_response(response: &Value) -> Message {
    let mut message = Message { role: "assistant".to_owned(), finish: finish(&response["status"]), ..Message::default() };
    add(&mut message, response);
    for item in response["output"].as_array().into_iter().flatten() {
        for part in item["content"].as_array().into_iter().chain(item["summary"].as_array()).flatten() {
            add(&mut message, &part["text"]);
            add(&mut message, &part["refusal"]);
        }
        if item["type"].as_str().is_some_and(|kind| kind.ends_with("_call")) {
            message.calls.push(call(&item["name"], &item["arguments"]));
        }
    }
    message
}

fn of_message(answer: &Value) -> Message {
    let mut message = Message { role: "assistant".to_owned(), finish: finish(&answer["stop_reason"]), ..Message::default() };
    for block in answer["content"].as_array().into_iter().flatten() {
        add(&mut message, &block["thinking"]);
        add(&mut message, &block["text"]);
        if block["input"].is_object() || block["input"].is_string() {
            message.calls.push(call(&block["name"], &block["input"]));
        }
    }
    message
}
