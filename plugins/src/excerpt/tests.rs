use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn of(want: Want, text: &str, size: usize) -> Excerpt {
    let mut excerpt = Excerpt::new(want);
    text.as_bytes().chunks(size.max(1)).for_each(|piece| excerpt.push(piece));
    excerpt
}

fn event_of(text: &str) -> Value {
    serde_json::from_slice(of(event, text, text.len()).text()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_is_wanted_is_taken_and_the_rest_is_not() {
    let text = json!({
        "type": "response.completed", "sequence_number": 7,
        "response": { "id": "resp_1", "status": "completed", "tools": [{ "usage": 1 }], "usage": { "input_tokens": 5, "details": { "x": 1 }, "note": "x" }, "error": null },
        "usage": null, "metadata": { "type": "no" }, "item": { "id": "msg_1", "content": ["x"] },
    });
    let expected = json!({
        "type": "response.completed", "sequence_number": 7,
        "response": { "id": "resp_1", "usage": { "input_tokens": 5, "details": { "x": 1 } }, "error": null },
        "usage": null, "item": { "id": "msg_1" },
    });
    assert_eq!(event_of(&text.to_string()), expected);
    let chat = json!({ "choices": [{ "index": 1, "delta": { "tool_calls": [{ "function": { "arguments": "{" } }], "content": null }, "finish_reason": "stop", "logprobs": [1, 2] }, 7, {}] });
    let expected = json!({ "choices": [{ "index": 1, "delta": { "tool_calls": [{ "function": { "arguments": "{" } }], "content": null }, "finish_reason": "stop" }, 7, {}] });
    assert_eq!(event_of(&chat.to_string()), expected);
}

#[test]
fn the_steps_of_an_answer_are_taken_and_what_follows_them_too() {
    let step =
        json!({ "type": "compaction", "model": "m", "input_tokens": 5, "note": "x", "cache_creation": { "ephemeral_1h_input_tokens": 1 } });
    let taken = json!({ "type": "compaction", "model": "m", "input_tokens": 5, "cache_creation": { "ephemeral_1h_input_tokens": 1 } });
    let text = json!({ "content": ["x"], "usage": { "input_tokens": 1, "iterations": [step, 7, step], "speed": "fast", "list": [1], "output_tokens": 2 } });
    let expected = json!({ "usage": { "input_tokens": 1, "iterations": [taken, 7, taken], "speed": "fast", "output_tokens": 2 } });
    assert_eq!(serde_json::from_slice::<Value>(of(usage, &text.to_string(), 9).text()).unwrap(), expected);
    // However many there are, the counts behind them have room.
    let text = format!(r#"{{"usage":{{"iterations":[{}],"output_tokens":2}}}}"#, vec![step.to_string(); 5000].join(","));
    let taken: Value = serde_json::from_slice(of(usage, &text, 1000).text()).unwrap();
    assert!(taken["usage"]["output_tokens"] == 2 && taken["usage"]["iterations"].as_array().unwrap().len() > 60, "{taken}");
}

#[test]
fn long_strings_are_cut_at_a_character_and_the_rest_is_counted() {
    for unit in ["a", "é", "\u{1f600}", "\"", "\\", "\n"] {
        for lead in ["", "b", "bb", "bbb", "bbbb", "bbbbb"] {
            let said = format!("{lead}{}", unit.repeat(1000));
            for escaped in [false, true] {
                // All characters as escapes, as some servers write them.
                let quoted = if escaped {
                    said.encode_utf16().fold(String::from("\""), |text, unit| text + &format!("\\u{unit:04x}")) + "\""
                } else {
                    Value::from(said.as_str()).to_string()
                };
                let text = format!(r#"{{"delta":{quoted},"type":"x"}}"#);
                let excerpt = of(event, &text, 7);
                let whole: Result<Value, _> = serde_json::from_slice(excerpt.text());
                if let Ok(taken) = &whole {
                    assert!(said.starts_with(taken["delta"].as_str().unwrap()) && taken["type"] == "x");
                } else {
                    // A surrogate pair may be cut in two.
                    assert!(escaped && unit == "\u{1f600}", "{unit}");
                }
                let taken = memchr::memmem::find(excerpt.text(), b"\",\"type\"").unwrap() - r#"{"delta":""#.len();
                assert_eq!(excerpt.cut() as usize, quoted.len() - 2 - taken, "{unit} {lead} {escaped}");
            }
        }
    }
    let error = json!({ "error": { "code": "x", "message": "m".repeat(9000) } }).to_string();
    assert_eq!(of(event, &error, 100).cut(), 0, "only what was said counts");
}

#[test]
fn counts_are_taken_however_much_was_said_before() {
    let choices: Vec<Value> = (0..5000).map(|index| json!({ "index": index, "delta": { "content": "x".repeat(300) } })).collect();
    let text = format!(r#"{{"choices":{},"usage":{{"prompt_tokens":5}},"type":"t"}}"#, Value::from(choices));
    let excerpt = of(event, &text, 1000);
    assert!(excerpt.text().len() <= MOST + 1000, "{}", excerpt.text().len());
    let taken: Value = serde_json::from_slice(excerpt.text()).unwrap();
    assert_eq!((&taken["usage"]["prompt_tokens"], &taken["type"]), (&json!(5), &json!("t")));
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        Just(Value::from("\"usage\":{\"input_tokens\":9},\\")),
        (600usize..900).prop_map(|length| Value::from("é\"".repeat(length))),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = prop_oneof!["usage", "iterations", "model", "response", "type", "delta", "choices", "error", "\\PC{0,8}", "k{60}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..6).prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn any_pieces_give_the_same_excerpt_and_it_is_json(text in arbitrary_json(), size in 1usize..200, pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&text).unwrap() } else { text.to_string() };
        for want in [event as Want, usage, message] {
            let whole = of(want, &text, text.len());
            let pieces = of(want, &text, size);
            prop_assert_eq!(whole.text(), pieces.text());
            prop_assert_eq!(whole.cut(), pieces.cut());
            if text.starts_with('{') {
                prop_assert!(serde_json::from_slice::<Value>(whole.text()).is_ok(), "{}", String::from_utf8_lossy(whole.text()));
                prop_assert!(matches!(whole.next, Next::Over));
            } else {
                prop_assert!(whole.text().is_empty());
            }
        }
    }

    #[test]
    fn anything_is_taken_in_bounded_memory(bytes in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'['), Just(b'"'), Just(b'\\'), Just(b','), Just(b':'), any::<u8>()], 0..3000), size in 1usize..100) {
        let mut excerpt = Excerpt::new(event);
        bytes.chunks(size).for_each(|piece| excerpt.push(piece));
        prop_assert!(excerpt.text().len() <= bytes.len() * 2 && excerpt.frames.len() <= DEEPEST);
    }
}
