//! What a message of the caller asks for.

use serde_json::{Value, json};

use super::*;

fn create(more: &str) -> String {
    format!("{{\"type\":\"response.create\",\"model\":\"m\",\"input\":\"hi\"{more}}}")
}

fn body(read: &Read) -> Value {
    serde_json::from_slice(&read.body).unwrap()
}

#[test]
fn a_message_is_the_request_that_it_is() {
    let asked = read(&create(",\"store\":true"), None).expect("it is one");
    assert_eq!((asked.model.as_deref(), asked.previous.is_none(), asked.goes_on, asked.warm_up), (Some("m"), true, false, false));
    assert_eq!((&body(&asked)["model"], &body(&asked)["stream"]), (&json!("m"), &json!(true)));
    assert!(asked.remembered.is_none(), "a backend keeps it");
    let unstored = read(&create(",\"store\":false"), None).expect("it is one");
    assert!(unstored.remembered.is_some(), "the connection keeps it");
    for text in ["", "{", "[]", "{\"type\":\"session.update\"}"] {
        assert!(read(text, None).is_err(), "{text}");
    }
}

#[test]
fn one_that_goes_on_brings_what_the_connection_knows() {
    let first = read(&create(",\"store\":false"), None).expect("it is one");
    let memory = first.remembered.expect("the connection keeps it").named("resp_1".to_owned());
    let next = read(&create(",\"store\":false,\"previous_response_id\":\"resp_1\""), Some(&memory)).expect("it is one");
    assert_eq!((next.goes_on, next.previous.as_deref()), (true, Some("resp_1")));
    let input = body(&next)["input"].to_string();
    assert_eq!(input.matches("hi").count(), 2, "{input}");
    let other = read(&create(",\"previous_response_id\":\"resp_2\""), Some(&memory)).expect("it is one");
    assert_eq!((other.goes_on, &body(&other)["previous_response_id"]), (false, &json!("resp_2")), "a backend may know it");
}

#[test]
fn a_warm_up_asks_no_backend() {
    let warm = read(&create(",\"generate\":false"), None).expect("it is one");
    assert_eq!((warm.warm_up, warm.body.len(), warm.remembered.is_some()), (true, 0, true));
}
