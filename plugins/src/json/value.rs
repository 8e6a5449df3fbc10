//! A parsed value: its kind, and its position.

use std::borrow::Cow;
use std::ops::Range;

use super::text::decode_text;

/// The kind of a value, known from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// A value's kind and byte range in the text it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its kind.
    pub kind: Kind,
    /// Its bytes, quotes and brackets included.
    pub range: Range<usize>,
}

impl Value {
    /// The value's own bytes.
    pub fn bytes<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.range.clone()).unwrap_or_default()
    }

    /// The decoded text of a string value.
    pub fn as_str<'t>(&self, text: &'t [u8]) -> Option<Cow<'t, str>> {
        (self.kind == Kind::String).then(|| decode(self.bytes(text)))?
    }

    /// A non-negative integer.
    pub fn as_u64(&self, text: &[u8]) -> Option<u64> {
        let digits = (self.kind == Kind::Number).then(|| self.bytes(text))?;
        let digit = |sum: u64, byte: &u8| sum.checked_mul(10)?.checked_add(byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?);
        digits.iter().try_fold(0, digit).filter(|_| !digits.is_empty())
    }

    /// `true` or `false`.
    pub fn as_bool(&self, text: &[u8]) -> Option<bool> {
        (self.kind == Kind::Bool).then(|| self.bytes(text) == b"true")
    }

    /// Whether it is a string, array or object that is not empty, or a number or boolean.
    pub fn is_filled(&self, text: &[u8]) -> bool {
        match self.kind {
            Kind::Null => false,
            Kind::String => self.range.len() > 2,
            Kind::Array | Kind::Object => {
                self.bytes(text).iter().skip(1).find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b != b']' && *b != b'}')
            }
            Kind::Number | Kind::Bool => true,
        }
    }
}

/// Decodes a quoted JSON string; `None` if its escapes are malformed.
pub(super) fn decode(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    decode_text(simdutf8::basic::from_utf8(inner).ok()?).map(Cow::Owned)
}
