//! What a caller sees of each fault of a pool's first member: the table of `docs/failover.md`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spillway_testkit::backend::{Received, Reply, ScriptedBackend, Step};
use spillway_testkit::client::Response;
use spillway_testkit::wire::Ended;

use crate::support::*;

const TIMERS: &str = "[pools.timeouts]\nfirst_token = \"400ms\"\nanswer = \"400ms\"\nidle = \"400ms\"";
const RESCUE: &str = "[pools.streams]\nrescue = \"verified\"\n";
const TOKENS: usize = 60;

fn text(tokens: usize) -> String {
    (0..tokens).map(|token| format!("t{token} ")).collect()
}

fn events(tokens: usize) -> Vec<String> {
    std::iter::once(role()).chain((0..tokens).map(|token| delta(&format!("t{token} ")))).collect()
}

fn usage() -> String {
    "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":60}}\n\n".to_owned()
}

/// A whole answer, streamed or plain.
fn good(request: &Received) -> Reply {
    match request.json()["stream"] == true {
        true => Reply::sse(events(TOKENS).into_iter().chain([stop(), usage(), DONE.to_owned()])),
        false => Reply::json(200, plain(TOKENS)),
    }
}

fn plain(tokens: usize) -> String {
    let choice = serde_json::json!({ "index": 0, "message": { "role": "assistant", "content": text(tokens) }, "finish_reason": "stop" });
    serde_json::json!({ "id": "c", "object": "chat.completion", "choices": [choice], "usage": { "prompt_tokens": 7, "completion_tokens": 60 } }).to_string()
}

/// An answer that does this after so many tokens.
fn ends(request: &Received, tokens: usize, last: Step) -> Reply {
    let begun = match request.json()["stream"] == true {
        true => Reply::sse(events(tokens)),
        false => Reply::json(200, plain(TOKENS)[..20 + tokens].to_owned()).chunked(),
    };
    begun.then(last)
}

fn slow(request: &Received, wait: u64) -> Reply {
    let body = if request.json()["stream"] == true { events(TOKENS).concat() + &stop() + &usage() + DONE } else { plain(TOKENS) };
    let kind = if request.json()["stream"] == true { "text/event-stream" } else { "application/json" };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    Reply::raw([Step::Pause(Duration::from_millis(wait)), Step::Write(head.into_bytes())])
}

type Fault = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

/// What the first member does, by the table's words.
fn faults() -> Vec<(&'static str, Fault)> {
    let once = |reply: Reply| {
        let asked = AtomicUsize::new(0);
        move |request: &Received| if asked.fetch_add(1, Ordering::SeqCst) == 0 { reply.clone() } else { good(request) }
    };
    let always = |reply: Reply| move |_: &Received| reply.clone();
    let too_long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    let policy = r#"{"error":{"message":"no","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    let within = r#"{"error":{"message":"boom","type":"server_error"}}"#;
    vec![
        ("throttles once, with Retry-After", Box::new(once(Reply::throttled(30_000)))),
        ("throttles for ever, with Retry-After", Box::new(always(Reply::throttled(30_000)))),
        ("throttles for ever, without Retry-After", Box::new(always(Reply::json(429, "{}")))),
        ("answers 500 once", Box::new(once(Reply::json(500, "{}")))),
        ("answers 503 for ever", Box::new(always(Reply::json(503, "{}")))),
        ("resets the connection", Box::new(always(Reply::raw([Step::Reset])))),
        ("is silent for longer than `first_token` or `answer`", Box::new(always(Reply::raw([Step::Hang])))),
        ("is slow to begin, within `first_token` or `answer`", Box::new(|request| slow(request, 150))),
        ("breaks off before its first output", Box::new(|request| ends(request, 0, Step::Reset))),
        ("breaks off after 40 of 60 tokens", Box::new(|request| ends(request, 40, Step::Reset))),
        ("falls silent after 20 tokens for longer than `idle`", Box::new(|request| ends(request, 20, Step::Hang))),
        (
            "sends an event that is no JSON",
            Box::new(|_| Reply::sse(events(TOKENS).into_iter().chain(["data: {\"cho\n\n".to_owned(), stop(), usage(), DONE.to_owned()]))),
        ),
        ("ends without `[DONE]`", Box::new(|_| Reply::sse(events(TOKENS).into_iter().chain([stop(), usage()])))),
        (
            "fails inside a 200, before its first output",
            Box::new(move |request| match request.json()["stream"] == true {
                true => Reply::sse([role(), format!("data: {within}\n\n")]),
                false => Reply::json(200, within),
            }),
        ),
        ("has too small a window, and the second a larger one", Box::new(always(Reply::json(400, too_long)))),
        ("refuses for its content policy", Box::new(always(Reply::json(400, policy)))),
        (
            "answers with a page instead of an answer",
            Box::new(always(Reply::raw([Step::Write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>".to_vec(),
            )]))),
        ),
    ]
}

