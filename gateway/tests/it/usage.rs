//! Every token that a backend reports is counted, whatever the API and the form, and the caller's bytes
//! stay what they would have been.

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

const COUNTERS: [&str; 5] = ["input", "output", "cached_input", "cache_write", "reasoning"];

async fn counts(gateway: &Gateway) -> [f64; 5] {
    let mut counts = [0.0; 5];
    for (count, name) in counts.iter_mut().zip(COUNTERS) {
        *count = gateway.metric(&format!("spillway_{name}_tokens_total{{backend=\"a\",deployment=\"m\",pool=\"pool\"}}")).await;
    }
    counts
}

async fn unknown(gateway: &Gateway) -> f64 {
    gateway.metric("spillway_usage_unknown_total{backend=\"a\",deployment=\"m\",pool=\"pool\"}").await
}

pub fn chat_usage() -> Value {
    json!({ "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": { "cached_tokens": 3, "cache_write_tokens": 2 }, "completion_tokens_details": { "reasoning_tokens": 5 } })
}

fn response_usage() -> Value {
    json!({ "input_tokens": 11, "input_tokens_details": { "cached_tokens": 3, "cache_write_tokens": 2 }, "output_tokens": 7, "output_tokens_details": { "reasoning_tokens": 5 }, "total_tokens": 18 })
}

pub fn sse(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// A backend that reports 11 input tokens (3 cached, 2 written) and 7 output tokens (5 of reasoning).
pub fn metered(request: &Received) -> Reply {
    let streamed = request.json()["stream"] == true;
    let anthropic = json!({ "input_tokens": 6, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 7, "output_tokens_details": { "thinking_tokens": 5 } });
    match (request.path().split('?').next().unwrap(), streamed) {
        ("/v1/chat/completions" | "/v1/completions", true) => {
            let told = request.json()["stream_options"]["include_usage"] == true;
            let chunk = |delta: Value, finish: Value| json!({ "id": "c", "choices": [{ "index": 0, "delta": delta, "text": "x", "finish_reason": finish }], "usage": null });
            let mut events = sse(&[chunk(json!({ "content": "x" }), Value::Null), chunk(json!({}), json!("stop"))]);
            if told {
                events.extend(sse(&[json!({ "id": "c", "choices": [], "usage": chat_usage() })]));
            }
            events.push(DONE.to_owned());
            Reply::sse(events)
        }
        ("/v1/responses", true) => Reply::sse(sse(&[
            json!({ "type": "response.created", "response": { "id": "resp_1", "usage": null } }),
            json!({ "type": "response.output_text.delta", "delta": "x" }),
            json!({ "type": "response.completed", "response": { "id": "resp_1", "usage": response_usage() } }),
        ])),
        ("/v1/messages", true) => {
            let start = json!({ "type": "message_start", "message": { "usage": { "input_tokens": 6, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 1 } } });
            let events = [
                start,
                json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "x" } }),
                json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 7, "output_tokens_details": { "thinking_tokens": 5 } } }),
                json!({ "type": "message_stop" }),
            ];
            Reply::sse(events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())))
        }
        ("/v1/messages", false) => Reply::json(200, json!({ "content": [], "usage": anthropic }).to_string()),
        ("/v1/responses", false) => {
            Reply::json(200, json!({ "id": "resp_1", "output": [], "usage": response_usage(), "user": null }).to_string())
        }
        ("/v1/images/generations" | "/v1/audio/transcriptions", _) => {
            Reply::json(200, json!({ "data": [{ "b64_json": "x".repeat(400_000) }], "usage": response_usage() }).to_string())
        }
        _ => Reply::json(200, json!({ "object": "x", "data": [], "choices": [], "usage": chat_usage() }).to_string()),
    }
}

pub fn extra(path: &str) -> &'static str {
    if path == "/v1/messages" { "kind = \"anthropic\"" } else { "" }
}

#[tokio::test]
async fn what_is_reported_is_counted_for_every_api_and_form() {
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/images/generations", "/v1/messages"] {
        let backend = ScriptedBackend::start(metered).await;
        let gateway = Gateway::start(&config(&[Member { name: "a", backend: &backend, priority: 1, extra: extra(path) }], "", "")).await;
        let forms: &[bool] = if matches!(path, "/v1/embeddings" | "/v1/images/generations") { &[false] } else { &[false, true] };
        for (index, stream) in forms.iter().enumerate() {
            let got = gateway.post(path, &json!({ "model": "m", "stream": stream, "input": "x", "prompt": "x", "messages": [] })).await;
            assert_eq!(got.status, 200, "{path}: {}", got.text());
            let times = (index + 1) as f64;
            let expected = [11.0, 7.0, 3.0, 2.0, 5.0].map(|count| count * times);
            eventually(&format!("{path} streamed {stream}"), async || counts(&gateway).await == expected).await;
        }
        assert_eq!(unknown(&gateway).await, 0.0, "{path}");
    }
}

