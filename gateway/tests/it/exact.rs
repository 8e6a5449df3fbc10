//! Through every fault: what upstreams counted is what the ledger has, and what limits and budgets count.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend, Step};
use spillway_testkit::client::{ask, post};

use crate::support::*;

/// Dollars for a million tokens.
const PRICES: &str = "prices = { m = { input = 1.0, output = 10.0 } }";

/// What a backend has counted: of what it told, and of what it could not tell any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counted {
    told: [u64; 2],
    untold: u64,
}

type Books = Arc<Mutex<BTreeMap<&'static str, Counted>>>;

fn event(value: &Value) -> String {
    match value["type"].as_str() {
        Some(kind) => format!("event: {kind}\ndata: {value}\n\n"),
        None => format!("data: {value}\n\n"),
    }
}

/// The events of an answer to this request, its last ones with the usage.
fn events(path: &str, [input, output]: [u64; 2]) -> Vec<String> {
    let chat = |choices: Value| event(&json!({ "id": "c", "choices": choices }));
    let word = |word: &str| chat(json!([{ "index": 0, "delta": { "content": word }, "finish_reason": null }]));
    match path {
        "/v1/chat/completions" => vec![
            role(),
            word("one "),
            word("two"),
            stop(),
            event(&json!({ "id": "c", "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output } })) + DONE,
        ],
        "/v1/responses" => {
            let delta = |number: u64, text: &str| {
                event(
                    &json!({ "type": "response.output_text.delta", "sequence_number": number, "output_index": 0, "content_index": 0, "delta": text }),
                )
            };
            let usage = json!({ "input_tokens": input, "output_tokens": output });
            vec![
                event(&json!({ "type": "response.created", "sequence_number": 0, "response": { "id": "resp_1" } })),
                delta(1, "one "),
                delta(2, "two"),
                event(
                    &json!({ "type": "response.completed", "sequence_number": 3, "response": { "id": "resp_1", "output": [], "usage": usage } }),
                ),
            ]
        }
        _ => {
            let delta =
                |text: &str| event(&json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }));
            vec![
                event(
                    &json!({ "type": "message_start", "message": { "id": "m", "usage": { "input_tokens": input, "output_tokens": 1 } } }),
                ),
                event(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })),
                delta("one "),
                delta("two"),
                event(&json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": output } })),
                event(&json!({ "type": "message_stop" })),
            ]
        }
    }
}

fn plain(path: &str, [input, output]: [u64; 2]) -> String {
    match path {
        "/v1/chat/completions" => {
            let choice = json!({ "index": 0, "message": { "role": "assistant", "content": "one two" }, "finish_reason": "stop" });
            json!({ "id": "c", "choices": [choice], "usage": { "prompt_tokens": input, "completion_tokens": output } })
        }
        "/v1/responses" => json!({ "id": "resp_1", "object": "response", "output": [], "usage": { "input_tokens": input, "output_tokens": output } }),
        _ => json!({ "id": "m", "type": "message", "content": [{ "type": "text", "text": "one two" }], "usage": { "input_tokens": input, "output_tokens": output } }),
    }
    .to_string()
}

