//! A validating JSON reader that builds no tree.
//!
//! The gateway needs a few fields of bodies that can be megabytes long, and it must know *where* they are so that it
//! can splice an edit into the original bytes. [`Reader`] walks the text once, checks its grammar (RFC 8259) and
//! returns byte ranges. Callers that need UTF-8 check it themselves ([`crate::request`] does).
//!
//! One thing of the grammar is left to others: escapes far inside of a long string. The reader only finds where such a
//! string ends, which every reader decides alike; a wrong escape in it is refused by the code that decodes the string,
//! or by the backend. [`Reader::strict`] checks these, too.

mod look;
mod naming;
mod nodes;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod value;
mod write;

use std::ops::Range;

use crate::scan;
pub use naming::{Encoded, Interest};
pub(crate) use text::escape;
pub use tree::{Item, Tree};
pub use value::{Kind, Value};
pub use write::write_text;

use naming::Naming;
use text::{decode_quoted, rewrite_quoted};
use value::decode;

/// Nesting deeper than this is refused; no model API comes near it.
pub const MAX_DEPTH: usize = 128;

/// How much of a string is checked escape by escape: more than any word has that the gateway looks for.
const CHECKED: usize = 512;

/// The error in a text, and its byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text ended inside a value.
    #[error("the text ends in the middle of a value (byte {at})")]
    Truncated {
        /// Offset of the end.
        at: usize,
    },
    /// A byte that is not allowed here.
    #[error("unexpected {} at byte {at}", Shown(*.byte))]
    Unexpected {
        /// Offset of the byte.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// More than [`MAX_DEPTH`] levels.
    #[error("more than {MAX_DEPTH} levels of nesting (byte {at})")]
    TooDeep {
        /// Offset of the first bracket that is too deep.
        at: usize,
    },
}

struct Shown(u8);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

/// Walks one JSON text.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    interest: Option<&'static Interest>,
    noticed: bool,
    encoded: Encoded,
    naming: Option<Naming>,
    /// Whether strings must be searched for control characters. Compact JSON has none, and finding that out once is far
    /// cheaper than searching every string.
    control: bool,
    /// Whether every escape is checked, however long its string is.
    strict: bool,
    /// How much may still be read, in values: see [`Reader::in_steps`].
    steps: usize,
}

/// Whether a string has escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// It has none: its bytes are its text.
    No,
    /// It has some.
    Short,
    /// Some are written as `\u…`, which can be any character.
    Unicode,
}

impl<'t> Reader<'t> {
    /// Reads `text` from its start.
    pub fn new(text: &'t [u8]) -> Self {
        Reader { control: scan::has_control(text), ..Reader::at(text, 0) }
    }

    fn at(text: &'t [u8], at: usize) -> Self {
        Reader {
            text,
            at,
            interest: None,
            noticed: false,
            encoded: Encoded::default(),
            naming: None,
            control: false,
            strict: false,
            steps: usize::MAX,
        }
    }

    /// As [`Reader::new`], for callers that decode every string ([`Reader::string_onto`]), and so find what mustn't be in
    /// one.
    pub(crate) fn decoding(text: &'t [u8]) -> Self {
        Reader::at(text, 0)
    }

    /// Reads a string, and appends its text, whose bytes are not checked for UTF-8. `None` if it is no valid string; then
    /// a part of the text may have been appended.
    pub(crate) fn string_onto(&mut self, to: &mut Vec<u8>) -> Option<()> {
        self.expect(b'"').ok()?;
        self.at += decode_quoted(self.text.get(self.at..)?, to)?;
        Some(())
    }

    /// As [`Reader::string_onto`], but what it appends is the string as JSON with no more escapes than are needed, without quotes.
    pub(crate) fn written_string_onto(&mut self, to: &mut Vec<u8>) -> Option<()> {
        self.expect(b'"').ok()?;
        self.at += rewrite_quoted(self.text.get(self.at..)?, to)?;
        Some(())
    }

    /// Checks the escapes of long strings, too: for texts that others must be able to read.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Reads at most so much, and then ends as if the text did: what it takes depends on how many values, keys and escapes a text
    /// has, far more than on its length. A value is one step, and so is what takes as long. [`Reader::is_exhausted`] tells
    /// whether it ended so.
    pub fn in_steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Whether [`Reader::in_steps`] was not enough.
    pub fn is_exhausted(&self) -> bool {
        self.steps == 0
    }

