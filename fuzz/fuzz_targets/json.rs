//! The JSON reader takes what serde_json takes, and finds the same members with the same values. Without `strict` it also
//! takes wrong escapes far inside of texts, and finds the same ends. So does the tree that borrows from its text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use spillway_plugins::json::{Item, JsonError, Kind, Reader, Tree};

/// Whether a value is what serde_json says.
fn is_same(text: &[u8], value: &spillway_plugins::json::Value, theirs: &Value) {
    let alone: Value = serde_json::from_slice(value.bytes(text)).expect("it is a value");
    assert_eq!(alone, *theirs);
    let kind = match theirs {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Bool,
        Value::Number(_) => Kind::Number,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    };
    assert_eq!(value.kind, kind);
    assert_eq!(value.as_str(text).as_deref(), theirs.as_str());
    assert_eq!(value.as_bool(text), theirs.as_bool());
    assert_eq!(value.as_u64(text), theirs.as_u64());
    let filled = match theirs {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    assert_eq!(value.is_filled(text), filled);
}

/// Whether a value of the tree, and all that is in it, is what serde_json says.
fn is_same_item(item: Item<'_>, theirs: &Value) {
    assert_eq!(serde_json::from_slice::<Value>(item.bytes()).expect("it is a value"), *theirs);
    assert_eq!(item.text().as_deref(), theirs.as_str());
    if let Some(elements) = theirs.as_array() {
        assert_eq!(item.items().count(), elements.len());
        item.items().zip(elements).for_each(|(item, theirs)| is_same_item(item, theirs));
    }
    for (name, theirs) in theirs.as_object().into_iter().flatten() {
        assert!(item.has(name));
        is_same_item(item.get(name), theirs);
    }
}

fuzz_target!(|text: &[u8]| {
    // The reader leaves UTF-8 to its callers.
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let mut lenient = Reader::new(text);
    let ends = lenient.value(0).and_then(|value| lenient.end().map(|()| value));
    let mut reader = Reader::new(text).strict();
    let read = reader.value(0).and_then(|value| reader.end().map(|()| value));
    let theirs = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    match &read {
        Ok(value) => {
            assert_eq!(ends.as_ref(), Ok(value), "what is strictly right is read in the same way without");
            assert!(theirs, "only we take it");
            assert_eq!(value.bytes(text), text.trim_ascii());
        }
        Err(JsonError::TooDeep { .. }) => return,
        Err(error) => assert!(!theirs, "only serde_json takes it: {error}"),
    }
    // As a tree it is refused for more: numbers out of range, half a surrogate pair.
    let borrowed = Tree::parse(text);
    let (Ok(read), Ok(tree)) = (read, serde_json::from_slice::<Value>(text)) else { return };
    is_same(text, &read, &tree);
    is_same_item(borrowed.expect("the tree takes what serde_json takes").root(), &tree);
    match &tree {
        Value::Object(tree) => {
            let mut members = std::collections::BTreeMap::new();
            Reader::new(text).object(|key, value| drop(members.insert(key.to_owned(), value))).expect("it was read before");
            assert_eq!(members.len(), tree.len());
            members.iter().for_each(|(key, value)| is_same(text, value, &tree[key]));
        }
        Value::Array(tree) => {
            let mut elements = Vec::new();
            Reader::within(text, &read).array(|value| elements.push(value)).expect("it was read before");
            assert_eq!(elements.len(), tree.len());
            elements.iter().zip(tree).for_each(|(value, theirs)| is_same(text, value, theirs));
        }
        _ => {}
    }
});