/// What came, in the table's words.
fn seen(got: &Response) -> String {
    let body = got.text();
    let said: String = match got.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        true => {
            let events = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
            let chunks = events.filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok());
            chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
        }
        false => got.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned(),
    };
    match (got.status, got.ended) {
        (200, Ended::Whole) if said == text(TOKENS) && body.contains("x-spillway-rescued") => "whole, continued by the second".to_owned(),
        (200, Ended::Whole) if said == text(TOKENS) => {
            format!("whole, from the {}", if got.header("x-spillway-backend") == Some("a") { "first" } else { "second" })
        }
        (200, Ended::Cut) if body.contains("upstream_error") && text(TOKENS).starts_with(&said) => {
            "a part, an error event, no clean end".to_owned()
        }
        (400, Ended::Whole) if body.contains("ResponsibleAIPolicyViolation") => "its own 400".to_owned(),
        other => format!("{other:?}: {body}"),
    }
}

#[tokio::test]
async fn the_table_says_what_a_caller_sees() {
    let page = include_str!("../../../docs/failover.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| the first member"));
    let table: BTreeMap<&str, [&str; 3]> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0], [cells[1], cells[2], cells[3]])
        })
        .collect();
    assert_eq!(faults().len(), table.len(), "a row for each fault");
    for (column, pool, stream) in [(0, TIMERS.to_owned(), true), (1, RESCUE.to_owned() + TIMERS, true), (2, TIMERS.to_owned(), false)] {
        for (fault, reply) in faults() {
            let expected = table.get(fault).unwrap_or_else(|| panic!("the table has no row for '{fault}'"))[column];
            if expected == "-" {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let (first, second) = (ScriptedBackend::start(reply).await, ScriptedBackend::start(good).await);
            let members = [member("a", &first, 1), member("b", &second, 2)];
            let text = config(&members, &pool, "").replace("#server", &state_dir(folder.path()));
            let text = text
                .replace("priority = 1 }", "priority = 1, context = 1000 }")
                .replace("priority = 2 }", "priority = 2, context = 2000 }");
            let gateway = Gateway::start(&text).await;
            let got = gateway.post("/v1/chat/completions", &chat(stream)).await;
            assert_eq!(seen(&got), expected, "{fault}, column {column}");
            // What was answered is booked as it was reported, once.
            if expected.starts_with("whole") {
                eventually("the answer is booked", async || {
                    let rows = ledger_rows(folder.path());
                    let reported: Vec<_> = rows.iter().filter(|row| row["source"] == "reported").collect();
                    reported.len() == 1 && reported[0]["output_tokens"] == 60 && reported[0]["input_tokens"] == 7
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn a_member_that_flaps_costs_nobody_an_answer() {
    let asked = AtomicUsize::new(0);
    // Ten requests well, ten not.
    let first = ScriptedBackend::start(move |request| {
        if (asked.fetch_add(1, Ordering::SeqCst) / 10).is_multiple_of(2) { good(request) } else { Reply::raw([Step::Reset]) }
    })
    .await;
    let second = ScriptedBackend::start(good).await;
    let circuit = "[pools.circuit]\nfailures = 3\nfirst_trip = \"20ms\"\ntrip = \"200ms\"";
    let gateway = Gateway::start(&config(&[member("a", &first, 1), member("b", &second, 2)], circuit, "")).await;
    // The circuit decides how often it is asked in which time: on until it was unwell, and well again.
    let mut round = 0;
    while !(first.count() > 20 && second.count() > 5) {
        let got = gateway.post("/v1/chat/completions", &chat(round % 2 == 0)).await;
        assert!(seen(&got).starts_with("whole"), "{round}: {}", seen(&got));
        round += 1;
        assert!(round < 20_000, "it never comes back: {} {}", first.count(), second.count());
        tokio::task::yield_now().await;
    }
}
