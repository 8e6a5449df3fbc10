//! The two sides of a comparison: what is remembered of the first stream, and what is compared in the second.

use std::borrow::Cow;

use serde_json::{Map, Value};

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
pub(super) struct Channel {
    /// The choice, item or block.
    pub(super) outer: u64,
    /// The call or part in it.
    pub(super) inner: u64,
    pub(super) kind: Cow<'static, str>,
}

/// The channel of what belongs to the answer as a whole.
pub(super) const WHOLE: u64 = u64::MAX;

pub(super) fn channel(outer: u64, inner: u64, kind: impl Into<Cow<'static, str>>) -> Channel {
    Channel { outer, inner, kind: kind.into() }
}

/// Whether a fact must be said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Not every server says it, or not as often.
    Optional,
    Required,
}

/// Who reads an event: the one that remembers it, or the one that compares it.
pub(super) trait Side {
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
pub(super) struct Found {
    /// Something that was sent already.
    pub(super) sent: bool,
    /// Something that was not.
    pub(super) news: bool,
}

impl Found {
    pub(super) const NEWS: Found = Found { sent: false, news: true };

    pub(super) fn note(&mut self, sent: bool) {
        self.sent |= sent;
        self.news |= !sent;
    }

    pub(super) fn of(sent: bool) -> Self {
        Found { sent, news: !sent }
    }
}

/// Reads the text under `key`, and leaves of it what was not sent.
pub(super) fn text(
    side: &mut impl Side,
    object: &mut Map<String, Value>,
    key: &str,
    channel: Channel,
    found: &mut Found,
) -> Result<(), Difference> {
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
pub(super) fn number(object: &Map<String, Value>, key: &str) -> Result<u64, Difference> {
    object.get(key).and_then(Value::as_u64).ok_or(Difference::Unreadable)
}

pub(super) fn string<'v>(object: &'v Map<String, Value>, key: &str) -> &'v str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether there is anything under `key`.
pub(super) fn is_filled(object: &Map<String, Value>, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    }
}

/// The type of an event that carries one.
pub(super) fn kind_of<'v>(name: &'v [u8], event: &'v Map<String, Value>) -> Cow<'v, str> {
    match event.get("type").and_then(Value::as_str) {
        Some(kind) => kind.into(),
        None => String::from_utf8_lossy(name),
    }
}