/// Answers as chance has it, and counts.
fn answer_by_chance(name: &'static str, books: &Books, rng: &Mutex<fastrand::Rng>, request: &Received) -> Reply {
    let mut rng = rng.lock();
    let usage = [rng.u64(1..20), rng.u64(1..40)];
    let stream = request.json()["stream"] == true;
    let mut books = books.lock();
    let counted = books.entry(name).or_default();
    let mut told = |reply: Reply| {
        counted.told = [counted.told[0] + usage[0], counted.told[1] + usage[1]];
        reply
    };
    let path = request.path();
    let last = [Step::Reset, Step::Close][rng.usize(..2)].clone();
    match rng.u32(..10) {
        0 => Reply::throttled(1),
        1 => Reply::json(500, "{}"),
        2 => Reply::raw([Step::Reset]),
        3 if stream => {
            let all = events(path, usage);
            let cut = rng.usize(0..all.len() - 1);
            counted.untold += usage[0] + usage[1];
            Reply::sse(all[..cut].to_vec()).then(last)
        }
        4 if !stream => {
            counted.untold += usage[0] + usage[1];
            Reply::json(200, &plain(path, usage)[..15]).chunked().then(last)
        }
        5 => Reply::json(400, r#"{"error":{"message":"bad","type":"invalid_request_error"}}"#),
        6 if stream => told(Reply::sse(events(path, usage)).then(last)),
        _ if stream => told(Reply::sse(events(path, usage))),
        _ => told(Reply::json(200, plain(path, usage))),
    }
}

/// One run: the ledger, the limit and the budget against what the backends counted.
async fn run(seed: u64, kind: &'static str, pool: &str) {
    let books = Books::default();
    let backend = async |name: &'static str, seed: u64| {
        let (books, rng) = (Arc::clone(&books), Mutex::new(fastrand::Rng::with_seed(seed)));
        ScriptedBackend::start(move |request| answer_by_chance(name, &books, &rng, request)).await
    };
    let (a, b) = (backend("a", seed).await, backend("b", seed + 1).await);
    let folder = tempfile::tempdir().unwrap();
    let extra = if kind == "anthropic" { format!("kind = \"anthropic\"\n{PRICES}") } else { PRICES.to_owned() };
    let extra = &extra;
    let members = [Member { extra, ..member("a", &a, 1) }, Member { extra, ..member("b", &b, 2) }];
    let limits = "[consumers.limits]\ntokens_per_minute = 1_000_000\nbudget = { usd = 1000.0, period = \"day\" }\n";
    let rest = consumer("crm", &format!("models = [\"m\"]\n{limits}"));
    let circuit = "[pools.circuit]\nfailures = 10000\ndefault_retry_after = \"1ms\"\n";
    let text = config(&members, &format!("{circuit}{pool}"), &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut asked = Vec::new();
    for _ in 0..40 {
        let stream = rng.bool();
        let (path, body) = match kind {
            "anthropic" => (
                "/v1/messages",
                json!({ "model": "m", "stream": stream, "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] }),
            ),
            _ if rng.bool() => {
                ("/v1/responses", json!({ "model": "m", "stream": stream, "store": false, "max_output_tokens": 100, "input": "hi" }))
            }
            _ => (
                "/v1/chat/completions",
                json!({ "model": "m", "stream": stream, "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] }),
            ),
        };
        let request = post(path, &[("api-key", "crm")], body.to_string().as_bytes());
        asked.push(tokio::spawn(ask(gateway.address, request)));
    }
    for answer in asked {
        let got = answer.await.unwrap().unwrap();
        assert!(matches!(got.status, 200 | 400 | 502 | 503 | 429), "{}: {}", got.status, got.text());
    }
    eventually("nothing is in flight", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    let expected = books.lock().clone();
    let tokens = |row: &Value| row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap();
    let mut rows = Vec::new();
    let mut limits = Value::Null;
    // Estimates are made in the background.
    eventually("ledger, limits and backends agree", async || {
        rows = ledger_rows(folder.path());
        limits = gateway.admin("/api/limits").await.json()["scopes"][0]["limits"].clone();
        let told = |name: &str, field: &str| -> u64 {
            rows.iter().filter(|row| row["source"] == "reported" && row["backend"] == name).map(|row| row[field].as_u64().unwrap()).sum()
        };
        let as_told =
            |name: &str| [told(name, "input_tokens"), told(name, "output_tokens")] == expected.get(name).copied().unwrap_or_default().told;
        as_told("a") && as_told("b") && limits["tokens_per_minute"]["used"] == json!(rows.iter().map(tokens).sum::<u64>())
    })
    .await;
    let estimated: u64 = rows.iter().filter(|row| row["source"] == "estimated").map(tokens).sum();
    let untold: u64 = expected.values().map(|counted| counted.untold).sum();
    assert!(estimated >= untold, "what nobody told is booked at its bound: {estimated} {untold}");
    let money: f64 = rows.iter().map(|row| row["cost_usd"].as_f64().unwrap_or_default()).sum();
    let spent = limits["budget"]["used"].as_f64().unwrap();
    assert!((spent - money).abs() < 1e-6, "{spent} {money}: {limits}");
}

#[tokio::test]
async fn ledger_limits_and_budget_are_what_upstreams_counted() {
    for seed in 0..2 {
        for kind in ["openai", "anthropic"] {
            for pool in ["", "[pools.streams]\nrescue = \"verified\"\n", "[pools.retry]\nsame_target = 1\n"] {
                run(seed * 1000, kind, pool).await;
            }
        }
    }
}
