//! The two sides of a comparison: recording the first stream, and comparing the second one with it.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Why a second stream can't continue the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It has other content, or another order.
    #[error("the second answer has different content")]
    Other,
    /// It ended before it had repeated everything that was sent.
    #[error("the second answer is shorter than what was sent")]
    Ended,
    /// It has more new content than is held, before it has repeated everything that was sent.
    #[error("the second answer has too much new content before it has repeated what was sent")]
    TooMuch,
    /// It has an event that can't be compared.
    #[error("the second answer has an event that can't be compared")]
    Unreadable,
}

/// The position of a text in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Channel {
    /// The choice, item or block.
    pub(super) outer: u64,
    /// The call or part in it.
    pub(super) inner: u64,
    pub(super) kind: Cow<'static, str>,
}

/// The channel of facts about the answer as a whole.
pub(super) const WHOLE: u64 = u64::MAX;

pub(super) fn channel(outer: u64, inner: u64, kind: impl Into<Cow<'static, str>>) -> Channel {
    Channel { outer, inner, kind: kind.into() }
}

/// Whether a fact must be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Not every server sends it, or not equally often.
    Optional,
    Required,
}

/// The reader of an event: either records it, or compares it.
pub(super) trait Side {
    /// More text in a channel. Returns how many of its bytes were sent already.
    fn text(&mut self, channel: Channel, text: &str) -> Result<usize, Difference>;
    /// A fact, which is always the same. Returns whether it was sent already.
    fn mark(&mut self, channel: Channel, value: &str, need: Need) -> Result<bool, Difference>;
    /// The channel is closed. Returns whether that was sent already.
    fn closes(&mut self, channel: Channel) -> Result<bool, Difference>;
    /// The choice, item or block has ended. Returns whether that was sent already. `how` is always the same.
    fn ends(&mut self, outer: u64, how: &str) -> Result<bool, Difference>;
    /// The next text of `outer` is of this kind; texts of several kinds follow each other.
    fn turn(&mut self, outer: u64, kind: &'static str) -> Result<(), Difference>;
    /// An id or the like, of which the caller must see only one.
    fn identity(&mut self, channel: Channel, value: &mut Value) -> Result<(), Difference>;
    /// The answer has ended.
    fn over(&mut self) -> Result<(), Difference>;
    /// An event that can't be compared.
    fn foreign(&mut self) -> Result<(), Difference>;
}

/// The content of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// It has content that was sent already.
    pub(super) sent: bool,
    /// It has new content.
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

/// Reads the text under `key`, and removes what was sent already.
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

/// Whether the value under `key` is not empty.
pub(super) fn is_filled(object: &Map<String, Value>, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    }
}

/// The type of an event.
pub(super) fn kind_of<'v>(name: &'v [u8], event: &'v Map<String, Value>) -> Cow<'v, str> {
    match event.get("type").and_then(Value::as_str) {
        Some(kind) => kind.into(),
        None => String::from_utf8_lossy(name),
    }
}
