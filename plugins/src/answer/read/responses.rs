//! Events of the Responses API: the last one contains the whole response; before it, items grow.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::event::{EventContent, Object, Read, for_each, index_of, take_object};
use super::merge::append;

/// The response so far.
#[derive(Default)]
struct Events {
    response: Object,
    items: BTreeMap<u64, Item>,
    error: Option<Value>,
    /// It is completed, or incomplete but at its end.
    ended: bool,
    started: bool,
}

/// An item so far.
#[derive(Default)]
struct Item {
    fields: Object,
    parts: BTreeMap<u64, Object>,
    done: bool,
}

/// Reads a stream.
pub(super) fn read(events: &[u8]) -> Option<Read> {
    let mut read = Events::default();
    for_each(events, |told| match told {
        EventContent::Object(kind, event) => read.take(&kind, event),
        // The last event repeats the content of any event that can't be parsed.
        EventContent::Done | EventContent::Unreadable => {}
    });
    read.finish()
}

impl Events {
    fn take(&mut self, kind: &str, mut event: Object) {
        match kind {
            "response.created" | "response.queued" | "response.in_progress" | "response.failed" | "response.cancelled" => {
                self.take_response(&mut event);
            }
            "response.completed" | "response.incomplete" => {
                self.ended |= self.take_response(&mut event);
            }
            "response.output_item.added" | "response.output_item.done" => {
                if let (Some(index), Some(fields)) = (index_of(&event, "output_index"), take_object(&mut event, "item")) {
                    self.items.insert(index, Item { fields, parts: BTreeMap::new(), done: kind.ends_with("done") });
                }
            }
            "error" => {
                // The schema has these fields at the top level, real events nest them.
                event.remove("type");
                let nested = event.remove("error").filter(|error| !error.is_null());
                self.error = Some(nested.unwrap_or_else(|| event.into()));
            }
            _ => self.take_piece(kind, &mut event),
        }
    }

    fn take_response(&mut self, event: &mut Object) -> bool {
        let response = take_object(event, "response");
        let found = response.is_some();
        if let Some(response) = response {
            self.started = true;
            self.response = response;
        }
        found
    }

    fn take_piece(&mut self, kind: &str, event: &mut Object) {
        let Some(item) = index_of(event, "output_index").and_then(|index| self.items.get_mut(&index)).filter(|item| !item.done) else {
            return;
        };
        let part = index_of(event, "content_index").unwrap_or(0);
        match (kind, event.remove("delta")) {
            ("response.content_part.added" | "response.content_part.done", _) => {
                if let Some(fields) = take_object(event, "part") {
                    item.parts.insert(part, fields);
                }
            }
            ("response.output_text.delta", Some(Value::String(text))) => item.grow(part, "output_text", "text", text),
            ("response.refusal.delta", Some(Value::String(text))) => item.grow(part, "refusal", "refusal", text),
            ("response.function_call_arguments.delta" | "response.mcp_call_arguments.delta", Some(text @ Value::String(_))) => {
                let _ = append(&mut item.fields, "arguments".to_owned(), text);
            }
            ("response.custom_tool_call_input.delta", Some(text @ Value::String(_))) => {
                let _ = append(&mut item.fields, "input".to_owned(), text);
            }
            _ => {}
        }
    }

    fn finish(mut self) -> Option<Read> {
        if !self.started && self.error.is_none() {
            return None;
        }
        let whole = self.ended && self.error.is_none();
        // Some backends leave the output out of the last event.
        if self.response.get("output").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let items: Vec<Value> = self.items.into_values().map(Item::finish).collect();
            self.response.insert("output".to_owned(), items.into());
        }
        if let Some(error) = self.error {
            self.response.insert("error".to_owned(), error);
        }
        Some(Read { answer: self.response.into(), whole })
    }
}

impl Item {
    fn grow(&mut self, part: u64, kind: &str, key: &str, text: String) {
        let part = self.parts.entry(part).or_insert_with(|| Map::from_iter([("type".to_owned(), json!(kind))]));
        let _ = append(part, key.to_owned(), text.into());
    }

    fn finish(mut self) -> Value {
        if !self.parts.is_empty() {
            let parts: Vec<Value> = self.parts.into_values().map(Value::from).collect();
            self.fields.insert("content".to_owned(), parts.into());
        }
        self.fields.into()
    }
}
