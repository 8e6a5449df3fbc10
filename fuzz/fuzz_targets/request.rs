//! What is read of a request body is what another reader finds there, and an edit changes nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use spillway_plugins::objects::{is_name, references};
use spillway_plugins::request::{StreamOptions, read_fields};

/// `body` with `range` replaced.
fn edited(body: &[u8], range: &std::ops::Range<usize>, by: &str) -> Vec<u8> {
    [&body[..range.start], by.as_bytes(), &body[range.end..]].concat()
}

fuzz_target!(|body: &[u8]| {
    let Ok(fields) = read_fields(body) else { return };
    for name in references(&fields, body).names {
        assert!(is_name(&name), "{name}");
    }
    let Ok(tree) = serde_json::from_slice::<Value>(body) else { return };
    assert!(tree.is_object());
    assert_eq!(fields.model.as_deref(), tree["model"].as_str().filter(|model| !model.is_empty()));
    assert_eq!(fields.stream, tree["stream"] == true);
    if let Some(range) = &fields.model_range {
        let changed = edited(body, range, "\"another\"");
        let mut expected = tree.clone();
        expected["model"] = "another".into();
        assert_eq!(serde_json::from_slice::<Value>(&changed).expect("still JSON"), expected);
    }
    if let StreamOptions::UsageNotAsked { range, insert } = &fields.stream_options {
        let changed = edited(body, range, insert);
        let asked: Value = serde_json::from_slice(&changed).expect("still JSON");
        assert_eq!(asked["stream_options"]["include_usage"], true);
        let again = read_fields(&changed).expect("still readable");
        assert_eq!(again.stream_options, StreamOptions::UsageAsked);
    }
});
