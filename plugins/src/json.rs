//! A validating JSON reader that builds no tree.
//!
//! The gateway needs a handful of fields out of bodies that can be megabytes long, and it must
//! know *where* they stand so that an edit can be spliced into the original bytes. [`Reader`]
//! walks the text once, checks its grammar (RFC 8259) and hands out byte ranges. Bytes are
//! checked for UTF-8 by the caller that needs it ([`crate::request`] does).

use std::borrow::Cow;
use std::ops::Range;

use crate::names::{Ambiguity, Known, Others, Scope};

/// Nesting deeper than this is refused; no model API comes near it.
pub const MAX_DEPTH: usize = 128;

/// What is wrong with a text, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text ended inside a value.
    #[error("the text ends in the middle of a value (byte {at})")]
    Truncated {
        /// Offset of the end.
        at: usize,
    },
    /// A byte that can't stand here.
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
        /// Offset of the bracket that is one too many.
        at: usize,
    },
}

struct Shown(u8);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

/// The kind of a value, told from its first byte.
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
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// `true` or `false`.
    pub fn as_bool(&self, text: &[u8]) -> Option<bool> {
        (self.kind == Kind::Bool).then(|| self.bytes(text) == b"true")
    }

    /// A string, array or object with something in it, or a number or boolean.
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
fn decode(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned)
}

/// Words to look out for while reading, at any depth.
#[derive(Debug)]
pub struct Interest {
    /// As keys.
    pub keys: &'static [&'static str],
    /// As texts.
    pub texts: &'static [&'static str],
}

/// What is written into a text as encoded bytes: images, audio, files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded {
    /// How many.
    pub count: u64,
    /// Bytes of the text that they take.
    pub bytes: usize,
}

/// The shortest string that may be taken for encoded bytes.
const LONG: usize = 2048;

/// Keys of strings that servers read as encoded bytes. Under any other a string is text, whatever it looks like, and
/// counts by its length.
const BYTES: [&[u8]; 11] = [
    b"\"url\"",
    b"\"data\"",
    b"\"image_url\"",
    b"\"file_data\"",
    b"\"b64_json\"",
    b"\"result\"",
    b"\"image\"",
    b"\"mask\"",
    b"\"audio\"",
    b"\"audio_url\"",
    b"\"video_url\"",
];

/// Whether a long string is encoded bytes (base64, with or without `data:…;base64,`) and no text: then its
/// beginning has no space. Escapes that some writers use change nothing: `\/`, `\u002f`, and ends of lines.
fn is_encoded(quoted: &[u8]) -> bool {
    const LOOK: usize = 256;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_:;,.".contains(&byte);
    let mut look = quoted.get(1..LOOK).unwrap_or_default();
    while let Some((first, rest)) = look.split_first() {
        look = match (first, rest) {
            (b'\\', [b'/' | b'n' | b'r', rest @ ..]) => rest,
            (b'\\', [b'u', b'0', b'0', high, low, rest @ ..]) => {
                let digits = [*high, *low];
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                if !code.is_some_and(plain) {
                    return false;
                }
                rest
            }
            // One that the end of the look cuts.
            (b'\\', [] | [b'u', ..]) if rest.len() < 5 => break,
            (byte, rest) if plain(*byte) => rest,
            _ => return false,
        };
    }
    quoted.len() >= LONG
}

/// How far the names of an object are held to the rule of [`crate::names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// They are.
    All,
    /// Only those of the objects in it.
    Below,
    /// Not at all.
    Nothing,
}

/// What is known of a text's names.
#[derive(Debug)]
struct Naming {
    scope: &'static Scope,
    held: Held,
    others: Others,
    doubt: Option<Ambiguity>,
    models: Vec<Range<usize>>,
}

/// Names of models in one text that are kept.
const MODELS: usize = 256;

/// Walks one JSON text.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    interest: Option<&'static Interest>,
    noticed: bool,
    encoded: Encoded,
    naming: Option<Naming>,
    /// Whether strings must be searched for control characters. Compact JSON has none at all, and
    /// finding that out once is far cheaper than looking in every string.
    control: bool,
}

