//! Responses as events: each output item is added empty, filled, and done; the last event contains everything.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Lines, Object, filled, list, object};

/// Fields of a response that are known only at its end.
const AT_END: [&str; 4] = ["usage", "completed_at", "incomplete_details", "error"];

/// The stream under construction.
#[derive(Default)]
struct Events {
    lines: Lines,
    sequence: u64,
}

/// Streams a response. `None` if it is neither completed nor incomplete.
pub(in crate::answer) fn stream(answer: &Object) -> Option<Bytes> {
    let last = match filled(answer, "status") {
        Some("completed") => "response.completed",
        Some("incomplete") => "response.incomplete",
        _ => return None,
    };
    let Some(Value::Array(output)) = answer.get("output") else { return None };
    let mut events = Events::default();
    let mut opening = answer.clone();
    opening.extend(object([("status", "in_progress".into()), ("output", json!([]))]));
    make_null(&mut opening, &AT_END);
    for kind in ["response.created", "response.in_progress"] {
        events.add(kind, object([("response", opening.clone().into())]));
    }
    for (index, item) in output.iter().enumerate() {
        events.add_item(index, item.as_object()?);
    }
    events.add(last, object([("response", answer.clone().into())]));
    Some(events.lines.finish())
}

/// The position that an event's piece belongs to.
struct ItemPosition<'a> {
    item_id: &'a str,
    output_index: usize,
}

impl ItemPosition<'_> {
    fn with<const N: usize>(&self, fields: [(&str, Value); N]) -> Object {
        let mut all = object(fields);
        all.extend(object([("item_id", self.item_id.into()), ("output_index", self.output_index.into())]));
        all
    }
}

impl Events {
    fn add(&mut self, kind: &str, mut fields: Object) {
        fields.insert("sequence_number".to_owned(), self.sequence.into());
        self.sequence += 1;
        self.lines.named(kind, fields);
    }

    fn add_item(&mut self, output_index: usize, item: &Object) {
        let place = ItemPosition { item_id: filled(item, "id").unwrap_or_default(), output_index };
        let mut empty = item.clone();
        if let Some(status) = empty.get_mut("status") {
            *status = "in_progress".into();
        }
        // Kinds without pieces here are added complete.
        let grown: &[&str] = match filled(item, "type") {
            Some("message") => &["content"],
            Some("reasoning") => &["content", "summary"],
            Some("function_call" | "mcp_call") => &["arguments"],
            Some("custom_tool_call") => &["input"],
            _ => &[],
        };
        for key in grown {
            match empty.get_mut(*key) {
                Some(value @ Value::Array(_)) => *value = json!([]),
                Some(value @ Value::String(_)) => *value = "".into(),
                _ => {}
            }
        }
        // The output of a tool follows its arguments.
        if filled(item, "type") == Some("mcp_call") {
            make_null(&mut empty, &["output", "error"]);
        }
        self.add("response.output_item.added", object([("output_index", output_index.into()), ("item", empty.into())]));
        match filled(item, "type") {
            Some("message") => self.add_content(&place, item),
            Some("reasoning") => {
                self.add_summary(&place, item);
                self.add_content(&place, item);
            }
            Some(kind @ ("function_call" | "mcp_call")) => self.add_text(&format!("response.{kind}_arguments"), &place, item, "arguments"),
            Some("custom_tool_call") => self.add_text("response.custom_tool_call_input", &place, item, "input"),
            _ => {}
        }
        self.add("response.output_item.done", object([("output_index", output_index.into()), ("item", item.clone().into())]));
    }

    /// The arguments of a call.
    fn add_text(&mut self, kind: &str, place: &ItemPosition<'_>, item: &Object, key: &str) {
        let Some(text) = item.get(key).and_then(Value::as_str) else { return };
        if !text.is_empty() {
            self.add(&format!("{kind}.delta"), place.with([("delta", text.into())]));
        }
        let mut done = place.with([(key, text.into())]);
        if let Some(name) = item.get("name").filter(|_| key == "arguments") {
            done.insert("name".to_owned(), name.clone());
        }
        self.add(&format!("{kind}.done"), done);
    }

    fn add_content(&mut self, place: &ItemPosition<'_>, item: &Object) {
        for (index, part) in list(item, "content").iter().enumerate() {
            let (kind, key) = match part.get("type").and_then(Value::as_str) {
                Some("output_text") => ("response.output_text", "text"),
                Some("refusal") => ("response.refusal", "refusal"),
                Some("reasoning_text") => ("response.reasoning_text", "text"),
                _ => ("", ""),
            };
            let at = |fields: [(&str, Value); 1]| {
                let mut fields = place.with(fields);
                fields.insert("content_index".to_owned(), index.into());
                fields
            };
            self.add("response.content_part.added", at([("part", emptied(part, key))]));
            if let Some(text) = part.get(key).and_then(Value::as_str) {
                // The SDKs want these two with text, and no others.
                let logprobs = (kind == "response.output_text").then(|| part.get("logprobs").cloned().unwrap_or_else(|| json!([])));
                for (name, key, value) in [("delta", "delta", text), ("done", key, text)] {
                    if name == "delta" && text.is_empty() {
                        continue;
                    }
                    let mut fields = at([(key, value.into())]);
                    fields.extend(logprobs.clone().map(|logprobs| ("logprobs".to_owned(), logprobs)));
                    self.add(&format!("{kind}.{name}"), fields);
                    if name == "delta" {
                        self.add_annotations(part, &at);
                    }
                }
            }
            self.add("response.content_part.done", at([("part", part.clone())]));
        }
    }

    fn add_annotations(&mut self, part: &Value, at: &impl Fn([(&str, Value); 1]) -> Object) {
        for (index, annotation) in part.as_object().map_or(&[][..], |part| list(part, "annotations")).iter().enumerate() {
            let mut fields = at([("annotation", annotation.clone())]);
            fields.insert("annotation_index".to_owned(), index.into());
            self.add("response.output_text.annotation.added", fields);
        }
    }

    fn add_summary(&mut self, place: &ItemPosition<'_>, item: &Object) {
        for (index, part) in list(item, "summary").iter().enumerate() {
            let at = |fields: [(&str, Value); 1]| {
                let mut fields = place.with(fields);
                fields.insert("summary_index".to_owned(), index.into());
                fields
            };
            self.add("response.reasoning_summary_part.added", at([("part", emptied(part, "text"))]));
            if let Some(text) = part.get("text").and_then(Value::as_str) {
                if !text.is_empty() {
                    self.add("response.reasoning_summary_text.delta", at([("delta", text.into())]));
                }
                self.add("response.reasoning_summary_text.done", at([("text", text.into())]));
            }
            self.add("response.reasoning_summary_part.done", at([("part", part.clone())]));
        }
    }
}

/// Empties the fields that are there.
fn make_null(fields: &mut Object, keys: &[&str]) {
    for key in keys {
        if let Some(value) = fields.get_mut(*key) {
            *value = Value::Null;
        }
    }
}

/// A part before its text came.
fn emptied(part: &Value, key: &str) -> Value {
    let mut part = part.clone();
    for (key, empty) in [(key, Value::from("")), ("annotations", json!([])), ("logprobs", json!([]))] {
        if let Some(value) = part.get_mut(key).filter(|value| !value.is_null()) {
            *value = empty;
        }
    }
    part
}
