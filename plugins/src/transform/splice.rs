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
}

impl<'t> Splices<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Splices { text, edits: Vec::new(), inserted: Vec::new() }
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

    /// Takes a member out: its value becomes null, which every API reads as absent, so that no comma has to go.
    pub(super) fn remove(&mut self, value: &Value) {
        self.replace(value, "null".to_owned());
    }

    /// The text with all changes; `None` if there are none. `empty`: the object has no members.
    pub(super) fn finish(mut self, empty: bool) -> Option<Vec<u8>> {
        if !self.inserted.is_empty() {
            let brace = self.text.iter().position(|byte| *byte == b'{')? + 1;
            let comma = if empty { "" } else { "," };
            self.edits.push((brace..brace, format!("{}{comma}", self.inserted.join(",")).into_bytes()));
        }
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_by_key(|(range, _)| range.start);
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
