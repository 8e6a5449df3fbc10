//! The chunk that contains only the usage, in chats and legacy completions: only for callers that asked for it.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::Api;
use crate::sse::{Fate, Splitter};

/// A stored stream for a caller, with or without the usage chunk; nothing else is changed.
///
/// `None` if the chunk is asked for but missing. Streams of other APIs have no such chunk and stay unchanged.
pub fn with_usage(api: Api, events: &[u8], include_usage: bool) -> Option<Bytes> {
    let events = Bytes::copy_from_slice(events);
    if !matches!(api, Api::Chat | Api::Completions) {
        return Some(events);
    }
    let (mut splitter, mut found) = (Splitter::default(), false);
    let kept = splitter.feed(events.clone(), |event| {
        if is_only_usage(&event.data) {
            found = true;
            return Fate::Drop;
        }
        Fate::Pass
    });
    match (include_usage, found) {
        (true, false) => None,
        (true, true) | (false, false) => Some(events),
        (false, true) => Some([kept, splitter.take_tail()].concat().into()),
    }
}

fn is_only_usage(data: &[u8]) -> bool {
    let Ok(chunk) = serde_json::from_slice::<Map<String, Value>>(data) else { return false };
    let empty = |key: &str| chunk.get(key).is_some_and(|value| value.as_array().is_some_and(Vec::is_empty));
    let filters = ["prompt_filter_results", "prompt_annotations"].iter().any(|key| chunk.contains_key(*key));
    chunk.get("usage").is_some_and(Value::is_object) && empty("choices") && !filters
}
