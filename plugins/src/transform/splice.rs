//! Changes of a JSON object's top level, made in its own bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::member::Member;
use crate::json::Value;

/// Changes that are gathered and then made at once.
pub(super) struct Splices<'t> {
    text: &'t [u8],
    /// What is replaced by what, by start, end and their order; no two overlap. What is put in at a place goes before
    /// what is cut out from there on.
    edits: BTreeMap<(usize, usize, usize), Vec<u8>>,
    /// Members that are put in, as `"name":value`.
    inserted: Vec<String>,
    /// No member stays.
    empty: bool,
}

impl<'t> Splices<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Splices { text, edits: BTreeMap::new(), inserted: Vec::new(), empty: false }
    }

    /// Puts a member in.
    pub(super) fn insert_member(&mut self, name: &str, value: &str) {
        self.inserted.push(format!("{}:{value}", serde_json::Value::from(name)));
    }

    /// Replaces a value. The first change of one counts.
    pub(super) fn replace(&mut self, value: &Value, by: String) {
        self.edit(value.range.clone(), by.into_bytes());
    }

    /// Puts something in at a place within a value.
    pub(super) fn insert_at(&mut self, at: usize, text: String) {
        self.edit(at..at, text.into_bytes());
    }

    fn edit(&mut self, range: Range<usize>, by: Vec<u8>) {
        // Of those that don't overlap each other the last one that begins before this one's end also ends last.
        let before = self.edits.range(..(range.end, 0, 0)).next_back();
        let free = before.is_none_or(|((_, end, _), _)| *end <= range.start);
        if free && self.text.get(range.clone()) != Some(&by) {
            self.edits.insert((range.start, range.end, self.edits.len()), by);
        }
    }

    /// Takes members out with their names and one comma each, of `total` in all; they are told in their order.
    pub(super) fn remove<'m>(&mut self, members: impl Iterator<Item = &'m Member>, total: usize) {
        let mut gone = 0;
        // Where the members end that went with the comma after them.
        let mut begin = self.brace();
        for member in members {
            let end = member.value.range.end;
            if member.index == gone {
                // All before it go, too: with the comma that follows, if one does.
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

    /// Where the first member stands.
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
