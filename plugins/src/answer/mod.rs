//! Whole answers, read after they have come: as text, as facts, and in the other form, plain or streamed.
//!
//! Not for the hot path: the cache asks what an answer is before it keeps it, and replays it in the form that the next
//! caller wants; the log and the guard want its text.

mod choices;
mod events;
mod facts;
mod messages;
mod responses;
#[cfg(test)]
mod tests;
mod text;

use bytes::Bytes;
use serde_json::Value;

use crate::api::Api;
use events::Events;
pub use facts::{Facts, facts};
pub use text::{Call, Message, text};

/// The JSON that the API would have given without `stream`, from all bytes of a stream. `None` if that isn't whole, or
/// can't be understood.
pub fn to_plain(api: Api, stream: &[u8]) -> Option<Bytes> {
    let events = Events::read(stream);
    let whole = facts::of_stream(api, &events)?;
    if !whole.complete {
        return None;
    }
    plain(api, &events).map(|answer| answer.to_string().into())
}

/// As far as the events go.
fn plain(api: Api, events: &Events) -> Option<Value> {
    match api {
        Api::Chat | Api::Completions => choices::to_plain(api, events),
        Api::Responses => responses::to_plain(events),
        Api::Messages => messages::to_plain(events),
        _ => None,
    }
}

/// The stream that the API would have given, from a plain answer. With `include_usage` a chat's stream tells its usage.
pub fn to_stream(api: Api, answer: &[u8], include_usage: bool) -> Option<Bytes> {
    let answer: Value = serde_json::from_slice(answer).ok().filter(Value::is_object)?;
    let text = match api {
        Api::Chat | Api::Completions => choices::to_stream(api, &answer, include_usage),
        Api::Responses => responses::to_stream(&answer),
        Api::Messages => messages::to_stream(&answer),
        _ => None,
    };
    text.map(Bytes::from)
}

/// The bytes of a stream with the event that tells only its usage, or without it; `None` if it is wanted and not there.
/// Only chats and completions have one.
pub fn with_usage(api: Api, stream: &Bytes, include_usage: bool) -> Option<Bytes> {
    if !matches!(api, Api::Chat | Api::Completions) {
        return Some(stream.clone());
    }
    let (without, found) = choices::without_usage(stream);
    match (include_usage, found) {
        (true, true) | (false, false) => Some(stream.clone()),
        (true, false) => None,
        (false, true) => Some(without),
    }
}