impl<'t> Reader<'t> {
    /// Reads `text` from its start.
    pub fn new(text: &'t [u8]) -> Self {
        Reader { text, at: 0, interest: None, noticed: false, encoded: Encoded::default(), naming: None, control: has_control(text) }
    }

    /// As [`Reader::new`], looking out for words on the way.
    pub fn watching(text: &'t [u8], interest: &'static Interest) -> Self {
        Reader { interest: Some(interest), ..Reader::new(text) }
    }

    /// Holds every name on the way to the rule that two readers can't disagree on it.
    pub fn naming(mut self, scope: &'static Scope) -> Self {
        self.naming = Some(Naming { scope, held: Held::All, others: Others::default(), doubt: None, models: Vec::new() });
        self
    }

    /// The first name in what was read on which two readers could disagree.
    pub fn doubt(&self) -> Option<Ambiguity> {
        self.naming.as_ref().and_then(|naming| naming.doubt)
    }

    /// Where the values of members called `model` stand that are not the text's own.
    pub fn models(&self) -> &[Range<usize>] {
        self.naming.as_ref().map_or(&[], |naming| &naming.models)
    }

    /// Looks at a name: how far what it holds is held to the rule, and whether it is a `model` that stands deeper.
    fn look(&mut self, depth: usize, key: Range<usize>, escaped: bool, seen: &mut u128) -> (Held, bool) {
        let is_object = self.text.get(self.at) == Some(&b'{');
        let Some(naming) = &mut self.naming else { return (Held::Nothing, false) };
        if naming.held == Held::Nothing {
            return (Held::Nothing, false);
        }
        let at = key.start;
        let decoded;
        let name: &[u8] = if escaped {
            let Some(text) = decode(&self.text[key]) else {
                naming.doubt.get_or_insert(Ambiguity::HalfPair { at });
                return (Held::All, false);
            };
            decoded = text;
            decoded.as_bytes()
        } else {
            &self.text[key.start + 1..key.end - 1]
        };
        let mut is_model = false;
        if naming.held == Held::All {
            let names = if depth == 1 { &naming.scope.top } else { &naming.scope.deeper };
            let doubt = match names.look_up(name) {
                Known::Word(index) => {
                    let bit = 1 << index;
                    let twice = *seen & bit != 0;
                    *seen |= bit;
                    is_model = depth > 1 && names.word(index) == "model";
                    twice.then(|| Ambiguity::Twice { name: names.word(index) })
                }
                Known::Like(index) => Some(Ambiguity::Alike { name: names.word(index), at }),
                Known::Other => (depth == 1 && !naming.others.is_new(name)).then_some(Ambiguity::OtherTwice { at }),
            };
            if naming.doubt.is_none() {
                naming.doubt = doubt;
            }
        }
        let held = match () {
            () if depth == 1 && name == b"input" => Held::All,
            () if (naming.scope.apart)(name, is_object) => Held::Nothing,
            () if (naming.scope.free)(name) => Held::Below,
            () => Held::All,
        };
        (held, is_model)
    }

    /// Whether a word of interest stood in what was read, however deep, escaped or not.
    pub fn noticed(&self) -> bool {
        self.noticed
    }

    /// The encoded bytes in what was read with an interest.
    pub fn encoded(&self) -> Encoded {
        self.encoded
    }

