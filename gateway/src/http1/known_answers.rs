//! The heads of answers that a thread has read last, without their values: backends repeat themselves, so the next head mostly has
//! the same fields in the same order. Such a head is compared, not parsed.
//!
//! Everything but the values must be the same bytes, and the values must be ones that every parser reads as they are. What the
//! values mean is read from each head anew.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::BytesMut;
use http::{StatusCode, Version};

use super::answer_head::{AnswerHead, BadHead, Field, MOST_BYTES};
use super::fields::is_plain;

/// Most heads that are known.
const MOST: usize = 8;
/// Most bytes of one, without its values.
const LONGEST: usize = 4 * 1024;

// The one that was read last is the first.
thread_local!(static KNOWN: RefCell<Vec<Shape>> = const { RefCell::new(Vec::new()) });

/// A head without its values.
struct Shape {
    status: StatusCode,
    version: Version,
    /// The bytes before each value, and those behind the last, one behind the other.
    between: Vec<u8>,
    /// All names, and a bit for each of them.
    names: (Arc<str>, u64),
    fields: Vec<FieldShape>,
}

/// Where a field's name is in all names, and the end of the bytes before its value.
#[derive(Clone, Copy)]
struct FieldShape {
    name: u16,
    name_end: u16,
    before_end: u16,
}

/// Cuts a head off the front of `buffer`: as one that is known, or as [`AnswerHead::cut`] does.
///
/// # Errors
/// [`BadHead`]
pub(super) fn read(buffer: &mut BytesMut) -> Result<Option<AnswerHead>, BadHead> {
    if let Some(head) = cut(buffer) {
        return Ok(Some(head));
    }
    Ok(AnswerHead::cut(buffer)?.inspect(learn))
}

/// Cuts a known head off; `None` if that must be parsed.
fn cut(buffer: &mut BytesMut) -> Option<AnswerHead> {
    KNOWN.with_borrow_mut(|known| {
        let (place, fields, end) = known.iter().enumerate().find_map(|(place, shape)| {
            let (fields, end) = shape.compare(buffer)?;
            Some((place, fields, end))
        })?;
        known[..=place].rotate_right(1);
        let shape = &known[0];
        let bytes = buffer.split_to(end).freeze();
        Some(AnswerHead::new((shape.status, shape.version), bytes, shape.names.clone(), fields))
    })
}

/// Remembers a head that was parsed.
fn learn(head: &AnswerHead) {
    let Some(shape) = Shape::of(head) else { return };
    KNOWN.with_borrow_mut(|known| {
        known.truncate(MOST - 1);
        known.insert(0, shape);
    });
}

/// Forgets all heads, as a thread that has read none.
pub fn forget() {
    KNOWN.with_borrow_mut(Vec::clear);
}

impl Shape {
    /// `None` if the head is unusual: then one like it is parsed each time. A value that is never compared would mostly be there
    /// again, and the head be learnt again and again, in place of others.
    fn of(head: &AnswerHead) -> Option<Self> {
        let (bytes, (names, bits), fields) = head.parts();
        let (mut between, mut at) = (Vec::new(), 0);
        let mut shapes = Vec::with_capacity(fields.len());
        for Field { name, name_end, value, value_end } in fields.iter().copied() {
            let before = bytes.get(at..usize::from(value))?;
            (at == 0 || before.starts_with(b"\r\n")).then(|| between.extend_from_slice(before))?;
            shapes.push(FieldShape { name, name_end, before_end: u16::try_from(between.len()).ok()? });
            at = value_end.into();
            bytes.get(usize::from(value)..at).filter(|value| is_plain(value))?;
        }
        between.extend_from_slice(bytes.get(at..).filter(|last| last.starts_with(b"\r\n"))?);
        let is_usual = at > 0 && between.len() <= LONGEST;
        is_usual.then(|| Shape { status: head.status, version: head.version, between, names: (Arc::clone(names), bits), fields: shapes })
    }

    /// The fields of a head of this shape, and its end.
    fn compare(&self, bytes: &[u8]) -> Option<(Vec<Field>, usize)> {
        let (mut at, mut same) = (0, 0);
        // Most heads of another shape differ in their status, or in their first field.
        let mut fields = Vec::new();
        for shape in &self.fields {
            let before = self.between.get(same..shape.before_end.into())?;
            let rest = bytes.get(at..)?.strip_prefix(before)?;
            same = shape.before_end.into();
            at += before.len();
            let value = rest.get(..memchr::memchr(b'\r', rest)?).filter(|value| is_plain(value))?;
            if fields.is_empty() {
                fields.reserve_exact(self.fields.len());
            }
            let end = at + value.len();
            let [value, value_end] = [at, end].map(u16::try_from);
            fields.push(Field { name: shape.name, name_end: shape.name_end, value: value.ok()?, value_end: value_end.ok()? });
            at = end;
        }
        let last = self.between.get(same..)?;
        bytes.get(at..)?.starts_with(last).then_some(())?;
        Some((fields, at + last.len())).filter(|(_, end)| *end <= MOST_BYTES)
    }
}

#[cfg(test)]
mod tests;
