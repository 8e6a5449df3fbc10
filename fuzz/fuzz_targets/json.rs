//! The JSON reader takes what serde_json takes, and finds the same members with the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use spillway_plugins::json::{JsonError, Reader};

fuzz_target!(|text: &[u8]| {
    // The reader leaves UTF-8 to its callers.
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let mut reader = Reader::new(text);
    let read = reader.value(0).and_then(|value| reader.end().map(|()| value));
    let theirs = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    match &read {
        Ok(value) => {
            assert!(theirs, "only we take it");
            assert_eq!(value.bytes(text), text.trim_ascii());
        }
        Err(JsonError::TooDeep { .. }) => {}
        Err(error) => assert!(!theirs, "only serde_json takes it: {error}"),
    }
    // As a tree it is refused for more: numbers out of range, half a surrogate pair.
    let Ok(serde_json::Value::Object(tree)) = serde_json::from_slice(text) else { return };
    if read.is_err() {
        return;
    }
    let mut members = std::collections::BTreeMap::new();
    let mut reader = Reader::new(text);
    reader.object(|key, value| drop(members.insert(key.to_owned(), value))).expect("it was read before");
    assert_eq!(members.len(), tree.len());
    for (key, value) in members {
        let alone: serde_json::Value = serde_json::from_slice(value.bytes(text)).expect("a member is a value");
        assert_eq!(alone, tree[&key], "{key}");
        assert_eq!(value.as_str(text).as_deref(), tree[&key].as_str(), "{key}");
        assert_eq!(value.as_bool(text), tree[&key].as_bool(), "{key}");
    }
});
