//! Reads whole, stored answers, and turns the plain form into the streamed one and back.
//!
//! A cache stores an answer in the form in which it came, and the next caller may ask for the other
//! one. A log wants the text, whichever form it was in. So a stream is assembled into the object
//! that the API gives without `stream` ([`to_plain`]), everything else reads that object, and
//! [`to_stream`] takes it apart again. What can't be turned without loss gives `None`: the caller
//! then does without the stored answer.

mod facts;
mod read;
mod text;
mod usage;
mod write;

use bytes::Bytes;
use serde_json::Value;

use crate::api::Api;

pub use facts::{Facts, facts};
pub use text::{Call, Message, text};
pub use usage::with_usage;

/// Assembles a whole stream into the object that the API gives without `stream`.
///
/// `None` if the stream isn't complete, tells an error, or can't be understood.
pub fn to_plain(api: Api, events: &[u8]) -> Option<Bytes> {
    let read = read::stream(api, events)?;
    read.whole.then(|| read.answer.to_string().into())
}

/// Takes a plain answer apart into the events that a client of that API accepts.
///
/// `None` if the answer isn't complete or can't be streamed (an incomplete answer of Responses, which
/// has a terminal event of its own, can). For chats and completions `include_usage` asks for the chunk
/// that tells the usage, and an answer without one gives `None`; the other APIs always tell it.
pub fn to_stream(api: Api, answer: &[u8], include_usage: bool) -> Option<Bytes> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(answer) else { return None };
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return None;
    }
    match api {
        Api::Chat => write::choices::chat(&answer, include_usage),
        Api::Completions => write::choices::completions(&answer, include_usage),
        Api::Responses => write::responses::stream(&answer),
        Api::Messages => write::messages::stream(&answer),
        _ => None,
    }
}

/// The most memory, about, that reading an answer takes here: it becomes a tree, and in a tree every value has a place of
/// a fixed size, however short it is written.
pub fn cost(answer: &[u8]) -> usize {
    const OBJECT: usize = 704;
    const VALUE: usize = 96;
    let count = |wanted: fn(u8) -> bool| answer.iter().filter(|byte| wanted(**byte)).count();
    2 * answer.len() + OBJECT * count(|byte| byte == b'{') + VALUE * count(|byte| matches!(byte, b',' | b'[' | b':'))
}

#[cfg(test)]
mod tests;
