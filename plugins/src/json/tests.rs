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

/// A text as a JSON string, and some wrong escape far inside of it.
fn with_a_wrong_escape(escape: &str) -> String {
    format!("\"{}{escape} and more\"", "x".repeat(2 * CHECKED))
}

#[test]
fn an_escape_far_inside_of_a_text_is_left_to_its_decoder() {
    for escape in [r"\q", r"\u12", r"\u", r"\x41", r"\\\ "] {
        let text = with_a_wrong_escape(escape);
        let value = Reader::new(text.as_bytes()).value(0).unwrap();
        assert_eq!((value.range.clone(), value.as_str(text.as_bytes())), (0..text.len(), None), "{escape}");
        for bad in [format!(r#"{{{text}:1}}"#), format!("[\n{text}]")] {
            assert!(check(bad.as_bytes()).is_err(), "names, and texts with control characters, are checked: {escape}");
        }
        assert!(Reader::new(text.as_bytes()).strict().value(0).is_err(), "{escape}");
    }
}

#[test]
fn a_control_character_is_found_wherever_it_is() {
    for at in [1, CHECKED, 5 * CHECKED] {
        assert!(check(format!("\"{}\u{1}x\"", "x".repeat(at)).as_bytes()).is_err(), "{at}");
    }
}

/// Where a string ends, byte by byte; `None`: nowhere.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

proptest! {
    #[test]
    fn long_strings_end_where_they_end_byte_by_byte(
        pieces in prop::collection::vec("[\"\\\\]{1,8}|[ -~]{1,300}|\\PC{1,40}", 0..12),
    ) {
        let text = format!("\"{}{}\"", "x".repeat(CHECKED + 1), pieces.concat());
        let end = end_of_string(text.as_bytes());
        let read = Reader::new(text.as_bytes()).value(0);
        prop_assert_eq!(read.map(|value| value.range.end).ok(), end);
    }

    #[test]
    fn any_bytes_end_a_string_in_the_same_place(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), 0x20u8..], 0..900)) {
        let text = [b"\"", &vec![b'x'; CHECKED + 1][..], &bytes].concat();
        let read = Reader::new(&text).value(0);
        prop_assert_eq!(read.map(|value| value.range.end).ok(), end_of_string(&text));
    }

    #[test]
    fn well_formed_texts_of_any_length_are_read_as_serde_json_reads_them(
        texts in prop::collection::vec(prop::collection::vec("\\PC{0,300}|[\"\\\\/\n\t\u{1}]{1,400}", 0..6), 1..4),
        pretty in any::<bool>(),
    ) {
        let tree: serde_json::Value = texts.iter().map(|pieces| pieces.concat()).collect();
        let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.unwrap();
        let mut found = Vec::new();
        let mut reader = Reader::new(text.as_bytes());
        reader.array(|value| found.push(value.as_str(text.as_bytes()).map(|text| text.into_owned()))).unwrap();
        reader.end().unwrap();
        let expected: Vec<Option<String>> = texts.iter().map(|pieces| Some(pieces.concat())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn strict_reading_agrees_with_serde_json_at_any_length(text in "[\\[\\]{}:,\"\\\\ntrue0-9.eE \u{e9}-]{0,40}", long in 0..2000usize) {
        let text = text.replacen('n', &"n".repeat(long), 1);
        let mut reader = Reader::new(text.as_bytes()).strict();
        let ours = reader.value(0).is_ok() && reader.end().is_ok();
        prop_assert_eq!(ours, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
    }

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
