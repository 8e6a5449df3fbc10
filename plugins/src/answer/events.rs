//! The events of a stream, all at once.

use bytes::Bytes;
use serde_json::Value;

use crate::sse::{Fate, Splitter};

/// What a stream said.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The data of every event that is a JSON object.
    pub(super) data: Vec<Value>,
    /// Whether `[DONE]` came.
    pub(super) done: bool,
}

impl Events {
    /// Reads as far as whole events go.
    pub(super) fn read(stream: &[u8]) -> Self {
        let mut events = Events::default();
        Splitter::default().feed(Bytes::copy_from_slice(stream), |event| {
            if event.data.starts_with(b"[DONE]") {
                events.done = true;
            } else if let Ok(value @ Value::Object(_)) = serde_json::from_slice(&event.data) {
                events.data.push(value);
            }
            Fate::Pass
        });
        events
    }

    /// The events of a kind, by their `type`.
    pub(super) fn of<'e>(&'e self, kind: &'e str) -> impl Iterator<Item = &'e Value> {
        self.data.iter().filter(move |event| event["type"] == kind)
    }
}

/// An event with its name, as typed streams have it.
pub(super) fn typed(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}
