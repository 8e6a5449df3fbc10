//! An event that is too long to be kept: its lines are read as they pass.

use memchr::memchr2;

use super::event::{Event, Fate};
use crate::excerpt::{self, Excerpt};

/// Longest value of an `event` field that is read.
const LONGEST_NAME: usize = 64;

/// The field of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Name,
    Other,
}

/// The position in a line.
#[derive(Debug, Clone, Copy)]
enum At {
    /// In the field's name.
    Name,
    /// At the beginning of its value: the first space is not part of it.
    Value(Field),
    /// Inside the value.
    Rest(Field),
}

/// The state of the current event.
#[derive(Debug)]
pub(super) struct LongEvent {
    at: At,
    /// The name of the current line's field, as far as it matters.
    field: Vec<u8>,
    /// The current line is empty so far.
    blank: bool,
    /// The previous line ended with a CR: an LF belongs to it.
    after_cr: bool,
    name: Vec<u8>,
    data: Option<Excerpt>,
}

impl Default for LongEvent {
    fn default() -> Self {
        LongEvent { at: At::Name, field: Vec::new(), blank: true, after_cr: false, name: Vec::new(), data: None }
    }
}

impl LongEvent {
    /// Reads the next bytes. Returns where the event ends in them, if it does.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if std::mem::take(&mut self.after_cr) {
            match bytes.first() {
                None => {
                    self.after_cr = true;
                    return None;
                }
                Some(b'\n') => at = 1,
                Some(_) => {}
            }
        }
        loop {
            let rest = &bytes[at..];
            let Some(run) = memchr2(b'\n', b'\r', rest) else {
                self.line(rest);
                return None;
            };
            self.line(&rest[..run]);
            let end = at + run;
            at = end + 1;
            if self.blank {
                // A blank line ends it; if it ends with CR LF, both belong to it.
                let pair = bytes[end] == b'\r' && bytes.get(at) == Some(&b'\n');
                return Some(at + usize::from(pair));
            }
            self.line_ends();
            if bytes[end] == b'\r' {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => {
                        self.after_cr = true;
                        return None;
                    }
                }
            }
        }
    }

    /// A part of a line, without its end.
    fn line(&mut self, mut part: &[u8]) {
        if part.is_empty() {
            return;
        }
        self.blank = false;
        if let At::Name = self.at {
            let colon = memchr::memchr(b':', part);
            let name = &part[..colon.unwrap_or(part.len())];
            let room = 8usize.saturating_sub(self.field.len());
            self.field.extend_from_slice(&name[..name.len().min(room)]);
            let Some(colon) = colon else { return };
            part = &part[colon + 1..];
            self.value_begins();
        }
        if let (At::Value(field), Some(first)) = (self.at, part.first()) {
            if *first == b' ' {
                part = &part[1..];
            }
            self.at = At::Rest(field);
        }
        match self.at {
            At::Rest(Field::Data) => {
                if let Some(data) = &mut self.data {
                    data.push(part);
                }
            }
            At::Rest(Field::Name) => {
                let room = LONGEST_NAME.saturating_sub(self.name.len());
                self.name.extend_from_slice(&part[..part.len().min(room)]);
            }
            _ => {}
        }
    }

    /// The field's name is complete.
    fn value_begins(&mut self) {
        let field = match self.field.as_slice() {
            b"data" => Field::Data,
            b"event" => Field::Name,
            _ => Field::Other,
        };
        match (field, &mut self.data) {
            (Field::Data, Some(data)) => data.push(b"\n"),
            (Field::Data, none) => *none = Some(Excerpt::new(excerpt::event)),
            (Field::Name, _) => self.name.clear(),
            (Field::Other, _) => {}
        }
        self.at = At::Value(field);
    }

    fn line_ends(&mut self) {
        if let At::Name = self.at {
            // A line with only a name has an empty value.
            self.value_begins();
        }
        self.at = At::Name;
        self.field.clear();
        self.blank = true;
    }

    /// Reports the event, at its end.
    pub(super) fn emit(self, event: &mut impl FnMut(Event<'_>) -> Fate) {
        if let Some(data) = self.data {
            let cut = Some(data.cut());
            event(Event { name: &self.name, data: data.into_text().into(), cut });
        }
    }
}
