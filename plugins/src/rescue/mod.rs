//! A stream that broke after its first output, finished by another stream that says the same.
//!
//! [`Sent`] watches what the caller gets. If that breaks off, the same request is asked once more, and [`Splice`] reads the
//! second stream: it takes out what the caller has, and passes on the rest. What is compared is the text of each channel (a
//! choice, an item's part, a block) as a caller puts it together, not how it was cut into events. Nothing of the second
//! stream goes out before it has said all that was sent, and the first difference ends it.
//!
//! A response that runs in the background runs on when its stream breaks: [`Resumed`] reads the rest of the same one.

mod chat;
mod messages;
mod record;
mod responses;
mod resumed;
mod splice;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::Api;

pub use record::Sent;
pub use resumed::Resumed;
pub use splice::Splice;

/// What a second stream is read with.
#[derive(Debug)]
pub enum Continuation {
    /// Another answer to the same request, which must say the same.
    Again(Box<Splice>),
    /// The rest of the same answer.
    Same(Resumed),
}

impl Continuation {
    /// Takes the next of the second stream: what goes to the caller.
    ///
    /// # Errors
    /// [`Difference`]: nothing more can go to the caller.
    pub fn feed(&mut self, bytes: Bytes) -> Result<Bytes, Difference> {
        match self {
            Continuation::Again(splice) => splice.feed(bytes),
            Continuation::Same(resumed) => Ok(resumed.feed(bytes)),
        }
    }

    /// The second stream ends.
    ///
    /// # Errors
    /// [`Difference::Ended`], if it has not said all that was sent.
    pub fn end(&mut self) -> Result<Bytes, Difference> {
        match self {
            Continuation::Again(splice) => splice.end(),
            Continuation::Same(resumed) => Ok(resumed.end()),
        }
    }

    /// The number of the last event that went to the caller, where events are numbered.
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Continuation::Again(splice) => splice.sequence(),
            Continuation::Same(resumed) => Some(resumed.last()),
        }
    }
}

/// Why a second stream can't go on for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It says something else, or in another order.
    #[error("the second answer says something else")]
    Other,
    /// It ended before it had said all that was sent.
    #[error("the second answer is shorter than what was sent")]
    Ended,
    /// It says more than is held before it has said all that was sent.
    #[error("the second answer says too much before it has said what was sent")]
    TooMuch,
    /// It has an event that can't be compared.
    #[error("the second answer has an event that can't be compared")]
    Unreadable,
}

/// Where a text stands in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Channel {
    /// The choice, item or block.
    outer: u64,
    /// The call or part in it.
    inner: u64,
    kind: Cow<'static, str>,
}

/// The channel of what belongs to the answer as a whole.
const WHOLE: u64 = u64::MAX;

fn channel(outer: u64, inner: u64, kind: impl Into<Cow<'static, str>>) -> Channel {
    Channel { outer, inner, kind: kind.into() }
}

/// Whether a fact must be said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Not every server says it, or not as often.
    Optional,
    Required,
}

/// Who reads an event: the one that remembers it, or the one that compares it.
trait Side {
    /// A text goes on: how many of its bytes were sent already.
    fn text(&mut self, channel: Channel, text: &str) -> Result<usize, Difference>;
    /// A fact, which is always the same: whether it was sent already.
    fn mark(&mut self, channel: Channel, value: &str, need: Need) -> Result<bool, Difference>;
    /// No more text comes in this channel: whether that was sent already.
    fn closes(&mut self, channel: Channel) -> Result<bool, Difference>;
    /// No more comes of this choice, item or block: whether that was sent already. `how` is always the same.
    fn ends(&mut self, outer: u64, how: &str) -> Result<bool, Difference>;
    /// What comes next of `outer` is of this kind; texts of several kinds follow each other.
    fn turn(&mut self, outer: u64, kind: &'static str) -> Result<(), Difference>;
    /// A name or the like, of which the caller is to see one only.
    fn identity(&mut self, channel: Channel, value: &mut Value) -> Result<(), Difference>;
    /// The answer is over.
    fn over(&mut self) -> Result<(), Difference>;
    /// Something that can't be compared.
    fn foreign(&mut self) -> Result<(), Difference>;
}

/// What an event holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    /// Something that was sent already.
    sent: bool,
    /// Something that was not.
    news: bool,
}

impl Found {
    const NEWS: Found = Found { sent: false, news: true };

    fn note(&mut self, sent: bool) {
        self.sent |= sent;
        self.news |= !sent;
    }

    fn of(sent: bool) -> Self {
        Found { sent, news: !sent }
    }
}

/// Reads an event, and takes out of it what was sent already.
fn walk(api: Api, name: &[u8], event: &mut Value, side: &mut impl Side) -> Result<Found, Difference> {
    let Value::Object(event) = event else { return Err(Difference::Unreadable) };
    match api {
        Api::Responses => responses::walk(name, event, side),
        Api::Messages => messages::walk(name, event, side),
        _ => chat::walk(event, side),
    }
}

/// Reads the text under `key`, and leaves of it what was not sent.
fn text(side: &mut impl Side, object: &mut Map<String, Value>, key: &str, channel: Channel, found: &mut Found) -> Result<(), Difference> {
    match object.get_mut(key) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => {
            let sent = side.text(channel, text)?;
            found.sent |= sent > 0;
            found.news |= sent < text.len();
            text.replace_range(..sent, "");
            if text.is_empty() {
                object.remove(key);
            }
        }
        Some(_) => return Err(Difference::Unreadable),
    }
    Ok(())
}

/// Reads the number under `key`.
fn number(object: &Map<String, Value>, key: &str) -> Result<u64, Difference> {
    object.get(key).and_then(Value::as_u64).ok_or(Difference::Unreadable)
}

fn string<'v>(object: &'v Map<String, Value>, key: &str) -> &'v str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether there is anything under `key`.
fn is_filled(object: &Map<String, Value>, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    }
}

/// The type of an event that carries one.
fn kind_of<'v>(name: &'v [u8], event: &'v Map<String, Value>) -> Cow<'v, str> {
    match event.get("type").and_then(Value::as_str) {
        Some(kind) => kind.into(),
        None => String::from_utf8_lossy(name),
    }
}
