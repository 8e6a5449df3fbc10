//! The Responses API: items with parts, and a typed event for each step of making them.

use serde_json::{Value, json};

use super::events::{Events, typed};

/// The last event holds the whole answer.
pub(super) fn to_plain(events: &Events) -> Option<Value> {
    let ends = ["response.completed", "response.incomplete", "response.failed"];
    let last = events.data.iter().rev().find(|event| event["type"].as_str().is_some_and(|kind| ends.contains(&kind)))?;
    Some(last["response"].clone()).filter(Value::is_object)
}

/// Numbers the events.
struct Writer {
    text: String,
    number: u64,
}

impl Writer {
    fn event(&mut self, kind: &str, mut value: Value) {
        value["type"] = kind.into();
        value["sequence_number"] = self.number.into();
        self.number += 1;
        self.text += &typed(&value);
    }
}

pub(super) fn to_stream(answer: &Value) -> Option<String> {
    let output = answer["output"].as_array()?;
    let mut begun = answer.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut writer = Writer { text: String::new(), number: 0 };
    writer.event("response.created", json!({ "response": begun }));
    writer.event("response.in_progress", json!({ "response": begun }));
    for (index, item) in output.iter().enumerate() {
        write_item(&mut writer, index, item);
    }
    let end = if answer["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    writer.event(end, json!({ "response": answer }));
    Some(writer.text)
}

fn write_item(writer: &mut Writer, index: usize, item: &Value) {
    let mut begun = item.clone();
    if !item["status"].is_null() {
        begun["status"] = "in_progress".into();
    }
    for (list, empty) in [("content", json!([])), ("summary", json!([])), ("arguments", json!(""))] {
        if !item[list].is_null() {
            begun[list] = empty;
        }
    }
    writer.event("response.output_item.added", json!({ "output_index": index, "item": begun }));
    let at = |part: usize, name: &str| json!({ "item_id": item["id"], "output_index": index, name: part });
    for (number, part) in item["content"].as_array().into_iter().flatten().enumerate() {
        let (name, kind) = if part["type"] == "refusal" { ("refusal", "response.refusal") } else { ("text", "response.output_text") };
        if !part[name].is_string() {
            continue;
        }
        let place = at(number, "content_index");
        let mut empty = part.clone();
        empty[name] = "".into();
        if !part["annotations"].is_null() {
            empty["annotations"] = json!([]);
        }
        writer.event("response.content_part.added", with(&place, "part", &empty));
        writer.event(&format!("{kind}.delta"), with(&with(&place, "delta", &part[name]), "logprobs", &json!([])));
        writer.event(&format!("{kind}.done"), with(&with(&place, name, &part[name]), "logprobs", &json!([])));
        writer.event("response.content_part.done", with(&place, "part", part));
    }
    for (number, part) in item["summary"].as_array().into_iter().flatten().enumerate() {
        let place = at(number, "summary_index");
        let mut empty = part.clone();
        empty["text"] = "".into();
        writer.event("response.reasoning_summary_part.added", with(&place, "part", &empty));
        writer.event("response.reasoning_summary_text.delta", with(&place, "delta", &part["text"]));
        writer.event("response.reasoning_summary_text.done", with(&place, "text", &part["text"]));
        writer.event("response.reasoning_summary_part.done", with(&place, "part", part));
    }
    if let (Value::String(arguments), "function_call") = (&item["arguments"], item["type"].as_str().unwrap_or_default()) {
        let place = json!({ "item_id": item["id"], "output_index": index });
        writer.event("response.function_call_arguments.delta", with(&place, "delta", &json!(arguments)));
        writer.event("response.function_call_arguments.done", with(&with(&place, "arguments", &json!(arguments)), "name", &item["name"]));
    }
    writer.event("response.output_item.done", json!({ "output_index": index, "item": item }));
}

fn with(value: &Value, name: &str, member: &Value) -> Value {
    let mut value = value.clone();
    value[name] = member.clone();
    value
}
