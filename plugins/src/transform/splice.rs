//! Changes to the top level of a JSON object, made in its own bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::member::Member;
use crate::json::Value;

/// Changes that are collected and then made at once.
pub(super) struct Splices<'t> {
    text: &'t [u8],
    /// Replacements by start, end and order; no two overlap. Insertions at a position come before a removal that begins
    /// there.
    edits: BTreeMap<(usize, usize, usize), Vec<u8>>,
    /// Members that are added, as `"name":value`.
    inserted: Vec<String>,
    /// Whether no member is left.
    empty: bool,
}

impl<'t> Splices<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Splices { text, edits: BTreeMap::new(), inserted: Vec::new(), empty: false }
    }

    /// Adds a member.
    pub(super) fn insert_member(&mut self, name: &str, value: &str) {
        self.inserted.push(format!("{}:{value}", serde_json::Value::from(name)));
    }

    /// Replaces a value. The first change of a value counts.
    pub(super) fn replace(&mut self, value: &Value, by: String) {
        self.edit(value.range.clone(), by.into_bytes());
    }

    /// Inserts a text at a position within a value.
    pub(super) fn insert_at(&mut self, at: usize, text: String) {
        self.edit(at..at, text.into_bytes());
    }

    fn edit(&mut self, range: Range<usize>, by: Vec<u8>) {
        // Edits don't overlap: the last one that begins before this one's end also ends last.
        let before = self.edits.range(..(range.end, 0, 0)).next_back();
        let free = before.is_none_or(|((_, end, _), _)| *end <= range.start);
        if free && self.text.get(range.clone()) != Some(&by) {
            self.edits.insert((range.start, range.end, self.edits.len()), by);
        }
    }

    /// Removes members with their names and one comma each, of `total` in all; they are passed in order.
    pub(super) fn remove<'m>(&mut self, members: impl Iterator<Item = &'m Member>, total: usize) {
        let mut gone = 0;
        // Where the removed members end that had the comma after them.
        let mut begin = self.brace();
        for member in members {
            let end = member.value.range.end;
            if member.index == gone {
                // All members before it are removed, too: with the comma that follows, if there is one.
                let rest = &self.text[end..];
                let comma = rest.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| rest[*at] == b',');
                let end = comma.map_or(end, |at| end + at + 1);
                self.edit(begin..end, Vec::new());
                begin = end;
            } else {
                // With the comma before it.
                self.edit(member.after..end, Vec::new());
            }
            gone += 1;
        }
        self.empty = gone == total;
    }

    /// Where the first member begins.
    fn brace(&self) -> usize {
        self.text.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1)
    }

    /// The text with all changes; `None` if there are none.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        if !self.inserted.is_empty() {
            let brace = self.brace();
            let comma = if self.empty { "" } else { "," };
            let inserted = format!("{}{comma}", self.inserted.join(","));
            self.edits.insert((brace, brace, self.edits.len()), inserted.into_bytes());
        }
        if self.edits.is_empty() {
            return None;
        }
        let grows: usize = self.edits.values().map(Vec::len).sum();
        let mut whole = Vec::with_capacity(self.text.len() + grows);
        let mut at = 0;
        for ((start, end, _), by) in &self.edits {
            whole.extend_from_slice(&self.text[at..*start]);
            whole.extend_from_slice(by);
            at = *end;
        }
        whole.extend_from_slice(&self.text[at..]);
        Some(whole)
    }
}