    fn spend(&mut self, steps: usize) -> Result<(), JsonError> {
        self.steps = self.steps.saturating_sub(steps);
        if self.steps == 0 { Err(JsonError::Truncated { at: self.at }) } else { Ok(()) }
    }

    /// Reads `text` from the start of `value`, which must be from the same text: its strings were searched already.
    pub fn within(text: &'t [u8], value: &Value) -> Self {
        let text = text.get(..value.range.end).unwrap_or(text);
        Reader::at(text, value.range.start)
    }

    pub(crate) fn peek(&self) -> Result<u8, JsonError> {
        self.text.get(self.at).copied().ok_or(JsonError::Truncated { at: self.at })
    }

    fn unexpected(&self) -> JsonError {
        match self.text.get(self.at) {
            Some(&byte) => JsonError::Unexpected { at: self.at, byte },
            None => JsonError::Truncated { at: self.at },
        }
    }

    /// The offset of what is read next.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek()? != byte {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an object and calls `member` with each decoded key and its value.
    pub fn object(&mut self, mut member: impl FnMut(&str, Value)) -> Result<(), JsonError> {
        self.all_members(1, &mut |text, key, _, value| {
            if let Some(key) = decode(&text[key]) {
                member(&key, value);
            }
        })
    }

    /// As [`Reader::object`], with the bytes of the decoded keys: they are not checked for UTF-8, so this is cheaper
    /// where keys are only compared.
    pub fn members(&mut self, mut member: impl FnMut(&[u8], Value)) -> Result<(), JsonError> {
        self.all_members(1, &mut |text, key, escapes, value| match escapes {
            Escapes::No => member(&text[key.start + 1..key.end - 1], value),
            Escapes::Short | Escapes::Unicode => {
                if let Some(key) = decode(&text[key]) {
                    member(key.as_bytes(), value);
                }
            }
        })
    }

    /// Reads an array and calls `element` with each value.
    pub fn array(&mut self, mut element: impl FnMut(Value)) -> Result<(), JsonError> {
        self.elements(1, &mut element)
    }

    /// Reads an array and calls `object` at each object in it. `object` must read that object, so that it is read once
    /// and not twice.
    pub fn objects(&mut self, mut object: impl FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.items(|reader| {
            reader.skip_space();
            if reader.peek()? == b'{' { object(reader) } else { reader.value(1).map(drop) }
        })
    }

    /// Reads from after a key of an object to the end of the text, which must be the object's end. Returns the key's
    /// value.
    pub fn from_key(&mut self) -> Result<Value, JsonError> {
        self.skip_space();
        self.expect(b':')?;
        let found = self.value(1)?;
        self.skip_space();
        match self.peek()? {
            b'}' => self.at += 1,
            _ => {
                self.expect(b',')?;
                self.members_on(1, &mut |_, _, _, _| {})?;
            }
        }
        self.end()?;
        Ok(found)
    }

