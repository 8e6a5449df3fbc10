//! What is read of a request body is what any other reader finds there, and an edit changes nothing else.
#![no_main]

use std::fmt;

use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use spillway_plugins::objects::is_name;
use spillway_plugins::request::{StreamOptions, read_fields};

/// The members of an object as they stand, repeated ones too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Every;
        impl<'de> Visitor<'de> for Every {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Every)
    }
}

/// A name as the most lenient readers compare it.
fn loosely(name: &str) -> String {
    name.chars().filter(|letter| !matches!(letter, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// `body` with `range` replaced.
fn edited(body: &[u8], range: &std::ops::Range<usize>, by: &str) -> Vec<u8> {
    [&body[..range.start], by.as_bytes(), &body[range.end..]].concat()
}

fuzz_target!(|body: &[u8]| {
    let Ok(fields) = read_fields(body) else { return };
    for name in fields.references_in(body).names {
        assert!(is_name(&name), "{name}");
    }
    // As a tree it is refused for more: numbers out of range, half a surrogate pair.
    let Ok(Members(members)) = serde_json::from_slice(body) else { return };
    // No reader finds another member than ours under the names that decide.
    let member = |wanted: &str| {
        let mut found = members.iter().filter(|(name, _)| loosely(name) == loosely(wanted));
        let first = found.next();
        assert!(found.next().is_none(), "{wanted} twice");
        assert!(first.is_none_or(|(name, _)| name == wanted), "{wanted}: {first:?}");
        first.map_or(&Value::Null, |(_, value)| value)
    };
    assert_eq!(fields.model.as_deref(), member("model").as_str().filter(|model| !model.is_empty()));
    assert_eq!(fields.stream, *member("stream") == true);
    assert_eq!(fields.max_tokens, member("max_tokens").as_u64());
    assert_eq!(fields.max_completion_tokens, member("max_completion_tokens").as_u64());
    assert_eq!(fields.max_output_tokens, member("max_output_tokens").as_u64());
    assert_eq!(fields.choices, member("n").as_u64().max(member("best_of").as_u64()));
    assert_eq!(fields.prompt_cache_key.as_deref(), member("prompt_cache_key").as_str());
    for further in ["models", "fallbacks"].iter().filter_map(|name| member(name).as_array()).flatten().filter_map(Value::as_str) {
        assert!(fields.further_models.iter().any(|model| model == further), "{further}");
    }
    let tree: Value = serde_json::from_slice(body).expect("it is an object");
    if let Some(range) = &fields.model_range {
        let changed = edited(body, range, "\"another\"");
        let mut expected = tree.clone();
        expected["model"] = "another".into();
        assert_eq!(serde_json::from_slice::<Value>(&changed).expect("still JSON"), expected);
    }
    if let StreamOptions::UsageNotAsked { range, insert } = &fields.stream_options {
        let changed = edited(body, range, insert);
        let asked: Value = serde_json::from_slice(&changed).expect("still JSON");
        let mut expected = tree;
        if !expected["stream_options"].is_object() {
            expected["stream_options"] = Value::Object(serde_json::Map::new());
        }
        expected["stream_options"]["include_usage"] = true.into();
        assert_eq!(asked, expected);
        assert_eq!(read_fields(&changed).expect("still readable").stream_options, StreamOptions::UsageAsked);
    }
});
