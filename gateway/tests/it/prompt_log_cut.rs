//! What is too long for the prompt log is written as far as it goes, and says so.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::prompt_log::{log, records_of};
use crate::support::*;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn white_space_hides_no_prompt_and_no_answer() {
    let spaces = " \n".repeat(MIB);
    let padded = format!("{spaces}{}", answer("the answer"));
    let backend = ScriptedBackend::start(move |_| Reply::json(200, padded.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &log(folder.path(), ""))).await;
    let body = format!(r#"{{"model":"m",{spaces}"messages":{spaces}[{{"role":"user","content":"write to a@b.example"}}]}}"#);
    assert_eq!(ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap().status, 200);
    let record = records_of(folder.path(), 1).await.pop().unwrap();
    assert_eq!(record["prompt"][0]["text"], "write to [email]");
    assert_eq!(record["completion"][0]["text"], "the answer");
    assert_eq!((&record["prompt_cut"], &record["completion_cut"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn what_is_cut_is_written_redacted_and_marked() {
    // The middle of a card's number is the last that is read.
    let long = |before: usize| "word ".repeat(MIB)[..MIB - before].to_owned() + " 4111 1111 1111 1111 and more";
    let head = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let plain = format!(r#"{head}{}"}},"finish_reason":"stop"}}]}}"#, long(head.len() + 10));
    let backend = ScriptedBackend::start(move |_| Reply::json(200, plain.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &log(folder.path(), "max_message = \"2MiB\""))).await;
    let head = r#"{"messages":[{"content":"first","role":"system"},{"content":""#;
    let body = format!(r#"{head}{}","role":"user"}}],"model":"m"}}"#, long(head.len() + 10));
    assert!(serde_json::from_str::<Value>(&body).is_ok());
    assert_eq!(ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap().status, 200);
    let record = records_of(folder.path(), 1).await.pop().unwrap();
    assert_eq!((&record["prompt_cut"], &record["completion_cut"]), (&json!(true), &json!(true)));
    assert_eq!(record["prompt"][0]["text"], "first");
    for text in [&record["prompt"][1]["text"], &record["completion"][0]["text"]] {
        let text = text.as_str().unwrap();
        assert!(text.len() > MIB / 2 && text.ends_with("…[broken off]") && !text.contains("4111"), "{}", &text[text.len() - 100..]);
    }
}
