//! Changes of a JSON object's top level, made in its own bytes.

use std::ops::Range;

use crate::json::Value;

/// Changes that are gathered and then made at once.
pub(super) struct Splices<'t> {
    text: &'t [u8],
    /// What is replaced by what; no two overlap.
    edits: Vec<(Range<usize>, Vec<u8>)>,
    /// Members that are put in, as `"name":value`.
    inserted: Vec<String>,
    /// No member stays.
    empty: bool,
}

impl<'t> Splices<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Splices { text, edits: Vec::new(), inserted: Vec::new(), empty: false }
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
        if !self.edits.iter().any(|(other, _)| range.start < other.end && other.start < range.end)
            && self.text.get(range.clone()) != Some(&by)
        {
            self.edits.push((range, by));
        }
    }

    /// Takes members out, of which each is told in its order, and whether it goes: with its name and one comma.
    pub(super) fn remove<'v>(&mut self, members: impl Iterator<Item = (&'v Value, bool)>) {
        let mut begin = self.brace();
        let mut first = true;
        self.empty = true;
        for (value, goes) in members {
            let end = value.range.end;
            if !goes {
                self.empty = false;
                first = false;
            } else if first {
                // With the comma that follows, if one does.
                let rest = &self.text[end..];
                let comma = rest.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| rest[*at] == b',');
                let end = comma.map_or(end, |at| end + at + 1);
                self.edit(begin..end, Vec::new());
                begin = end;
                continue;
            } else {
                // With the comma before it.
                self.edit(begin..end, Vec::new());
            }
            begin = end;
        }
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
            self.edits.push((brace..brace, inserted.into_bytes()));
        }
        if self.edits.is_empty() {
            return None;
        }
        // What is put in at a place goes before what is cut out from there on.
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let grows: usize = self.edits.iter().map(|(_, by)| by.len()).sum();
        let mut whole = Vec::with_capacity(self.text.len() + grows);
        let mut at = 0;
        for (range, by) in &self.edits {
            whole.extend_from_slice(&self.text[at..range.start]);
            whole.extend_from_slice(by);
            at = range.end;
        }
        whole.extend_from_slice(&self.text[at..]);
        Some(whole)
    }
}
