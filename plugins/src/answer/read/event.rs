//! The events of a stream, for the readers of each API.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::sse::{Fate, Splitter};

/// An object under construction.
pub(super) type Object = Map<String, Value>;

/// The result of reading a stream.
pub(in crate::answer) struct Read {
    /// The answer in the form that the API returns without `stream`; parts are missing if it isn't `whole`.
    pub(in crate::answer) answer: Value,
    /// It is complete, and all of it was parsed.
    pub(in crate::answer) whole: bool,
}

/// The content of an event.
pub(super) enum EventContent {
    /// An object, and the event's name if the object doesn't have a `type`.
    Object(String, Object),
    /// The end of streams that have `[DONE]`.
    Done,
    /// Neither.
    Unreadable,
}

/// Calls `each` for every finished event.
pub(super) fn for_each(events: &[u8], mut each: impl FnMut(EventContent)) {
    let mut splitter = Splitter::default();
    let mut one = |chunk: Bytes| {
        splitter.feed(chunk, |event| {
            let data: &[u8] = &event.data;
            // Some backends send empty events to keep the connection open.
            if data.starts_with(b"[DONE]") {
                each(EventContent::Done);
            } else if !data.trim_ascii().is_empty() {
                each(match serde_json::from_slice::<Object>(data) {
                    Ok(object) => {
                        let kind = object.get("type").and_then(Value::as_str).map(str::to_owned);
                        EventContent::Object(kind.unwrap_or_else(|| String::from_utf8_lossy(event.name).into_owned()), object)
                    }
                    Err(_) => EventContent::Unreadable,
                });
            }
            Fate::Pass
        })
    };
    one(Bytes::copy_from_slice(events));
    // The splitter waits for an LF after a last CR; at the end none follows.
    if events.last() == Some(&b'\r') {
        one(Bytes::from_static(b"\n"));
    }
}

/// Removes the object in this field and returns it.
pub(super) fn take_object(from: &mut Object, key: &str) -> Option<Object> {
    match from.remove(key) {
        Some(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// A field's number, for an index.
pub(super) fn index_of(from: &Object, key: &str) -> Option<u64> {
    from.get(key).and_then(Value::as_u64)
}
