//! Merges a field's pieces from several events into one value.

use serde_json::Value;
use serde_json::map::Entry;

use super::event::Object;

/// A filter's severities, least first.
const SEVERITIES: [&str; 4] = ["safe", "low", "medium", "high"];

/// Whether a value is neither null nor empty.
fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    }
}

/// Keeps the first value that is neither null nor empty.
pub(super) fn keep_first(into: &mut Object, key: String, value: Value) {
    match into.entry(key) {
        Entry::Vacant(free) => {
            free.insert(value);
        }
        Entry::Occupied(mut old) if !is_filled(old.get()) && is_filled(&value) => drop(old.insert(value)),
        Entry::Occupied(_) => {}
    }
}

/// Strings and arrays are appended, objects are merged field by field, other values are replaced; null changes nothing.
///
/// False if the pieces don't fit together.
#[must_use]
pub(super) fn append(into: &mut Object, key: String, value: Value) -> bool {
    let mut old = match into.entry(key) {
        Entry::Vacant(free) => {
            free.insert(value);
            return true;
        }
        Entry::Occupied(old) => old,
    };
    match (old.get_mut(), value) {
        (_, Value::Null) => true,
        (old @ (Value::Null | Value::Bool(_) | Value::Number(_)), value) => {
            *old = value;
            true
        }
        (Value::String(text), Value::String(more)) => {
            text.push_str(&more);
            true
        }
        (Value::Array(list), Value::Array(more)) => {
            list.extend(more);
            true
        }
        (Value::Object(fields), Value::Object(more)) => {
            more.into_iter().fold(true, |fits, (key, value)| append(fields, key, value) && fits)
        }
        _ => false,
    }
}

/// Of two results of a filter the worse one is kept, so that a later clean part of the text doesn't hide a hit.
pub(super) fn keep_worst(into: &mut Object, key: String, value: Value) {
    let is_severity = key == "severity";
    let mut old = match into.entry(key) {
        Entry::Vacant(free) => {
            free.insert(value);
            return;
        }
        Entry::Occupied(old) => old,
    };
    match (old.get_mut(), value) {
        (_, Value::Null) => {}
        (Value::Object(fields), Value::Object(more)) => more.into_iter().for_each(|(key, value)| keep_worst(fields, key, value)),
        (Value::Bool(hit), Value::Bool(more)) => *hit |= more,
        (Value::String(old), Value::String(new)) if is_severity && severity(old) > severity(&new) => {}
        (old, value) => *old = value,
    }
}

fn severity(name: &str) -> Option<usize> {
    SEVERITIES.iter().position(|known| *known == name)
}

/// Overwrites with every value that isn't null.
pub(super) fn overwrite(into: &mut Object, with: Object) {
    for (key, value) in with {
        if !value.is_null() || !into.contains_key(&key) {
            into.insert(key, value);
        }
    }
}
