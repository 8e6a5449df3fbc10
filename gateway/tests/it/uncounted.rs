//! Usage that is easily missed: steps beside an answer's own counts, speech, failed answers, long ones, and reports of one
//! half.

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};

use crate::support::*;
use crate::usage::sse;

/// Of a million tokens: input one dollar, output ten.
const PRICES: &str = "prices = { m = { input = 1.0, output = 10.0 } }";

/// The rows that a request for `path` leaves, with backends that answer like this.
async fn booked(reply: Reply, path: &str, body: Value, extra: &str, rest: &str) -> Vec<Value> {
    let backend = ScriptedBackend::start(move |_: &Received| reply.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("{rest}\n[ledger]\ndurability = \"strict\"\n");
    let text = config(&[Member { name: "a", backend: &backend, priority: 1, extra }], "", &rest);
    let gateway = Gateway::start(&text.replace("#server", &state_dir(folder.path()))).await;
    assert_eq!(gateway.post(path, &body).await.status, 200);
    ledger_rows(folder.path())
}

/// Source, input and output of a row.
fn told(row: &Value) -> (&str, u64, u64) {
    (row["source"].as_str().unwrap(), row["input_tokens"].as_u64().unwrap(), row["output_tokens"].as_u64().unwrap())
}

fn costs(row: &Value, usd: f64) {
    assert!((row["cost_usd"].as_f64().unwrap() - usd).abs() < 1e-9, "{usd}: {row:#}");
}

fn step(kind: &str, model: Option<&str>, input: u64, output: u64) -> Value {
    let mut step = json!({ "type": kind, "input_tokens": input, "output_tokens": output, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0 });
    if let Some(model) = model {
        step["model"] = json!(model);
    }
    step
}

/// A message with this usage, plain and streamed.
fn message(usage: &Value) -> [Reply; 2] {
    let plain = json!({ "type": "message", "content": [{ "type": "text", "text": "hi" }], "usage": usage });
    let events = [
        json!({ "type": "message_start", "message": { "usage": { "input_tokens": usage["input_tokens"], "output_tokens": 1 } } }),
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "hi" } }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": usage }),
        json!({ "type": "message_stop" }),
    ];
    let stream = events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    [Reply::json(200, plain.to_string()), Reply::sse(stream)]
}

#[tokio::test]
async fn every_step_of_a_message_is_counted_at_its_models_price() {
    let compaction = step("compaction", None, 180_000, 3500);
    let own = step("message", None, 23_000, 1000);
    // Of the built-in table: 5 and 25 dollars.
    let advisor = step("advisor_message", Some("claude-opus-4-6"), 800_000, 2000);
    let fallback = step("fallback_message", Some("claude-opus-4-6"), 100_000, 1000);
    let unknown = step("advisor_message", Some("claude-unheard-of"), 1000, 100);
    for (steps, own, tokens, usd, exact) in [
        (vec![compaction.clone(), own.clone()], (23_000, 1000), (203_000, 4500), 0.203 + 0.045, true),
        (vec![compaction], (0, 0), (180_000, 3500), 0.180 + 0.035, true),
        (vec![own.clone(), advisor], (23_000, 1000), (823_000, 3000), 0.023 + 0.010 + 4.0 + 0.05, true),
        (vec![step("message", None, 1000, 0), fallback], (100_000, 1000), (101_000, 1000), 0.001 + 0.5 + 0.025, true),
        (vec![own, unknown], (23_000, 1000), (24_000, 1100), 0.024 + 0.011, false),
    ] {
        let usage = json!({ "input_tokens": own.0, "iterations": steps, "output_tokens": own.1 });
        for (reply, stream) in message(&usage).into_iter().zip([false, true]) {
            let body = json!({ "model": "m", "max_tokens": 50, "stream": stream, "messages": [] });
            let extra = format!("kind = \"anthropic\"\n{PRICES}");
            let rows = booked(reply, "/v1/messages", body, &extra, "").await;
            assert_eq!((told(&rows[0]), rows.len()), (("reported", tokens.0, tokens.1), 1), "{usage}");
            costs(&rows[0], usd);
            assert_eq!(rows[0]["cost_estimated"], json!(!exact), "{:#}", rows[0]);
        }
    }
}

