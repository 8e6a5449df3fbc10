//! The fields of a head that is sent, kept as the lines that are written: fields are added once and rarely looked at, so a
//! map of them, or a list of where they are, would cost more than it saves.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

/// A head that fields are added to: one that the gateway writes itself, or one that Pingora writes.
pub trait HeadFields {
    /// Adds a field, behind others of its name.
    fn add(&mut self, name: &HeaderName, value: &[u8]);

    /// Adds a field whose value is the gateway's own, so that nothing in it must be checked.
    fn add_own(&mut self, name: &HeaderName, value: &[u8]) {
        self.add(name, value);
    }

    /// Removes all fields of a name.
    fn remove(&mut self, name: &HeaderName);

    /// Removes the fields whose name, in small letters, is so.
    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool);

    /// Adds a field in place of all others of its name.
    fn set(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// The same with a value of the gateway's own.
    fn set_own(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.add_own(name, value);
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

/// Where a field's line is: its beginning, the end of its name, and its end with the line end.
#[derive(Debug, Clone, Copy)]
struct Line {
    begin: usize,
    name_end: usize,
    end: usize,
}

/// Fields, one line for each, behind the head's first line if that is known.
#[derive(Clone)]
pub struct FieldLines {
    text: Vec<u8>,
    /// The beginning of the first field's line.
    first: usize,
    /// A bit for each name, so that most names that are not there need no search.
    names: u64,
}

/// Shows names only: a value may be a credential.
impl std::fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl FieldLines {
    /// No fields, behind `text`.
    pub fn behind(text: Vec<u8>) -> Self {
        FieldLines { first: text.len(), text, names: 0 }
    }

    /// Adds a field of another head. `name` is in small letters, and `value` has no control characters: a parser has
    /// checked both.
    pub fn add_parsed(&mut self, name: &str, value: &[u8]) {
        self.text.reserve(name.len() + value.len() + 4);
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.text.extend_from_slice(part);
        }
        self.names |= bit(name);
    }

    /// The first value of a field, whose name is given in small letters.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        if self.names & bit(name) == 0 {
            return None;
        }
        self.find(name, self.first).map(|line| self.value(line))
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines().map(|line| (self.name(line), self.value(line)))
    }

    /// All that is written so far: the first line and those of the fields. More may be added behind them.
    pub fn into_text(self) -> Vec<u8> {
        self.text
    }

    /// The first `length` bytes: of the first line.
    pub(super) fn begin(&self, length: usize) -> &[u8] {
        &self.text[..length]
    }

    /// The same as a map.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines().count());
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
        if self.names & bit(name) == 0 {
            return;
        }
        let mut from = self.first;
        while let Some(line) = self.find(name, from) {
            self.text.drain(line.begin..line.end);
            from = line.begin;
        }
    }

    /// The lines, which are read again each time: few heads are looked at after they were written.
    fn lines(&self) -> impl Iterator<Item = Line> {
        let mut at = self.first;
        std::iter::from_fn(move || {
            let line = self.line_at(at)?;
            at = line.end;
            Some(line)
        })
    }

    /// The line that begins here. No name has a colon, and nothing in a line has a line end.
    fn line_at(&self, begin: usize) -> Option<Line> {
        let rest = self.text.get(begin..)?;
        let end = begin + memchr::memchr(b'\n', rest)? + 1;
        let name_end = begin + rest.iter().position(|byte| *byte == b':')?;
        Some(Line { begin, name_end, end })
    }

    fn name(&self, line: Line) -> &str {
        std::str::from_utf8(&self.text[line.begin..line.name_end]).unwrap_or_default()
    }

    fn value(&self, line: Line) -> &[u8] {
        &self.text[line.name_end + 2..line.end - 2]
    }

    /// The first line of a field from the beginning of a line on.
    fn find(&self, name: &str, from: usize) -> Option<Line> {
        let text = self.text.get(from..)?;
        let begins = |at: &usize| (*at == 0 || text[at - 1] == b'\n') && text.get(at + name.len()) == Some(&b':');
        memchr::memmem::find_iter(text, name).find(begins).and_then(|at| self.line_at(from + at))
    }

    /// Removes the lines that are so. Moves what is behind them, which is rare.
    fn cut(&mut self, is_so: impl Fn(&str) -> bool) {
        let mut at = self.first;
        while let Some(line) = self.line_at(at) {
            if is_so(self.name(line)) {
                self.text.drain(line.begin..line.end);
            } else {
                at = line.end;
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

    fn add_own(&mut self, name: &HeaderName, value: &[u8]) {
        self.add_parsed(name.as_str(), value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_named(name.as_str());
    }

    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool) {
        self.cut(is_so);
    }
}

/// The bit for a name in a set of names. Most names differ in their length, first or last letter; with these factors the fields
/// that are looked for have other bits than those that most answers have.
pub(crate) fn bit(name: &str) -> u64 {
    let end = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or(0));
    1 << ((9 * name.len() + 3 * end(name.as_bytes().last()) + 5 * end(name.as_bytes().first())) % 64)
}

/// Whether a value may stand in a line: it has no control characters but tabs (RFC 9110, 5.5).
pub fn is_value(value: &[u8]) -> bool {
    // Without branches, so that many bytes are compared at once.
    let is_so = |byte: u8| ((byte >= b' ') & (byte != 0x7f)) | (byte == b'\t');
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & is_so(*byte));
    let (blocks, rest) = value.as_chunks::<16>();
    blocks.iter().all(|block| all(block)) && all(rest)
}

/// Whether a value is one that every parser reads as it is: visible ASCII characters, and spaces between them.
pub(crate) fn is_plain(value: &[u8]) -> bool {
    let ends = [value.first(), value.last()];
    ends.iter().all(|end| end.is_some_and(|byte| *byte != b' '))
        && value.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests;
