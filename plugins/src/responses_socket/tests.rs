use serde_json::{Value, json};

use super::*;

fn body(create: &Create<'_>, before: Option<&Memory>) -> Value {
    serde_json::from_slice(&create.body(before)).unwrap()
}

#[test]
fn a_message_is_the_body_of_a_streamed_request() {
    let text = r#"{"type":"response.create","model":"m","store":false,"stream":false,"background":null,"generate":true,"stream_id":null,"input":"Hi","top_p":1.0e0,"é\"":[1]}"#;
    let create = Create::read(text).unwrap();
    assert_eq!((create.model(), create.is_stored(), create.is_warm_up(), create.previous()), (Some("m".to_owned()), false, false, None));
    let written = String::from_utf8(create.body(None)).unwrap();
    assert_eq!(written, r#"{"stream":true,"model":"m","store":false,"input":"Hi","top_p":1.0e0,"é\"":[1]}"#);
    let stored = Create::read(r#"{"type":"response.create","model":"m","previous_response_id":"resp_1"}"#).unwrap();
    assert_eq!(body(&stored, None), json!({ "stream": true, "model": "m", "previous_response_id": "resp_1" }));
    assert!(stored.is_stored());
}

#[test]
fn what_is_no_request_is_told() {
    let wrong = |text: &str| Create::read(text).map(drop).unwrap_err();
    assert!(matches!(wrong("no"), CreateError::Syntax(_)));
    assert!(matches!(wrong(r#"{"type":"response.create"} x"#), CreateError::Syntax(_)));
    assert_eq!(wrong(r#"{"type":"response.steer"}"#), CreateError::Type("response.steer".into()));
    assert_eq!(wrong(r#"{"model":"m"}"#), CreateError::Type(String::new()));
    assert_eq!(wrong(r#"{"type":"response.create","input":"a","\u0069nput":"b"}"#), CreateError::Twice("input"));
    for (member, field) in [
        (r#""background":true"#, "background"),
        (r#""stream_id":"a""#, "stream_id"),
        (r#""generate":0"#, "generate"),
        (r#""previous_response_id":7"#, "previous_response_id"),
    ] {
        assert_eq!(wrong(&format!(r#"{{"type":"response.create",{member}}}"#)).field(), Some(field));
    }
}

/// What a turn that was asked with `asked` remembers of these events.
fn remembered(asked: &Create<'_>, events: &[Value]) -> Option<Memory> {
    let mut turn = Turn::new(Some(asked.remembered(None)));
    for event in events {
        assert!(!turn.is_over());
        assert_eq!(serde_json::from_str::<Value>(&turn.event(&event.to_string())).unwrap(), *event);
    }
    assert!(turn.is_over());
    turn.memory()
}

#[test]
fn a_turn_goes_on_from_what_was_asked_and_said() {
    let first = Create::read(r#"{"type":"response.create","model":"m","store":false,"input":"Hi"}"#).unwrap();
    let said = json!({ "type": "message", "id": "msg_1", "role": "assistant", "content": [{ "type": "output_text", "text": "a" }] });
    let reasoning = json!({ "type": "reasoning", "id": "rs_1", "summary": [] });
    let sealed = json!({ "type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA" });
    let done = |item: &Value| json!({ "type": "response.output_item.done", "output_index": 0, "item": item });
    let completed = |output: Value| json!({ "type": "response.completed", "response": { "id": "resp_1", "output": output } });
    let told = remembered(&first, &[done(&reasoning), done(&sealed), done(&said), completed(json!([said]))]).unwrap();
    let at_once = remembered(&first, &[completed(json!([reasoning, sealed, said]))]).unwrap();
    assert_eq!(told, at_once, "whether events tell its items or not");
    assert!(told.is_of("resp_1") && !told.is_of("resp_2"));

    let next = r#"{"type":"response.create","model":"m","store":false,"previous_response_id":"resp_1","input":[ {"type":"function_call_output","call_id":"c","output":"1.0"} ]}"#;
    let next = Create::read(next).unwrap();
    assert_eq!(next.previous().as_deref(), Some("resp_1"));
    let expected = json!([
        { "type": "message", "role": "user", "content": "Hi" },
        sealed,
        { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "a" }] },
        { "type": "function_call_output", "call_id": "c", "output": "1.0" },
    ]);
    assert_eq!(body(&next, Some(&told)), json!({ "stream": true, "model": "m", "store": false, "input": expected }));
    for empty in ["", r#","input":null"#, r#","input":[]"#, r#","input":[ ]"#] {
        let text = format!(r#"{{"type":"response.create","previous_response_id":"resp_1"{empty}}}"#);
        assert_eq!(body(&Create::read(&text).unwrap(), Some(&told))["input"].as_array().unwrap().len(), 3, "{text}");
    }
}

#[test]
fn what_came_before_in_a_store_comes_before_in_what_is_remembered() {
    let of = |more: &str| format!(r#"{{"type":"response.create","model":"m","store":false,{more}}}"#);
    let (first, second) = (of(r#""previous_response_id":"resp_stored","input":"b""#), of(r#""previous_response_id":"resp_b","input":"c""#));
    let memory = Create::read(&first).unwrap().remembered(None).named("resp_b".to_owned());
    let second = Create::read(&second).unwrap();
    let sent = body(&second, Some(&memory));
    assert_eq!((&sent["previous_response_id"], sent["input"].as_array().unwrap().len()), (&json!("resp_stored"), 2));
    assert_eq!(second.remembered(Some(&memory)).root(), Some("resp_stored"));
}

#[test]
fn whole_responses_end_as_they_say() {
    for (status, kind) in [("completed", "response.completed"), ("incomplete", "response.incomplete"), ("failed", "response.failed")] {
        let event: Value = serde_json::from_str(&whole(&json!({ "id": "r", "status": status }).to_string())).unwrap();
        assert_eq!((&event["type"], &event["response"]["status"]), (&json!(kind), &json!(status)));
    }
}

#[test]
fn nobody_goes_on_from_what_failed_or_is_forgotten() {
    let asked = Create::read(r#"{"type":"response.create"}"#).unwrap();
    assert_eq!(remembered(&asked, &[json!({ "type": "response.failed", "response": { "id": "resp_1" } })]), None);
    let mut forgotten = Turn::new(Some(asked.remembered(None)));
    forgotten.forget();
    forgotten.event(r#"{"type":"response.completed","response":{"id":"r","output":[{"type":"message"}]}}"#);
    assert_eq!((forgotten.held(), forgotten.is_over()), (0, true));
    assert_eq!(forgotten.memory(), None);
}

#[test]
fn errors_say_their_status() {
    let mut turn = Turn::default();
    let event = turn.event(r#"{"type":"error","code":"server_error","message":"no","param":null,"sequence_number":3}"#);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert!(turn.is_over());
    assert_eq!((&event["status"], &event["error"]["code"], &event["code"]), (&json!(502), &json!("server_error"), &json!("server_error")));
    let refused = error(429, br#"{"error":{"code":"rate_limit_exceeded","message":"m"}}"#, &[("retry-after", "2")]);
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(refused["error"], json!({ "code": "rate_limit_exceeded", "message": "m", "headers": { "retry-after": "2" } }));
    assert_eq!((&refused["type"], &refused["status"]), (&json!("error"), &json!(429)));
    let odd: Value = serde_json::from_str(&error(502, b"<html>", &[])).unwrap();
    assert_eq!(odd["error"]["code"], "upstream_error");
}

proptest::proptest! {
    /// Whatever a caller gives, the request has it, and nothing of the socket's own.
    #[test]
    fn a_body_says_what_the_message_said(keys in proptest::collection::hash_set("[a-z\"\\\\é]{1,6}", 0..8), text in "\\PC{0,40}") {
        let mut message = serde_json::Map::from_iter(keys.into_iter().map(|key| (key, json!({ "x": text, "y": [1.5, null] }))));
        for (key, value) in [("type", json!("response.create")), ("input", json!(text)), ("stream", json!(false))] {
            message.insert(key.to_owned(), value);
        }
        for key in ["model", "store", "generate", "background", "stream_id", "previous_response_id"] {
            message.remove(key);
        }
        let written = Value::from(message.clone()).to_string();
        let create = Create::read(&written).unwrap();
        message.remove("type");
        message.insert("stream".to_owned(), json!(true));
        proptest::prop_assert_eq!(body(&create, None), Value::from(message));
        let item: Value = serde_json::from_str(&create.items()).unwrap();
        proptest::prop_assert_eq!(&item["content"], &json!(text));
    }

    #[test]
    fn nothing_breaks_it(text in "\\PC{0,200}") {
        let _ = Create::read(&text);
        let mut turn = Turn::new(Some(Memory::new(String::new(), None, String::new())));
        turn.event(&text);
        turn.event(&format!(r#"{{"type":"response.completed","response":{{"output":[{text}]}}}}"#));
    }
}
