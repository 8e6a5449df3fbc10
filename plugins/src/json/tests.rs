use super::*;
use proptest::prelude::*;

fn check(text: &[u8]) -> Result<(), JsonError> {
    let mut reader = Reader::new(text);
    reader.value(0)?;
    reader.end()
}

#[test]
fn accepts_and_refuses_like_the_grammar() {
    for good in ["{}", "[]", " [1, -2.5e+3, 0] ", r#"{"a":{"b":[null,true,false,"\u00e9\n"]}}"#] {
        assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
    }
    for bad in
        ["", "{", "[1,]", "{\"a\":1,}", "01", "1.", "+1", "nul", "\"a", "\"\\x\"", "\"\n\"", "{a:1}", "{} {}", "{\"a\" 1}", "\"\\u12\""]
    {
        assert!(check(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn depth_is_bounded() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    assert!(matches!(check(deep.as_bytes()), Err(JsonError::TooDeep { .. })));
    let fine = "[".repeat(100) + &"]".repeat(100);
    assert_eq!(check(fine.as_bytes()), Ok(()));
}

#[test]
fn escaped_keys_are_decoded() {
    let mut keys = Vec::new();
    Reader::new(br#"{"mod\u0065l": 1, "b": 2}"#).object(|key, _| keys.push(key.to_owned())).unwrap();
    assert_eq!(keys, ["model", "b"]);
}

proptest! {
    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}:,\"\\\\ntrue0-9.eE \u{e9}-]{0,40}") {
        let ours = check(text.as_bytes()).is_ok();
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn strings_of_any_length_are_found_whole(text in "\\PC{0,200}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let mut reader = Reader::new(quoted.as_bytes());
        let value = reader.value(0).unwrap();
        let decoded = value.as_str(quoted.as_bytes());
        prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
    }
}