    fn notice(&mut self, quoted: Range<usize>, escaped: bool, words: &'static [&'static str]) {
        let quoted = &self.text[quoted];
        let plain = |word: &&str| word.len() + 2 == quoted.len() && word.as_bytes() == &quoted[1..quoted.len() - 1];
        // An escaped letter takes six bytes.
        let hidden = |word: &&str| escaped && quoted.len() <= word.len() * 6 + 2 && decode(quoted).is_some_and(|text| text == **word);
        self.noticed |= words.iter().any(|word| plain(word) || hidden(word));
    }

    /// Reads `text` from the start of `value`, which must have come from the same text: its strings
    /// were searched already.
    pub fn within(text: &'t [u8], value: &Value) -> Self {
        let text = text.get(..value.range.end).unwrap_or(text);
        Reader { text, at: value.range.start, interest: None, noticed: false, encoded: Encoded::default(), naming: None, control: false }
    }

    fn peek(&self) -> Result<u8, JsonError> {
        self.text.get(self.at).copied().ok_or(JsonError::Truncated { at: self.at })
    }

    fn unexpected(&self) -> JsonError {
        match self.text.get(self.at) {
            Some(&byte) => JsonError::Unexpected { at: self.at, byte },
            None => JsonError::Truncated { at: self.at },
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek()? != byte {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    /// Reads an object and calls `member` with each decoded key and its value.
    pub fn object(&mut self, mut member: impl FnMut(&str, Value)) -> Result<(), JsonError> {
        self.members(1, &mut |text, key, value| {
            if let Some(key) = decode(&text[key]) {
                member(&key, value);
            }
        })
    }

    /// Reads an array and calls `element` with each value.
    pub fn array(&mut self, mut element: impl FnMut(Value)) -> Result<(), JsonError> {
        self.elements(1, &mut element)
    }

    /// Reads an array and calls `object` at each object in it, which must read that one: they are passed over once, not
    /// twice.
    pub fn objects(&mut self, mut object: impl FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.items(|reader| {
            reader.skip_space();
            if reader.peek()? == b'{' { object(reader) } else { reader.value(1).map(drop) }
        })
    }

    /// Reads on from behind a key of an object to the end of the text, which must be the object's: the key's value.
    pub fn from_key(&mut self) -> Result<Value, JsonError> {
        self.skip_space();
        self.expect(b':')?;
        let found = self.value(1)?;
        self.skip_space();
        match self.peek()? {
            b'}' => self.at += 1,
            _ => {
                self.expect(b',')?;
                self.members_on(1, &mut |_, _, _| {})?;
            }
        }
        self.end()?;
        Ok(found)
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at < self.text.len() { Err(self.unexpected()) } else { Ok(()) }
    }

    fn members(&mut self, depth: usize, member: &mut dyn FnMut(&'t [u8], Range<usize>, Value)) -> Result<(), JsonError> {
        self.skip_space();
        self.expect(b'{')?;
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        self.members_on(depth, member)
    }

    /// The members of an object from its first on, or from any that follows a comma.
    fn members_on(&mut self, depth: usize, member: &mut dyn FnMut(&'t [u8], Range<usize>, Value)) -> Result<(), JsonError> {
        let (mut seen, looked_at) = (0, self.interest.is_some() || self.naming.is_some());
        loop {
            self.skip_space();
            let key = self.at;
            if self.peek()? != b'"' {
                return Err(self.unexpected());
            }
            let escaped = self.skip_string()?;
            let key = key..self.at;
            self.skip_space();
            self.expect(b':')?;
            let value = if looked_at { self.look_at(depth, key.clone(), escaped, &mut seen)? } else { self.value(depth)? };
            member(self.text, key, value);
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

    /// The value of a member that is looked at on the way. Apart, because those of most texts aren't.
    #[inline(never)]
    fn look_at(&mut self, depth: usize, key: Range<usize>, escaped: bool, seen: &mut u128) -> Result<Value, JsonError> {
        if let Some(interest) = self.interest {
            self.notice(key.clone(), escaped, interest.keys);
        }
        let value = match self.naming.as_ref().map(|naming| naming.held) {
            None => self.value(depth)?,
            Some(held) => {
                self.skip_space();
                let (below, is_model) = self.look(depth, key.clone(), escaped, seen);
                self.hold(below);
                let value = self.value(depth)?;
                self.hold(held);
                if is_model {
                    self.keep_model(&value);
                }
                value
            }
        };
        if value.range.len() >= LONG && value.kind == Kind::String && self.interest.is_some() {
            self.count_encoded(&key, &value);
        }
        Ok(value)
    }

    #[cold]
    fn count_encoded(&mut self, key: &Range<usize>, value: &Value) {
        if BYTES.contains(&&self.text[key.clone()]) && is_encoded(value.bytes(self.text)) {
            self.encoded.count += 1;
            self.encoded.bytes += value.range.len();
        }
    }

    fn hold(&mut self, held: Held) {
        if let Some(naming) = &mut self.naming {
            naming.held = held;
        }
    }

    fn keep_model(&mut self, value: &Value) {
        let Some(naming) = &mut self.naming else { return };
        if naming.models.len() < MODELS {
            naming.models.push(value.range.clone());
        } else {
            naming.doubt.get_or_insert(Ambiguity::Models { most: MODELS });
        }
    }

    fn elements(&mut self, depth: usize, element: &mut dyn FnMut(Value)) -> Result<(), JsonError> {
        self.items(|reader| {
            let value = reader.value(depth)?;
            element(value);
            Ok(())
        })
    }

    /// Reads an array; `item` reads past one element of it.
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

    /// Reads past one value of any kind.
    pub fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.skip_space();
        let start = self.at;
        let kind = match self.peek()? {
            b'"' => {
                let escaped = self.skip_string()?;
                if let Some(interest) = self.interest {
                    self.notice(start..self.at, escaped, interest.texts);
                }
                Kind::String
            }
            b'{' | b'[' if depth >= MAX_DEPTH => return Err(JsonError::TooDeep { at: self.at }),
            b'{' => {
                self.members(depth + 1, &mut |_, _, _| {})?;
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

    /// Reads past a string; whether it has letters written as `\u…`.
    fn skip_string(&mut self) -> Result<bool, JsonError> {
        let mut unicode = false;
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let run = memchr::memchr2(b'"', b'\\', rest).ok_or(JsonError::Truncated { at: self.text.len() })?;
            if self.control
                && let Some(bad) = rest[..run].iter().position(|byte| *byte < 0x20)
            {
                self.at += bad;
                return Err(self.unexpected());
            }
            self.at += run + 1;
            match rest.get(run) {
                Some(b'"') => return Ok(unicode),
                Some(b'\\') => match self.peek()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                    b'u' => {
                        unicode = true;
                        self.at += 1;
                        for _ in 0..4 {
                            if !self.peek()?.is_ascii_hexdigit() {
                                return Err(self.unexpected());
                            }
                            self.at += 1;
                        }
                    }
                    _ => return Err(self.unexpected()),
                },
                _ => return Err(self.unexpected()),
            }
        }
    }
}

/// Whether any byte is a control character.
fn has_control(text: &[u8]) -> bool {
    // No early exit within a step: a plain fold over a fixed width is what vectorises.
    text.chunks(256).any(|step| step.iter().fold(false, |hit, byte| hit | (*byte < 0x20)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8]) -> Result<(), JsonError> {
        let mut reader = Reader::new(text);
        reader.value(0)?;
        reader.end()
    }

    #[test]
    fn accepts_and_refuses_like_the_grammar() {
        for good in ["{}", "[]", " [1, -2.5e+3, 0] ", r#"{"a":{"b":[null,true,false,"\u00e9\n"]}}"#] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in
            ["", "{", "[1,]", "{\"a\":1,}", "01", "1.", "+1", "nul", "\"a", "\"\\x\"", "\"\n\"", "{a:1}", "{} {}", "{\"a\" 1}", "\"\\u12\""]
        {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(matches!(check(deep.as_bytes()), Err(JsonError::TooDeep { .. })));
        let fine = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(check(fine.as_bytes()), Ok(()));
    }

    #[test]
    fn escaped_keys_are_decoded() {
        let mut keys = Vec::new();
        Reader::new(br#"{"mod\u0065l": 1, "b": 2}"#).object(|key, _| keys.push(key.to_owned())).unwrap();
        assert_eq!(keys, ["model", "b"]);
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{}:,\"\\\\ntrue0-9.eE \u{e9}-]{0,40}") {
            let ours = check(text.as_bytes()).is_ok();
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn strings_of_any_length_are_found_whole(text in "\\PC{0,200}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let mut reader = Reader::new(quoted.as_bytes());
            let value = reader.value(0).unwrap();
            let decoded = value.as_str(quoted.as_bytes());
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }
    }
}