    /// Only white space may follow.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at < self.text.len() { Err(self.unexpected()) } else { Ok(()) }
    }

    fn all_members(&mut self, depth: usize, member: &mut EachMember<'_, 't>) -> Result<(), JsonError> {
        self.skip_space();
        self.expect(b'{')?;
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        self.members_on(depth, member)
    }

    /// The members of an object from its first one on, or from any one that follows a comma.
    fn members_on(&mut self, depth: usize, member: &mut EachMember<'_, 't>) -> Result<(), JsonError> {
        let (mut seen, looked_at) = (0, self.interest.is_some() || self.naming.is_some());
        loop {
            self.skip_space();
            let key = self.at;
            if self.peek()? != b'"' {
                return Err(self.unexpected());
            }
            let escapes = self.skip_string(usize::MAX)?;
            let key = key..self.at;
            self.skip_space();
            self.expect(b':')?;
            let unicode = escapes == Escapes::Unicode;
            self.spend(steps_of_key(key.len(), unicode))?;
            let value = if looked_at { self.look_at(depth, key.clone(), unicode, &mut seen)? } else { self.value(depth)? };
            member(self.text, key, escapes, value);
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn elements(&mut self, depth: usize, element: &mut dyn FnMut(Value)) -> Result<(), JsonError> {
        self.items(|reader| {
            let value = reader.value(depth)?;
            element(value);
            Ok(())
        })
    }

    /// Reads an array; `item` reads one element of it.
    #[inline]
    fn items(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.skip_space();
        self.expect(b'[')?;
        self.skip_space();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    /// Reads one value of any kind.
    pub fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.skip_space();
        self.spend(1)?;
        let start = self.at;
        let kind = match self.peek()? {
            b'"' => {
                let checked = if self.control || self.strict { usize::MAX } else { CHECKED };
                let escapes = self.skip_string(checked)?;
                if let Some(interest) = self.interest {
                    if escapes == Escapes::Unicode {
                        // It is decoded.
                        self.spend(8)?;
                    }
                    self.notice(start..self.at, escapes == Escapes::Unicode, &interest.texts);
                }
                Kind::String
            }
            b'{' | b'[' if depth >= MAX_DEPTH => return Err(JsonError::TooDeep { at: self.at }),
            b'{' => {
                self.all_members(depth + 1, &mut |_, _, _, _| {})?;
                Kind::Object
            }
            b'[' => {
                self.elements(depth + 1, &mut |_| {})?;
                Kind::Array
            }
            b't' => self.literal(b"true", Kind::Bool)?,
            b'f' => self.literal(b"false", Kind::Bool)?,
            b'n' => self.literal(b"null", Kind::Null)?,
            b'-' | b'0'..=b'9' => {
                self.skip_number()?;
                Kind::Number
            }
            _ => return Err(self.unexpected()),
        };
        Ok(Value { kind, range: start..self.at })
    }

    fn literal(&mut self, word: &[u8], kind: Kind) -> Result<Kind, JsonError> {
        for byte in word {
            self.expect(*byte)?;
        }
        Ok(kind)
    }

    fn skip_digits(&mut self) -> Result<(), JsonError> {
        if !self.peek()?.is_ascii_digit() {
            return Err(self.unexpected());
        }
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), JsonError> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Reads a string: its first `checked` bytes escape by escape, and then only to its end.
    fn skip_string(&mut self, checked: usize) -> Result<Escapes, JsonError> {
        let mut escapes = Escapes::No;
        self.at += 1;
        let end = self.text.len().min(self.at.saturating_add(checked));
        loop {
            let rest = self.text.get(self.at..end).unwrap_or_default();
            let Some(run) = (if self.control { scan::special(rest) } else { scan::mark(rest) }) else {
                self.at = self.at.max(end);
                self.skip_rest()?;
                return Ok(escapes);
            };
            self.at += run;
            match rest.get(run) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escapes);
                }
                Some(b'\\') => {
                    self.spend(1)?;
                    self.at += 1;
                    let unicode = self.skip_escape()?;
                    if escapes != Escapes::Unicode {
                        escapes = if unicode { Escapes::Unicode } else { Escapes::Short };
                    }
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    /// Reads what follows a backslash. Returns whether it is `u…`.
    fn skip_escape(&mut self) -> Result<bool, JsonError> {
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                Ok(false)
            }
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek()?.is_ascii_hexdigit() {
                        return Err(self.unexpected());
                    }
                    self.at += 1;
                }
                Ok(true)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Reads from between two characters of a string to its end: the first quote after an even number of backslashes.
    /// Only one quote follows a run of backslashes, so each of them is counted once.
    fn skip_rest(&mut self) -> Result<(), JsonError> {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let run = memchr::memchr(b'"', rest).ok_or(JsonError::Truncated { at: self.text.len() })?;
            let backslashes = rest[..run].iter().rev().take_while(|byte| **byte == b'\\').count();
            self.at += run + 1;
            if backslashes % 2 == 0 {
                return Ok(());
            }
            self.spend(1)?;
        }
    }
}

/// What it takes to look a key up, to compare it with others, and to decode it.
fn steps_of_key(length: usize, escaped: bool) -> usize {
    4 + length / 16 + if escaped { 8 + length / 4 } else { 0 }
}

/// Takes a text, the range of a key in it, whether the key has escapes, and the value.
type EachMember<'m, 't> = dyn FnMut(&'t [u8], Range<usize>, Escapes, Value) + 'm;