#[tokio::test]
async fn speech_is_counted_by_what_is_said_however_long_it_sounds() {
    let said = "Hello there. ".repeat(100);
    // Characters by one and a half; the prompt is a quarter of the request's bytes.
    let tokens = said.len() as u64 * 3 / 2;
    for bytes in [2_000, 20_000, 400_000] {
        let reply = Reply::json(200, "x".repeat(bytes)).header("content-type", "audio/mpeg");
        let body = json!({ "model": "m", "input": said, "voice": "x" });
        let input = (body.to_string().len() as u64).div_ceil(4);
        let rows = booked(reply, "/v1/audio/speech", body, PRICES, "").await;
        assert_eq!(rows.len(), 1, "{bytes}");
        let (source, seen, output) = told(&rows[0]);
        // An answer that is not held isn't known to be whole: then the request's own length counts.
        let most = (input * 4) * 3 / 2;
        assert!(source == "estimated" && seen == input && (tokens..=most).contains(&output), "{bytes}: {:#}", rows[0]);
        assert!(rows[0]["cost_usd"].as_f64().unwrap() >= tokens as f64 * 10e-6, "{:#}", rows[0]);
    }
}

#[tokio::test]
async fn a_failed_plain_answer_costs_what_it_reports() {
    let failed = json!({ "id": "resp_1", "object": "response", "status": "failed", "error": { "code": "server_error", "message": "x" },
        "output": [], "usage": { "input_tokens": 1000, "output_tokens": 50 } });
    let fails = |usage: Value| {
        let mut answer = failed.clone();
        answer["usage"] = usage;
        Reply::json(200, answer.to_string())
    };
    for (reply, expected) in
        [(fails(failed["usage"].clone()), 2), (fails(Value::Null), 1), (fails(json!({ "input_tokens": 0, "output_tokens": 0 })), 1)]
    {
        let first = ScriptedBackend::start(move |_: &Received| reply.clone()).await;
        let served = json!({ "id": "resp_2", "output": [], "usage": { "input_tokens": 10, "output_tokens": 5 } }).to_string();
        let second = ScriptedBackend::start(move |_: &Received| Reply::json(200, served.clone())).await;
        let folder = tempfile::tempdir().unwrap();
        let members = [
            Member { name: "a", backend: &first, priority: 1, extra: PRICES },
            Member { name: "b", backend: &second, priority: 2, extra: PRICES },
        ];
        let rest = consumer("crm", "[consumers.limits]\ntokens_per_minute = 10_000\n") + "[ledger]\ndurability = \"strict\"\n";
        let gateway = Gateway::start(&config(&members, "", &rest).replace("#server", &state_dir(folder.path()))).await;
        let body = json!({ "model": "m", "input": "x", "max_output_tokens": 60 });
        let request = spillway_testkit::client::post("/v1/responses", &[("api-key", "crm")], body.to_string().as_bytes());
        assert_eq!(spillway_testkit::client::ask(gateway.address, request).await.unwrap().status, 200);
        let rows = ledger_of(folder.path(), expected).await;
        let last = rows.last().unwrap();
        assert_eq!((told(last), &last["backend"]), (("reported", 10, 5), &json!("b")));
        if expected == 2 {
            let failed = &rows[0];
            assert_eq!(
                (told(failed), failed["outcome"].as_str(), failed["answered"].as_bool()),
                (("reported", 1000, 50), Some("no_answer"), Some(false))
            );
            costs(failed, 1000e-6 + 50e-5);
        }
        let used = if expected == 2 { 1065 } else { 15 };
        eventually("counted for the consumer", async || {
            gateway.admin("/api/limits").await.json()["scopes"][0]["limits"]["tokens_per_minute"]["used"] == used
        })
        .await;
    }
}

#[tokio::test]
async fn more_is_counted_of_a_long_answer_without_usage() {
    for length in [30_000, 60_000, 70_000, 200_000, 1_000_000] {
        let text = answer(&"word ".repeat(length / 5));
        let seen = text.len() as u64 / 4;
        let rest = "[usage]\nestimate = \"by-length\"\n";
        let rows = booked(Reply::json(200, text), "/v1/chat/completions", chat(false), PRICES, rest).await;
        let (source, _, output) = told(&rows[0]);
        assert_eq!((source, output, rows.len()), ("estimated", seen, 1), "{length}");
    }
    // What is no text has no tokens of output.
    let vectors = json!({ "data": [{ "embedding": vec![0.5; 30_000] }] }).to_string();
    let rows = booked(Reply::json(200, vectors), "/v1/embeddings", json!({ "model": "m", "input": "x" }), PRICES, "").await;
    assert_eq!(told(&rows[0]).2, 0, "{:#}", rows[0]);
}