#[tokio::test]
async fn uploads_are_counted_held_or_streamed() {
    let backend = ScriptedBackend::start(metered).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "").replace("#server", "max_body = \"256KiB\"")).await;
    for (index, size) in [1_000, 400_000].into_iter().enumerate() {
        let form = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{}\r\n--XX--\r\n",
            "x".repeat(size)
        );
        let head = format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: g\r\ncontent-type: multipart/form-data; boundary=XX\r\ncontent-length: {}\r\n\r\n",
            form.len()
        );
        assert_eq!(ask(gateway.address, head + &form).await.unwrap().status, 200);
        let expected = [11.0, 7.0, 3.0, 2.0, 5.0].map(|count| count * (index + 1) as f64);
        eventually("counted", async || counts(&gateway).await == expected).await;
    }
}

#[tokio::test]
async fn a_stream_is_asked_for_its_usage_and_the_caller_sees_what_it_asked_for() {
    let backend = ScriptedBackend::start(metered).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let plain = r#"{ "model":"m", "stream":true, "messages":[{"role":"user","content":"say \"stream_options\""}] }"#;
    for (options, sent, told) in [
        ("", r#"{"stream_options":{"include_usage":true}, "model""#, false),
        (r#""stream_options":{"include_usage":false},"#, r#""stream_options":{"include_usage":true},"#, false),
        (
            r#""stream_options":{"include_obfuscation":false},"#,
            r#""stream_options":{"include_usage":true,"include_obfuscation":false},"#,
            false,
        ),
        (r#""stream_options":{"include_usage":true},"#, r#""stream_options":{"include_usage":true},"#, true),
    ] {
        let body = plain.replacen(" \"stream\"", &format!(" {options}\"stream\""), 1);
        let got = ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
        assert_eq!((got.status, got.text().contains("\"completion_tokens\"")), (200, told), "{options}: {}", got.text());
        assert!(got.text().ends_with(DONE) && got.text().matches("data: ").count() == if told { 4 } else { 3 });
        let arrived = String::from_utf8(backend.received().pop().unwrap().body).unwrap();
        assert!(arrived.contains(sent), "{arrived}");
        let without = |text: &str| {
            let mut value: Value = serde_json::from_str(text).unwrap();
            value.as_object_mut().unwrap().remove("stream_options");
            value
        };
        assert_eq!(without(&arrived), without(&body));
    }
    eventually("all are counted", async || counts(&gateway).await[0] == 44.0).await;
    let not_streamed = plain.replace("true", "false");
    ask(gateway.address, post("/v1/chat/completions", &[], not_streamed.as_bytes())).await.unwrap();
    assert_eq!(backend.received().pop().unwrap().body, not_streamed.as_bytes(), "byte for byte");
}

#[tokio::test]
async fn a_backend_too_old_for_the_question_is_asked_without_it() {
    let old = ScriptedBackend::start(|request| match request.json()["stream_options"].is_object() {
        true => Reply::json(
            400,
            r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error"}}"#,
        ),
        false => Reply::sse(whole_stream("x")),
    })
    .await;
    let members = [Member { name: "a", backend: &old, priority: 1, extra: "deployments = { m = \"renamed\" }" }];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    for expected in [2, 3, 4] {
        let got = gateway.stream().await;
        assert!(got.status == 200 && got.text().ends_with(DONE), "{}", got.text());
        assert_eq!(old.count(), expected, "asked once too often only once");
    }
    // A prompt of 8 tokens with all that is around it, and one token of text.
    let estimated = "spillway_estimated_tokens_total{backend=\"a\",deployment=\"renamed\",pool=\"pool\"}";
    eventually("what isn't reported is estimated", async || gateway.metric(estimated).await == 27.0).await;
    assert_eq!(gateway.metric("spillway_attempts_total{backend=\"a\",deployment=\"renamed\",outcome=\"ok\",pool=\"pool\"}").await, 3.0);
    let asked = json!({ "model": "m", "stream": true, "messages": [], "stream_options": { "include_usage": true } });
    assert_eq!(gateway.post("/v1/chat/completions", &asked).await.status, 400, "the caller's own question is the caller's own");
}

#[tokio::test]
async fn the_access_log_tells_what_an_answer_cost() {
    let backend = ScriptedBackend::start(metered).await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.jsonl");
    let text = config(&[member("a", &backend, 1)], "", "").replace("access = \"off\"", &format!("access = \"{}\"", log.display()));
    let gateway = Gateway::start(&text).await;
    gateway.stream().await;
    gateway.post("/v1/chat/completions", &json!({ "model": "none" })).await;
    let lines = || -> Vec<Value> {
        std::fs::read_to_string(&log).unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    eventually("two lines", async || lines().len() == 2).await;
    let expected = json!({ "input": 11, "output": 7, "cached_input": 3, "cache_write": 2, "reasoning": 5, "source": "reported" });
    assert_eq!((&lines()[0]["usage"], &lines()[1]["usage"]), (&expected, &Value::Null));
}
