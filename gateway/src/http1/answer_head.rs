//! The head of an answer (RFC 9112, sections 4 and 5), kept as the bytes that came, with the positions of its fields: few
//! fields are looked at, and a list of a few dozen is faster to search than to hash.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;

use super::fields::bit;

/// Most bytes of a head. Positions fit 16 bits.
pub const MOST_BYTES: usize = 65_535;
/// Most fields of a head, as many as Pingora takes.
pub const MOST_FIELDS: usize = 256;

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// It is not HTTP/1, or breaks its grammar.
    #[error("this is not the head of an HTTP/1 answer: {0}")]
    Syntax(#[from] httparse::Error),
    /// Something else comes before the status line.
    #[error("an answer begins with its status line")]
    Start,
    /// It is longer than [`MOST_BYTES`].
    #[error("the head is longer than {MOST_BYTES} bytes")]
    TooLong,
    /// There is no such status.
    #[error("the status {0} doesn't exist")]
    Status(u16),
}

/// A head.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// The version: 1.0 or 1.1.
    pub version: Version,
    /// The head.
    bytes: Bytes,
    /// The names of the fields one behind the other, in small letters.
    names: Arc<str>,
    /// A bit for each name, so that most names that are not there need no search.
    bits: u64,
    fields: Vec<Field>,
    map: OnceLock<Option<Box<ResponseHeader>>>,
}

/// Where a field's name is in all names, and its value in the head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: u16,
    pub(super) name_end: u16,
    pub(super) value: u16,
    pub(super) value_end: u16,
}

impl Field {
    fn name(self) -> Range<usize> {
        self.name.into()..self.name_end.into()
    }

    fn value(self) -> Range<usize> {
        self.value.into()..self.value_end.into()
    }

    /// Whether it has this name. Most names differ in their length.
    fn is(self, name: &str, names: &str) -> bool {
        self.name().len() == name.len() && names.as_bytes()[self.name()] == *name.as_bytes()
    }
}

impl AnswerHead {
    /// Cuts a head off the front of `buffer`; `None` if its end is not there yet. Whitespace before a field's colon is
    /// dropped (RFC 9112, 5.1); a line that continues the one before is refused (5.2).
    ///
    /// # Errors
    /// [`BadHead`]
    pub fn cut(buffer: &mut BytesMut) -> Result<Option<Self>, BadHead> {
        if !b"HTTP/".starts_with(&buffer[..buffer.len().min(5)]) {
            return Err(BadHead::Start);
        }
        // On the stack, and not initialised: only the fields that are there are written.
        let mut found = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MOST_FIELDS];
        let mut answer = httparse::Response::new(&mut []);
        let mut rules = httparse::ParserConfig::default();
        rules.allow_spaces_after_header_name_in_responses(true);
        let end = match rules.parse_response_with_uninit_headers(&mut answer, buffer, &mut found)? {
            httparse::Status::Complete(end) if end <= MOST_BYTES => end,
            httparse::Status::Partial if buffer.len() <= MOST_BYTES => return Ok(None),
            _ => return Err(BadHead::TooLong),
        };
        let code = answer.code.unwrap_or(0);
        let status = StatusCode::from_u16(code).map_err(|_| BadHead::Status(code))?;
        let version = if answer.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        let begin = buffer.as_ptr().addr();
        let at = |part: &[u8], offset: usize| u16::try_from(part.as_ptr().addr().wrapping_sub(begin) + offset).unwrap_or(0);
        let mut names = String::with_capacity(answer.headers.iter().map(|field| field.name.len()).sum());
        let place = |field: &httparse::Header<'_>| {
            let begin = names.len();
            names.push_str(field.name);
            let [name, name_end] = [begin, names.len()].map(|at| u16::try_from(at).unwrap_or(0));
            Field { name, name_end, value: at(field.value, 0), value_end: at(field.value, field.value.len()) }
        };
        let fields: Vec<Field> = answer.headers.iter().map(place).collect();
        names.make_ascii_lowercase();
        let bits = fields.iter().fold(0, |bits, field| bits | bit(&names[field.name()]));
        Ok(Some(AnswerHead::new((status, version), buffer.split_to(end).freeze(), (names.into(), bits), fields)))
    }

    /// Of its parts: the names with their bits, and where names and values are.
    pub(super) fn new((status, version): (StatusCode, Version), bytes: Bytes, (names, bits): (Arc<str>, u64), fields: Vec<Field>) -> Self {
        AnswerHead { status, version, bytes, names, bits, fields, map: OnceLock::new() }
    }

    /// The bytes, the names with their bits, and where names and values are.
    pub(super) fn parts(&self) -> (&[u8], (&Arc<str>, u64), &[Field]) {
        (&self.bytes, (&self.names, self.bits), &self.fields)
    }

    /// The fields in their order: names in small letters, values without the whitespace around them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (&self.names[field.name()], &self.bytes[field.value()]))
    }

    /// The values of a field, whose name is given in small letters.
    pub fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        let fields = if self.bits & bit(name) == 0 { &[] } else { &self.fields[..] };
        fields.iter().filter(move |field| field.is(name, &self.names)).map(|field| &self.bytes[field.value()])
    }

    /// The first value of a field, whose name is given in small letters.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        if self.bits & bit(name) == 0 {
            return None;
        }
        self.fields.iter().find(|field| field.is(name, &self.names)).map(|field| &self.bytes[field.value()])
    }

    /// The head as a map, made at the first call; `None` if a field can't be in one.
    pub fn map(&self) -> Option<&ResponseHeader> {
        self.map.get_or_init(|| self.to_map().map(Box::new)).as_deref()
    }

    fn to_map(&self) -> Option<ResponseHeader> {
        let mut map = ResponseHeader::build_no_case(self.status, Some(self.fields.len())).ok()?;
        map.set_version(self.version);
        for field in &self.fields {
            let name = HeaderName::from_bytes(self.names[field.name()].as_bytes()).ok()?;
            map.append_header(name, HeaderValue::from_maybe_shared(self.bytes.slice(field.value())).ok()?).ok()?;
        }
        Some(map)
    }

    /// Removes all fields of a name.
    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|field| !field.is(name, &self.names));
    }

    /// Leaves the first element of the first field of a name, which is a list.
    pub(super) fn keep_first_element(&mut self, name: &str) {
        let Some(first) = self.fields.iter_mut().find(|field| field.is(name, &self.names)) else { return };
        let list = &self.bytes[first.value()];
        let element = list.split(|byte| *byte == b',').next().unwrap_or(list).trim_ascii_end();
        first.value_end = first.value + u16::try_from(element.len()).unwrap_or(0);
        let kept = *first;
        self.fields.retain(|field| field.name == kept.name || !field.is(name, &self.names));
    }

    /// Copies the bytes out of the buffer that they were read into, so that they don't keep all of it.
    pub(super) fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }
}

#[cfg(test)]
mod tests;