#[tokio::test]
async fn one_half_of_a_usage_is_completed_and_marked() {
    let text = "word ".repeat(200);
    let words = 200..210;
    let plain = |usage: &str| {
        let answer = json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }] })
            .to_string();
        Reply::json(200, format!(r#"{},"usage":{usage}}}"#, &answer[..answer.len() - 1]))
    };
    let stream = |usage: &str| {
        let usage: Value = serde_json::from_str(usage).unwrap();
        let mut events = sse(&[
            json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
            json!({ "choices": [], "usage": usage }),
        ]);
        events.push(DONE.to_owned());
        Reply::sse(events)
    };
    let exact = |count: u64| count..count + 1;
    let prompt = 8..9;
    for (usage, source, input, output) in [
        (r#"{"prompt_tokens":1000}"#, "estimated", exact(1000), words.clone()),
        (r#"{"completion_tokens":500}"#, "estimated", prompt.clone(), exact(500)),
        (r#"{"prompt_tokens":0,"completion_tokens":0}"#, "estimated", prompt, words.clone()),
        (r#"{"prompt_tokens":1000.0,"completion_tokens":5e2}"#, "reported", exact(1000), exact(500)),
    ] {
        for (reply, streamed) in [(plain(usage), false), (stream(usage), true)] {
            let rows = booked(reply, "/v1/chat/completions", chat(streamed), PRICES, "").await;
            let (from, read, written) = told(&rows[0]);
            assert!(from == source && input.contains(&read) && output.contains(&written), "{usage} {streamed}: {:#}", rows[0]);
        }
    }
    let extra = format!("kind = \"anthropic\"\n{PRICES}");
    for (start, end, input, output) in [
        (json!({ "input_tokens": 1000, "output_tokens": 1 }), Value::Null, exact(1000), words),
        (json!({}), json!({ "output_tokens": 500 }), 1..30, exact(500)),
    ] {
        let mut last = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } });
        if !end.is_null() {
            last["usage"] = end;
        }
        let events = [
            json!({ "type": "message_start", "message": { "usage": start } }),
            json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": text } }),
            last,
            json!({ "type": "message_stop" }),
        ];
        let reply = Reply::sse(events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())));
        let body = json!({ "model": "m", "stream": true, "max_tokens": 600, "messages": [{ "role": "user", "content": "hi" }] });
        let rows = booked(reply, "/v1/messages", body, &extra, "").await;
        let (from, read, written) = told(&rows[0]);
        assert!(from == "estimated" && input.contains(&read) && output.contains(&written), "{:#}", rows[0]);
    }
}

#[tokio::test]
async fn each_image_of_a_stream_is_counted() {
    let image = json!({ "type": "image_generation.completed", "b64_json": "AA", "usage": { "input_tokens": 10, "output_tokens": 1000 } });
    let events = vec![format!("event: image_generation.completed\ndata: {image}\n\n"); 3];
    let body = json!({ "model": "m", "prompt": "x", "n": 3, "stream": true });
    let rows = booked(Reply::sse(events), "/v1/images/generations", body, PRICES, "").await;
    assert_eq!(told(&rows[0]), ("reported", 30, 3000));
}

#[tokio::test]
async fn a_fast_mode_is_a_tier_that_must_be_granted_and_has_its_price() {
    let usage = json!({ "input_tokens": 1000, "output_tokens": 100, "speed": "fast", "service_tier": "standard" });
    let backend = ScriptedBackend::start(move |_: &Received| message(&usage)[0].clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("flexible", "service_tiers = [\"flex\"]\n")
        + &consumer("fast", "service_tiers = [\"priority\"]\n")
        + "[ledger]\ndurability = \"strict\"\n";
    let extra = "kind = \"anthropic\"\nprices = { m = { table = \"claude-opus-4-8\" } }";
    let text = config(&[Member { name: "a", backend: &backend, priority: 1, extra }], "", &rest);
    let gateway = Gateway::start(&text.replace("#server", &state_dir(folder.path()))).await;
    let asked = async |consumer: &str, speed: Value| {
        let body = json!({ "model": "m", "max_tokens": 50, "speed": speed, "messages": [] }).to_string();
        let request = spillway_testkit::client::post("/v1/messages", &[("api-key", consumer)], body.as_bytes());
        spillway_testkit::client::ask(gateway.address, request).await.unwrap()
    };
    let refused = asked("flexible", json!("fast")).await;
    assert!(refused.status == 403 && refused.text().contains("priority"), "{}", refused.text());
    assert_eq!(asked("flexible", json!("standard")).await.status, 200);
    assert_eq!((asked("fast", json!("fast")).await.status, backend.count()), (200, 2));
    let row = ledger_rows(folder.path()).pop().unwrap();
    assert_eq!((&row["service_tier"], &row["cost_estimated"]), (&json!("ultrafast"), &json!(false)));
    // Of the built-in table: twice 5 and 25 dollars.
    costs(&row, 1000.0 * 10e-6 + 100.0 * 50e-6);
}
