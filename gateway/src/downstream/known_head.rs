//! The head of the last request on a connection, to read the next one by: callers repeat themselves, so most heads on a
//! connection have the same fields as the one before, and a few other values. Such a head is compared, not parsed.
//!
//! Everything but those values must be the same bytes, and what decides about framing must be the same value, except for a
//! length. So the head has the strict form again. Any other head is parsed.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use super::strict_head::{MAX_HEAD, StrictHead, length};
use crate::http1::fields::is_plain;

/// A head of the strict form.
pub struct KnownHead {
    head: StrictHead,
    /// Its bytes.
    raw: Bytes,
    /// A bit for each field whose value has changed since then.
    changed: u64,
}

/// A head that was compared.
#[derive(Debug, PartialEq, Eq)]
pub struct Again {
    /// Its length in bytes, the empty line included.
    pub end: usize,
    /// The length of the body.
    pub body: usize,
    /// The fields with other values: their numbers, and where the values are.
    others: SmallVec<[(usize, Range<usize>); 4]>,
}

impl KnownHead {
    /// A head that was parsed, as it is in `map`; `None` if that has two fields of one name.
    pub fn new(head: StrictHead, raw: Bytes, map: &RequestHeader) -> Option<Self> {
        (map.headers.keys_len() == head.places.len()).then(|| KnownHead { changed: 1 << head.length_field, head, raw })
    }

    /// Whether the connection closes after the request.
    pub fn closes(&self) -> bool {
        self.head.closes
    }

    /// Looks at the bytes of a connection at which a head begins; `None` if that must be parsed.
    pub fn again(&self, bytes: &[u8]) -> Option<Again> {
        // First only at values that have changed before, with all that is between two of them at once.
        self.compare(bytes, self.changed).or_else(|| self.compare(bytes, u64::MAX >> (64 - self.head.places.len())))
    }

    /// Compares a head in which the values of `fields` may differ.
    fn compare(&self, bytes: &[u8], fields: u64) -> Option<Again> {
        let mut again = Again { end: 0, body: self.head.body, others: SmallVec::new() };
        let (mut at, mut same) = (0, 0);
        for field in bits(fields) {
            let (_, known) = self.head.places.get(field)?.ranges();
            let before = self.raw.get(same..known.start)?;
            at += bytes.get(at..)?.starts_with(before).then_some(before.len())?;
            same = known.end;
            let rest = &bytes[at..];
            let value = &rest[..memchr::memchr(b'\r', rest)?];
            if field == self.head.length_field {
                again.body = length(value)?;
                if again.body != self.head.body {
                    again.others.push((field, at..at + value.len()));
                }
            } else if self.changed & 1 << field != 0 || *value != self.raw[known] {
                let may_differ = self.head.decisive & 1 << field == 0 && is_plain(value);
                may_differ.then(|| again.others.push((field, at..at + value.len())))?;
            }
            at += value.len();
        }
        let last = self.raw.get(same..)?;
        bytes.get(at..)?.starts_with(last).then_some(())?;
        again.end = at + last.len();
        (again.end <= MAX_HEAD).then_some(again)
    }

    /// Puts the values of a head that was compared into the map of the one before. If that fails, the map is good for
    /// nothing.
    pub fn update(&mut self, bytes: &[u8], again: &Again, map: &mut RequestHeader) -> Option<()> {
        for (field, value) in &again.others {
            let (name, _) = self.head.places.get(*field)?.ranges();
            let replaced = if *field == self.head.length_field {
                map.insert_header(header::CONTENT_LENGTH, HeaderValue::from(again.body))
            } else {
                let value = HeaderValue::from_bytes(bytes.get(value.clone())?).ok()?;
                map.insert_header(HeaderName::from_bytes(self.raw.get(name)?).ok()?, value)
            };
            replaced.ok()?;
            self.changed |= 1 << field;
        }
        self.head.body = again.body;
        Some(())
    }
}

/// The positions of the bits that are set.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests;
