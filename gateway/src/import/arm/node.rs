//! Values of ARM JSON with their position, parsed as leniently as Azure does.

use serde_json::Value;

use super::expr::{Scope, unknowns};
use crate::import::draft::Millis;
use crate::import::finding::Findings;

/// The command that prints the result of a template, with all values.
pub(in crate::import) const DEPLOYED: &str = "az rest --method get --url \".../service/NAME/backends?api-version=2024-05-01\"";

/// A value, its position, and what expressions in it refer to.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    /// File and JSON pointer.
    pub(super) place: String,
}

impl Node {
    /// Resolves all expressions in `written`; unknown values stay marked.
    pub(super) fn new(written: &Value, scope: &Scope, place: String) -> Self {
        Node { value: scope.value(written), place }
    }

    /// The value of `key`, unless it is null. Azure ignores upper and lower case.
    pub(super) fn get(&self, key: &str) -> Option<Node> {
        let map = self.value.as_object()?;
        let (name, value) = map.iter().find(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_null())?;
        Some(Node { value: value.clone(), place: pointer(&self.place, name) })
    }

    pub(super) fn keys(&self) -> Vec<String> {
        let map = self.value.as_object();
        map.map(|map| map.iter().filter(|(_, value)| !is_empty(value)).map(|(key, _)| key.clone()).collect()).unwrap_or_default()
    }

    pub(super) fn items(&self) -> Vec<Node> {
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter()
            .enumerate()
            .map(|(at, value)| Node { value: value.clone(), place: format!("{}/{at}", self.place) })
            .filter(|node| !node.value.is_null())
            .collect()
    }

    /// A text without unknown values; otherwise a finding names them.
    pub(super) fn text(&self, findings: &mut Findings) -> Option<String> {
        let text = match &self.value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => {
                findings.unsupported(&self.place, "is not a text");
                return None;
            }
        };
        let missing = unknowns(&text);
        if missing.is_empty() {
            return Some(text);
        }
        findings.unsupported(
            &self.place,
            format!(
                "depends on {}, which is not in the file; pass the parameters file of 'az deployment group create' as well, or \
                 import the backends as they are deployed: {DEPLOYED}",
                missing.join(" and ")
            ),
        );
        None
    }

    /// A whole number, also as text.
    pub(super) fn count(&self, findings: &mut Findings) -> Option<u64> {
        let text = self.text(findings)?;
        let whole = text.trim().parse::<u64>().ok();
        let whole = whole.or_else(|| text.trim().strip_suffix(".0").and_then(|text| text.parse().ok()));
        if whole.is_none() {
            findings.unsupported(&self.place, "is not a whole number");
        }
        whole
    }

    /// A boolean, also as text.
    pub(super) fn flag(&self, findings: &mut Findings) -> Option<bool> {
        let text = self.text(findings)?;
        let flag = text.trim().to_ascii_lowercase().parse().ok();
        if flag.is_none() {
            findings.unsupported(&self.place, "is neither true nor false");
        }
        flag
    }

    /// A duration in ISO 8601, longer than 0.
    pub(super) fn duration(&self, findings: &mut Findings) -> Option<Millis> {
        let text = self.text(findings)?;
        match super::duration::parse(text.trim()) {
            Ok(Millis(0)) => {
                findings.unsupported(&self.place, "is 0; Spillway's default stays");
                None
            }
            Ok(millis) => Some(millis),
            Err(problem) => {
                findings.unsupported(&self.place, problem);
                None
            }
        }
    }
}

/// `place` with one more part.
pub(super) fn pointer(place: &str, part: &str) -> String {
    format!("{place}/{}", part.replace('~', "~0").replace('/', "~1"))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        _ => false,
    }
}

/// Properties that the import doesn't know.
pub(super) fn unknown_keys(node: &Node, known: &[&str], findings: &mut Findings) {
    for key in node.keys().iter().filter(|key| !known.iter().any(|known| known.eq_ignore_ascii_case(key))) {
        findings.unsupported(pointer(&node.place, key), "is not known to this import and was left out");
    }
}
