//! The form that most events of a stream share: the same bytes around another piece of text. Such an event needs no JSON
//! reader. Its form is learnt from an event that the reader has read, so both give the same state.

use std::ops::Range;

use crate::json::Value;

/// Longest form that is remembered, in bytes without its gaps.
const LONGEST: usize = 1024;
/// After so many events in a row that had some other form, none is learnt any more.
const MISSES: u8 = 8;
/// Most digits of a number that is read here.
const DIGITS: usize = 18;

/// What a reader found in an event, as positions in its data.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The text that is output.
    text: Option<Range<usize>>,
    /// The sequence number.
    number: Option<Range<usize>>,
    /// A text of varying length that is only there to hide the other one's length.
    padding: Option<Range<usize>>,
    /// Whether there is anything else that has an effect each time.
    more: bool,
}

impl Found {
    /// A string that is output. An empty one has no effect.
    pub(super) fn text(&mut self, value: &Value) {
        if value.range.len() > 2 {
            self.more |= self.text.replace(value.range.clone()).is_some();
        }
    }

    /// The sequence number.
    pub(super) fn number(&mut self, value: &Value) {
        self.more |= self.number.replace(value.range.clone()).is_some();
    }

    /// A string that is ignored, and differs in each event.
    pub(super) fn padding(&mut self, value: &Value) {
        self.padding.get_or_insert(value.range.clone());
    }

    /// Something that has an effect each time.
    pub(super) fn more(&mut self) {
        self.more = true;
    }
}

/// What differs between the events of one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    Text,
    Number,
    Padding,
}

/// The bytes that are equal in all events of one form.
#[derive(Debug)]
struct Shape {
    literals: Vec<u8>,
    /// What is between the literals, each with the end of the literal before it.
    gaps: Vec<(usize, Gap)>,
}

/// An event of the known form.
#[derive(Debug)]
pub(super) struct Fitting {
    /// Its length in bytes, with the blank line.
    pub(super) length: usize,
    /// Its text, with the quotes.
    pub(super) text: Range<usize>,
    /// Its sequence number.
    pub(super) number: Option<u64>,
}

/// The form of a stream's events, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Option<Box<Shape>>,
    misses: u8,
}

impl Shapes {
    /// The event at the beginning of `bytes`, if it is complete and has the known form.
    pub(super) fn fit(&mut self, bytes: &[u8]) -> Option<Fitting> {
        let fitting = self.known.as_ref()?.fit(bytes)?;
        self.misses = 0;
        Some(fitting)
    }

    /// Learns the form of the event in `block`, which ends with a blank line. `data` is its data, in which `found` was
    /// found.
    pub(super) fn learn(&mut self, block: &[u8], data: &[u8], found: &Found) {
        if found.more || found.text.is_none() || self.misses > MISSES {
            return;
        }
        self.misses += 1;
        self.known = if self.misses > MISSES { None } else { Shape::of(block, data, found).map(Box::new) };
    }
}

impl Shape {
    fn of(block: &[u8], data: &[u8], found: &Found) -> Option<Shape> {
        // After a CR the next event could begin with an LF that belongs to this one.
        if block.last() != Some(&b'\n') {
            return None;
        }
        // Data of several lines is a copy, which is outside of the block.
        let begin = data.as_ptr().addr().checked_sub(block.as_ptr().addr())?;
        if block.get(begin..begin.checked_add(data.len())?)? != data {
            return None;
        }
        let inner = |quoted: &Range<usize>| quoted.start + 1..quoted.end - 1;
        let found = [
            (found.text.as_ref().map(inner), Gap::Text),
            (found.number.clone(), Gap::Number),
            (found.padding.as_ref().map(inner), Gap::Padding),
        ];
        let mut found: Vec<(Range<usize>, Gap)> = found.into_iter().filter_map(|(range, gap)| Some((range?, gap))).collect();
        found.sort_by_key(|(range, _)| range.start);
        let length = block.len() - found.iter().map(|(range, _)| range.len()).sum::<usize>();
        if length > LONGEST {
            return None;
        }
        let (mut literals, mut gaps, mut at) = (Vec::with_capacity(length), Vec::with_capacity(found.len()), 0);
        for (range, gap) in found {
            literals.extend_from_slice(block.get(at..begin + range.start)?);
            gaps.push((literals.len(), gap));
            at = begin + range.end;
        }
        literals.extend_from_slice(block.get(at..)?);
        let shape = Shape { literals, gaps };
        // What it was learnt from has this form; if not, it was something unusual.
        shape.fit(block).is_some_and(|fitting| fitting.length == block.len()).then_some(shape)
    }

    fn fit(&self, bytes: &[u8]) -> Option<Fitting> {
        let (mut at, mut literal) = (0, 0);
        let (mut text, mut number) = (0..0, None);
        for (end, gap) in &self.gaps {
            let equal = self.literals.get(literal..*end)?;
            let rest = bytes.get(at..)?.strip_prefix(equal)?;
            (at, literal) = (at + equal.len(), *end);
            let length = match gap {
                Gap::Text | Gap::Padding => string_length(rest)?,
                Gap::Number => digits(rest),
            };
            match gap {
                Gap::Text if length == 0 => return None,
                Gap::Text => text = at - 1..at + length + 1,
                Gap::Number => number = Some(whole_number(rest.get(..length)?)?),
                Gap::Padding => {}
            }
            at += length;
        }
        let equal = self.literals.get(literal..)?;
        bytes.get(at..)?.strip_prefix(equal)?;
        Some(Fitting { length: at + equal.len(), text, number })
    }
}

/// The length of a string's inside, up to the quote that ends it (RFC 8259, section 7); `None` if it is not right.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => match text.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                _ => return None,
            },
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// How many digits come next.
fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// A JSON number of digits alone.
fn whole_number(digits: &[u8]) -> Option<u64> {
    match digits {
        [] | [b'0', _, ..] => None,
        digits if digits.len() > DIGITS => None,
        digits => Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))),
    }
}

#[cfg(test)]
mod tests;
