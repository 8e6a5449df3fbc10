//! The fields of a head that is sent, kept as the lines that are written: fields are added once and rarely looked at, so a
//! map of them would cost more than it saves.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

/// A head that fields are added to: one that the gateway writes itself, or one that Pingora writes.
pub trait HeadFields {
    /// Adds a field, behind others of its name.
    fn add(&mut self, name: &HeaderName, value: &[u8]);

    /// Removes all fields of a name.
    fn remove(&mut self, name: &HeaderName);

    /// Removes the fields whose name, in small letters, is so.
    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool);

    /// Adds a field in place of all others of its name.
    fn set(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }
}

impl HeadFields for ResponseHeader {
    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            let _ = self.append_header(name, value);
        }
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool) {
        let names: SmallVec<[HeaderName; 8]> = self.headers.keys().filter(|name| is_so(name.as_str())).cloned().collect();
        for name in &names {
            self.remove_header(name);
        }
    }
}

/// Where a field's line is: its beginning, the length of its name, and its end with the line end.
#[derive(Debug, Clone, Copy)]
struct Line {
    begin: u32,
    name: u32,
    end: u32,
}

/// Fields, one line for each, behind the head's first line if that is known.
#[derive(Clone)]
pub struct FieldLines {
    text: BytesMut,
    lines: SmallVec<[Line; 24]>,
    /// A bit for the length of each name, so that most names that are not there need no search.
    lengths: u64,
}

/// Shows names only: a value may be a credential.
impl std::fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl FieldLines {
    /// No fields, behind `text`.
    pub fn behind(text: BytesMut) -> Self {
        FieldLines { text, lines: SmallVec::new(), lengths: 0 }
    }

    /// Adds a field of another head. `name` is in small letters, and `value` has no control characters: a parser has
    /// checked both.
    pub fn add_parsed(&mut self, name: &str, value: &[u8]) {
        let begin = self.text.len();
        self.text.reserve(name.len() + value.len() + 4);
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
        self.lengths |= bit(name);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.lines.push(Line { begin: place(begin), name: place(name.len()), end: place(self.text.len()) });
    }

    /// The first value of a field, whose name is given in small letters.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        if self.lengths & bit(name) == 0 {
            return None;
        }
        self.lines.iter().find(|line| self.is(**line, name)).map(|line| self.value(*line))
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| (self.name(*line), self.value(*line)))
    }

    /// All that is written so far: the first line and those of the fields. More may be added behind them.
    pub fn into_text(self) -> BytesMut {
        self.text
    }

    /// The first `length` bytes: of the first line.
    pub(super) fn begin(&self, length: usize) -> &[u8] {
        &self.text[..length]
    }

    /// The same as a map.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    /// Removes all fields of a name, which is given in small letters.
    pub fn remove_named(&mut self, name: &str) {
        // Mostly there is none.
        if self.lengths & bit(name) != 0 && self.lines.iter().any(|line| self.is(*line, name)) {
            self.cut(|head, line| head.is(line, name));
        }
    }

    fn name(&self, line: Line) -> &str {
        let name = &self.text[line.begin as usize..(line.begin + line.name) as usize];
        std::str::from_utf8(name).unwrap_or_default()
    }

    fn value(&self, line: Line) -> &[u8] {
        &self.text[(line.begin + line.name + 2) as usize..line.end as usize - 2]
    }

    /// Whether a line has this name. Most differ in their length.
    fn is(&self, line: Line, name: &str) -> bool {
        line.name as usize == name.len() && self.text[line.begin as usize..][..name.len()] == *name.as_bytes()
    }

    /// Removes the lines that are so. Moves what is behind them, which is rare.
    fn cut(&mut self, is_so: impl Fn(&Self, Line) -> bool) {
        let mut at = 0;
        while let Some(line) = self.lines.get(at).copied() {
            if !is_so(self, line) {
                at += 1;
                continue;
            }
            let (begin, end) = (line.begin as usize, line.end as usize);
            self.text.copy_within(end.., begin);
            self.text.truncate(self.text.len() - (end - begin));
            self.lines.remove(at);
            for behind in &mut self.lines[at..] {
                (behind.begin, behind.end) = (behind.begin - (line.end - line.begin), behind.end - (line.end - line.begin));
            }
        }
    }
}

impl HeadFields for FieldLines {
    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        // A value with a line end would be a field of its own.
        if is_value(value) {
            self.add_parsed(name.as_str(), value);
        }
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_named(name.as_str());
    }

    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool) {
        self.cut(|head, line| is_so(head.name(line)));
    }
}

/// The bit for a name's length.
fn bit(name: &str) -> u64 {
    1 << (name.len() % 64)
}

/// Whether a value may stand in a line: it has no control characters but tabs (RFC 9110, 5.5).
pub fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t')
}

#[cfg(test)]
mod tests;
