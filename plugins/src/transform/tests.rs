use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn pairs(value: Json) -> Vec<(String, Json)> {
    value.as_object().unwrap().clone().into_iter().collect()
}

fn applied(transform: &Transform, api: Api, body: &str) -> String {
    transform.apply(api, body.as_bytes()).map_or_else(|| body.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn members_are_set_defaulted_and_removed_in_place() {
    let transform = Transform {
        set: pairs(json!({ "user": "gateway" })),
        default: pairs(json!({ "temperature": 0.2, "top_p": 1 })),
        remove: vec!["logit_bias".to_owned()],
        ..Transform::default()
    };
    let body = r#"{ "model":"m",  "user" : "me", "logit_bias":{"1":2}, "top_p": null, "messages":[]}"#;
    let expected = r#"{"temperature":0.2, "model":"m",  "user" : "gateway", "top_p": 1, "messages":[]}"#;
    assert_eq!(applied(&transform, Api::Chat, body), expected);
    assert_eq!(applied(&transform, Api::Chat, expected), expected, "twice is once");
    let empty = Transform { default: pairs(json!({ "a": 1 })), ..Transform::default() };
    assert_eq!(applied(&empty, Api::Chat, " { } "), " {\"a\":1 } ");
    assert_eq!(empty.apply(Api::Chat, br#"{"a":2}"#), None);
    assert_eq!(empty.apply(Api::Chat, b"[1]"), None);
}

#[test]
fn numbers_are_capped_whatever_their_names() {
    let transform = Transform { cap: vec![("max_tokens".to_owned(), 100.0), ("temperature".to_owned(), 0.5)], ..Transform::default() };
    for (body, expected) in [
        (r#"{"max_tokens":101}"#, r#"{"max_tokens":100}"#),
        (r#"{"max_completion_tokens":1e9,"temperature":0.51}"#, r#"{"max_completion_tokens":100,"temperature":0.5}"#),
        (r#"{"max_output_tokens":100,"temperature":0.5}"#, r#"{"max_output_tokens":100,"temperature":0.5}"#),
        (r#"{"max_tokens":null,"n":5}"#, r#"{"max_tokens":100,"n":5}"#),
        (r#"{"n":5}"#, r#"{"max_tokens":100,"n":5}"#),
        (r#"{"temperature":"2"}"#, r#"{"max_tokens":100,"temperature":0.5}"#),
        (r#"{"max_tokens":1e999}"#, r#"{"max_tokens":100}"#),
    ] {
        assert_eq!(applied(&transform, Api::Chat, body), expected);
    }
}

#[test]
fn every_api_has_its_own_name_for_the_cap() {
    let transform = Transform { default: pairs(json!({ "max_tokens": 7 })), ..Transform::default() };
    for (api, name) in [(Api::Responses, "max_output_tokens"), (Api::Chat, "max_tokens"), (Api::Messages, "max_tokens")] {
        assert_eq!(applied(&transform, api, r#"{"a":1}"#), format!(r#"{{"{name}":7,"a":1}}"#));
    }
    assert_eq!(transform.apply(Api::Chat, br#"{"max_completion_tokens":9}"#), None, "it is given under another name");
    assert_eq!(transform.apply(Api::Embeddings, br#"{"input":"x"}"#), None, "there is no such thing");
}

#[test]
fn members_go_with_one_comma() {
    let transform = Transform { remove: vec!["a".to_owned(), "b".to_owned()], ..Transform::default() };
    for (body, expected) in [
        (r#"{"a":1}"#, "{}"),
        (r#"{"a":1,"b":2}"#, "{}"),
        (r#"{"a":1 , "c":3}"#, r#"{ "c":3}"#),
        (r#"{"c":3,"a":1}"#, r#"{"c":3}"#),
        (r#"{"a":1,"b":2,"c":3,"a":4,"d":5 ,"b":6}"#, r#"{"c":3,"d":5}"#),
        (r#"{"c":3}"#, r#"{"c":3}"#),
    ] {
        assert_eq!(applied(&transform, Api::Chat, body), expected, "{body}");
        let filled = Transform { set: pairs(json!({ "z": 0 })), ..transform.clone() };
        let filled: Json = serde_json::from_str(&applied(&filled, Api::Chat, body)).unwrap();
        assert_eq!(filled["z"], 0, "{body}");
    }
}

#[test]
fn the_system_prompt_comes_first_in_every_api() {
    let transform = Transform { system: Some("Be \"kind\".".to_owned()), ..Transform::default() };
    for (api, body, expected) in [
        (
            Api::Chat,
            r#"{"messages":[{"role":"system","content":"x"}]}"#,
            r#"{"messages":[{"content":"Be \"kind\".","role":"system"},{"role":"system","content":"x"}]}"#,
        ),
        (Api::Chat, r#"{"messages": [ ]}"#, r#"{"messages": [{"content":"Be \"kind\".","role":"system"} ]}"#),
        (Api::Responses, r#"{"input":"x"}"#, r#"{"instructions":"Be \"kind\".","input":"x"}"#),
        (Api::Responses, r#"{"instructions":"own"}"#, r#"{"instructions":"Be \"kind\".\n\nown"}"#),
        (Api::Responses, r#"{"instructions":null}"#, r#"{"instructions":"Be \"kind\"."}"#),
        (Api::Messages, r#"{"system":""}"#, r#"{"system":"Be \"kind\"."}"#),
        (
            Api::Messages,
            r#"{"system":[{"type":"text","text":"own"}]}"#,
            r#"{"system":[{"text":"Be \"kind\".","type":"text"},{"type":"text","text":"own"}]}"#,
        ),
        (Api::Completions, r#"{"prompt":"x"}"#, r#"{"prompt":"x"}"#),
    ] {
        assert_eq!(applied(&transform, api, body), expected);
    }
}

#[test]
fn a_body_of_repeated_members_takes_one_pass() {
    // Any number of edits: a search among those before for each would take minutes here.
    let transform = Transform {
        set: pairs(json!({ "user": 1 })),
        remove: vec!["a".to_owned()],
        cap: vec![("max_tokens".to_owned(), 1.0)],
        ..Transform::default()
    };
    let many = 300_000;
    let body = format!("{{{}\"z\":0}}", "\"user\":2,\"a\":3,\"max_tokens\":4,".repeat(many));
    let expected = format!("{{{}\"z\":0}}", "\"user\":1,\"max_tokens\":1,".repeat(many));
    assert!(applied(&transform, Api::Chat, &body) == expected);
    // What isn't looked at isn't kept.
    let mut splices = Splices::new(b"{}");
    (0..1000).for_each(|at| splices.insert_at(at, "x".to_owned()));
    assert!(!transform.looks_at("messages") && transform.looks_at("max_completion_tokens"));
}

proptest! {
    /// Whatever comes, the result is JSON that says what it should, and all else is as it was.
    #[test]
    fn the_rest_stays(temperature in proptest::option::of(0.0f64..2.0), user in proptest::option::of("[a-z\"\\\\ä]{0,8}"), extra in "[a-z]{1,6}") {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": extra }] });
        if let Some(temperature) = temperature {
            body["temperature"] = json!(temperature);
        }
        if let Some(user) = &user {
            body["user"] = json!(user);
        }
        let transform = Transform {
            set: pairs(json!({ "user": "u\"\n" })),
            default: pairs(json!({ "temperature": 1 })),
            cap: vec![("temperature".to_owned(), 0.7)],
            ..Transform::default()
        };
        let changed: Json = serde_json::from_str(&applied(&transform, Api::Chat, &body.to_string())).unwrap();
        prop_assert_eq!(&changed["user"], &json!("u\"\n"));
        prop_assert_eq!(&changed["messages"], &body["messages"]);
        match temperature {
            Some(given) => prop_assert!((changed["temperature"].as_f64().unwrap() - given.min(0.7)).abs() < 1e-9),
            None => prop_assert_eq!(&changed["temperature"], &json!(1)),
        }
    }
}
