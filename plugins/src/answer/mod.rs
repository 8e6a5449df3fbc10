//! Reads whole, stored answers, and converts the plain form into the streamed one and back.
//!
//! A cache stores an answer in the form in which it came, and the next caller may need the other one. A log needs the
//! text, in either form. So a stream is assembled into the object that the API returns without `stream` ([`to_plain`]),
//! all other code reads that object, and [`to_stream`] converts it back. What can't be converted without loss is
//! `None`: then the stored answer isn't used.

mod facts;
mod read;
mod text;
mod usage;
mod write;

use bytes::Bytes;
use serde_json::Value;

use crate::api::Api;

pub use facts::{AnswerFacts, facts};
pub use text::{Call, Message, assembled, text};
pub use usage::with_usage;

/// Assembles a whole stream into the object that the API returns without `stream`.
///
/// `None` if the stream isn't complete, has an error, or can't be parsed.
pub fn to_plain(api: Api, events: &[u8]) -> Option<Bytes> {
    let read = read::stream(api, events)?;
    read.whole.then(|| read.answer.to_string().into())
}

/// Converts a plain answer into events that a client of that API accepts.
///
/// `None` if the answer isn't complete or can't be streamed (an incomplete answer of Responses can, because it has a
/// final event of its own). For chats and completions, `include_usage` adds the chunk with the usage, and an answer
/// without usage is `None` then; the other APIs always include it.
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

/// The most memory, approximately, that reading an answer needs here: it becomes a tree, in which every value has a
/// fixed size, however short its text is.
pub fn cost(answer: &[u8]) -> usize {
    const OBJECT: usize = 704;
    const VALUE: usize = 96;
    2 * answer.len() + OBJECT * count(answer, |byte| byte == b'{') + VALUE * count(answer, |byte| matches!(byte, b',' | b'[' | b':'))
}

/// How many bytes are wanted.
fn count(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    // In small counters, for steps that can't overflow them: this can be vectorised.
    bytes.chunks(255).map(|step| usize::from(step.iter().fold(0_u8, |sum, byte| sum + u8::from(wanted(*byte))))).sum()
}

#[cfg(test)]
mod tests;
