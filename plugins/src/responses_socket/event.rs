//! The events of a response, as messages, and what the connection must remember of them.

use std::borrow::Cow;

use serde_json::{Value as Json, json};

use super::Memory;
use crate::json::{Kind, Reader, Value};

/// The events of one response.
#[derive(Debug, Default)]
pub struct Turn {
    /// Its input, and its output so far; `None` if no further request can continue it here.
    memory: Option<Memory>,
    /// Whether its items came in events of their own.
    said: bool,
    over: bool,
    id: Option<String>,
}

impl Turn {
    /// For a response to this request, if the connection must remember it.
    pub fn new(memory: Option<Memory>) -> Self {
        Turn { memory, ..Turn::default() }
    }

    /// Bytes that are kept for that.
    pub fn held(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::len)
    }

    /// No further request will continue it.
    pub fn forget(&mut self) {
        self.memory = None;
    }

    /// Whether its last event has come.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Reads the data of an event. Returns the message for the caller.
    pub fn event(&mut self, data: &str) -> String {
        let bytes = data.as_bytes();
        let (mut kind, mut item, mut response) = (String::new(), None, None);
        let read = Reader::new(bytes).object(|name, value| match name {
            "type" => kind = value.as_str(bytes).unwrap_or_default().into_owned(),
            "item" => item = Some(value),
            "response" => response = Some(value),
            _ => {}
        });
        let kind = if read.is_ok() { kind.as_str() } else { "" };
        match (kind, item, response) {
            ("response.output_item.done", Some(item), _) => {
                if let Some(memory) = &mut self.memory {
                    memory.add(&as_input(bytes, &item));
                    self.said = true;
                }
            }
            ("response.completed" | "response.incomplete", _, response) => {
                self.over = true;
                if let Some(response) = response {
                    self.ends(bytes, &response);
                }
            }
            ("response.failed", ..) => self.over = true,
            ("error", ..) => {
                self.over = true;
                return error_event(data);
            }
            _ => {}
        }
        data.to_owned()
    }

    /// The whole response, which may contain more than the events did.
    fn ends(&mut self, bytes: &[u8], response: &Value) {
        let mut output = Vec::new();
        let _ = Reader::within(bytes, response).object(|name, value| match name {
            "id" => self.id = value.as_str(bytes).map(Cow::into_owned),
            "output" if self.memory.is_some() && !self.said && value.kind == Kind::Array => {
                let _ = Reader::within(bytes, &value).array(|item| output.push(as_input(bytes, &item)));
            }
            _ => {}
        });
        if let Some(memory) = &mut self.memory {
            output.iter().for_each(|item| memory.add(item));
        }
    }

    /// What the connection remembers of it from now on.
    pub fn memory(self) -> Option<Memory> {
        Some(self.memory?.named(self.id?))
    }
}

/// Items whose ids have no meaning if they aren't stored: a backend would look for the stored item.
const NAMELESS: [&str; 3] = ["message", "function_call", "custom_tool_call"];

/// An output item in the form of an input item; empty if that isn't possible: reasoning that no other request can read.
fn as_input(text: &[u8], item: &Value) -> String {
    let mut members = Vec::new();
    let (mut kind, mut sealed) = (String::new(), false);
    let read = Reader::within(text, item).object(|name, value| {
        match name {
            "type" => kind = value.as_str(text).unwrap_or_default().into_owned(),
            "encrypted_content" => sealed = value.kind == Kind::String,
            _ => {}
        }
        members.push((name.to_owned(), value.range));
    });
    if read.is_err() || (kind == "reasoning" && !sealed) {
        return String::new();
    }
    let nameless = NAMELESS.contains(&kind.as_str());
    let kept = members.into_iter().filter(|(name, _)| !(nameless && name == "id"));
    let written = kept.map(|(name, value)| format!("{}:{}", Json::from(name), String::from_utf8_lossy(&text[value])));
    format!("{{{}}}", written.collect::<Vec<_>>().join(","))
}

/// An error inside a stream, in the form of messages.
fn error_event(data: &str) -> String {
    let Ok(mut event) = serde_json::from_str::<Json>(data) else { return data.to_owned() };
    if event.get("status").is_none() {
        event["status"] = 502.into();
    }
    if event.get("error").is_none_or(Json::is_null) {
        event["error"] = json!({ "type": "server_error", "code": event["code"], "message": event["message"], "param": event["param"] });
    }
    event.to_string()
}

/// The message for an error: the answer's status, the error in its body, and its headers.
pub fn error(status: u16, body: &[u8], headers: &[(&str, &str)]) -> String {
    let parsed = serde_json::from_slice::<Json>(body).ok().and_then(|body| body.get("error").filter(|error| error.is_object()).cloned());
    let nothing = || json!({ "type": "server_error", "code": "upstream_error", "message": format!("the answer's status is {status}"), "param": null });
    let mut error = parsed.unwrap_or_else(nothing);
    let headers: Json =
        headers.iter().map(|(name, value)| ((*name).to_owned(), Json::from(*value))).collect::<serde_json::Map<_, _>>().into();
    error["headers"] = headers.clone();
    json!({ "type": "error", "status": status, "error": error, "headers": headers }).to_string()
}

/// The message for an error of a request that continues another response: if there is no such response, the message
/// says so in the text that callers know.
pub fn of_previous(message: String, previous: &str) -> String {
    let Ok(mut parsed) = serde_json::from_str::<Json>(&message) else { return message };
    let names_it = parsed["error"]["message"].as_str().is_some_and(|text| text.contains(&format!("'{previous}'")));
    if parsed["error"]["code"] != "object_not_found" || !names_it {
        return message;
    }
    parsed["status"] = 400.into();
    parsed["error"]["code"] = "previous_response_not_found".into();
    parsed["error"]["param"] = "previous_response_id".into();
    parsed.to_string()
}

/// The messages for a response for which nothing was generated.
pub fn warm_up(id: &str, model: &str, at: i64) -> [String; 2] {
    let event = |number: u64, kind: &str, status: &str, usage: Json| {
        let response = json!({ "id": id, "object": "response", "created_at": at, "status": status, "model": model, "output": [],
            "error": null, "incomplete_details": null, "store": false, "usage": usage });
        json!({ "type": kind, "sequence_number": number, "response": response }).to_string()
    };
    let nothing = json!({ "input_tokens": 0, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": 0,
        "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 0 });
    [event(0, "response.created", "in_progress", Json::Null), event(1, "response.completed", "completed", nothing)]
}

/// The message for the response of a backend that doesn't stream.
pub fn whole(response: &str) -> String {
    let mut status = None;
    let _ = Reader::new(response.as_bytes()).object(|name, value| {
        if name == "status" {
            status = value.as_str(response.as_bytes()).map(Cow::into_owned);
        }
    });
    let ends = status.as_deref().filter(|status| matches!(*status, "incomplete" | "failed")).unwrap_or("completed");
    format!(r#"{{"type":"response.{ends}","sequence_number":0,"response":{response}}}"#)
}
