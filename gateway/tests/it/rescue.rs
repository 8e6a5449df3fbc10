//! Streams that break after their first output, and are continued.

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend, Step};
use spillway_testkit::client::Response;
use spillway_testkit::wire::Ended;

use crate::support::*;

const RESCUE: &str = "[pools.streams]\nrescue = \"verified\"\n[pools.timeouts]\nidle = \"300ms\"";

/// The events of a stream of these words, of which an id made it.
type Events = fn(&str, &[&str]) -> Vec<String>;

/// A chat stream of these words, of which `id` made it.
fn chat_events(id: &str, words: &[&str]) -> Vec<String> {
    let event = |choices: Value, more: Value| {
        let mut chunk = json!({ "id": id, "object": "chat.completion.chunk", "created": id.len(), "model": "m", "choices": choices });
        if !more.is_null() {
            chunk["usage"] = more;
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, end: Value| json!([{ "index": 0, "delta": delta, "finish_reason": end }]);
    let mut events = vec![event(delta(json!({ "role": "assistant", "content": "" }), Value::Null), Value::Null)];
    events.extend(words.iter().map(|word| event(delta(json!({ "content": word }), Value::Null), Value::Null)));
    events.push(event(delta(json!({}), json!("stop")), Value::Null));
    events.push(event(json!([]), json!({ "prompt_tokens": 7, "completion_tokens": 9 })));
    events.push(DONE.to_owned());
    events
}

fn message_events(id: &str, words: &[&str]) -> Vec<String> {
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let mut events = vec![
        event(
            json!({ "type": "message_start", "message": { "id": id, "type": "message", "role": "assistant", "content": [], "usage": { "input_tokens": 7, "output_tokens": 1 } } }),
        ),
        event(json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })),
    ];
    events.extend(
        words
            .iter()
            .map(|word| event(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } }))),
    );
    events.push(event(json!({ "type": "content_block_stop", "index": 0 })));
    events.push(event(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 9 } })));
    events.push(event(json!({ "type": "message_stop" })));
    events
}

fn response_events(id: &str, words: &[&str]) -> Vec<String> {
    let mut number = 0;
    let mut event = |mut value: Value| {
        value["sequence_number"] = json!(number);
        number += 1;
        format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap())
    };
    let item = format!("msg_{id}");
    let text = words.concat();
    let whole = json!({ "id": item, "type": "message", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": text, "annotations": [] }] });
    let mut events = vec![
        event(json!({ "type": "response.created", "response": { "id": id, "object": "response", "status": "in_progress", "output": [] } })),
        event(
            json!({ "type": "response.output_item.added", "output_index": 0, "item": { "id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": [] } }),
        ),
    ];
    events.extend(words.iter().map(|word| {
        event(json!({ "type": "response.output_text.delta", "item_id": item, "output_index": 0, "content_index": 0, "delta": word }))
    }));
    events
        .push(event(json!({ "type": "response.output_text.done", "item_id": item, "output_index": 0, "content_index": 0, "text": text })));
    events.push(event(json!({ "type": "response.output_item.done", "output_index": 0, "item": whole })));
    let usage = json!({ "input_tokens": 7, "output_tokens": 9 });
    events.push(event(json!({ "type": "response.completed", "response": { "id": id, "object": "response", "status": "completed", "output": [whole], "usage": usage } })));
    events
}

fn begins(events: &[String], last: Step) -> Reply {
    Reply::sse(events.to_vec()).then(last)
}

fn said(got: &Response) -> String {
    let values = got.text();
    let values = values.split("\n\n").filter_map(|event| serde_json::from_str::<Value>(event.split_once("data: ")?.1).ok());
    values
        .filter_map(|value| {
            let delta = value["delta"].as_str().filter(|_| value["type"] == "response.output_text.delta");
            let text = value["choices"][0]["delta"]["content"].as_str().or(value["delta"]["text"].as_str()).or(delta)?;
            Some(text.to_owned())
        })
        .collect()
}

/// What came, which members were asked how often, the rows of the ledger, and the counters by result.
async fn rescued(
    pool: &str,
    path: &str,
    first: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    second: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (Response, [usize; 2], Vec<Value>, [f64; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (ScriptedBackend::start(first).await, ScriptedBackend::start(second).await);
    let extra = if path == "/v1/messages" { "kind = \"anthropic\"" } else { "" };
    let members = [Member { extra, ..member("a", &first, 1) }, Member { extra, ..member("b", &second, 2) }];
    let text = config(&members, pool, "").replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let body = json!({ "model": "m", "max_tokens": 50, "stream": true, "messages": [{ "role": "user", "content": "hi" }], "stream_options": { "include_usage": true } });
    let response = json!({ "model": "m", "input": "hi", "stream": true, "store": false });
    let body = if path == "/v1/responses" { response } else { body };
    let got = gateway.post(path, &body).await;
    eventually("nothing is in flight", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    let rows = ledger_of(folder.path(), first.count() + second.count()).await;
    let mut counted = [0.0; 3];
    for (at, result) in ["ok", "differs", "failed"].into_iter().enumerate() {
        counted[at] = gateway.metric(&format!("spillway_rescues_total{{pool=\"pool\",result=\"{result}\"}}")).await;
    }
    let bodies: Vec<Value> = first.received().iter().chain(&second.received()).map(Received::json).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "the very same request: {bodies:?}");
    (got, [first.count(), second.count()], rows, counted)
}

const WORDS: [&str; 4] = ["A spillway ", "lets water ", "run off ", "safely."];
/// The same text, cut elsewhere.
const OTHERWISE: [&str; 5] = ["A spill", "way lets", " water run ", "off safe", "ly."];

#[tokio::test]
async fn a_broken_stream_is_continued_by_an_answer_that_repeats_it() {
    let apis: [(&str, Events); 3] =
        [("/v1/chat/completions", chat_events), ("/v1/messages", message_events), ("/v1/responses", response_events)];
    for (path, events) in apis {
        for (last, sent) in [(Step::Reset, 3), (Step::Close, 4), (Step::Hang, 5)] {
            let first = events("first", &WORDS)[..sent].to_vec();
            let (got, asked, rows, counted) =
                rescued(RESCUE, path, move |_| begins(&first, last.clone()), move |_| Reply::sse(events("second", &OTHERWISE))).await;
            assert_eq!((got.status, got.ended, said(&got)), (200, Ended::Whole, WORDS.concat()), "{path} {sent}: {}", got.text());
            assert_eq!((asked, counted), ([1, 1], [1.0, 0.0, 0.0]), "{path}");
            assert!(!got.text().contains("second"), "one answer has one id: {}", got.text());
            assert!(got.text().contains("x-spillway-rescued") && !got.text().contains("\"error\""), "{}", got.text());
            let booked: Vec<_> = rows.iter().map(|row| (row["source"].as_str().unwrap(), row["answered"].clone())).collect();
            assert_eq!((booked[0].0, booked[1].0), ("estimated", "reported"), "{rows:?}");
            assert_eq!((&rows[1]["input_tokens"], &rows[1]["output_tokens"]), (&json!(7), &json!(9)));
        }
    }
}

/// A response that runs in the background: what came of it, the requests that its backend got, and the ledger's rows.
async fn in_the_background(rest: impl Fn(&Received) -> Reply + Send + Sync + 'static, pool: &str) -> (Response, Vec<Received>, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let events = response_events("resp_1", &WORDS);
    let backend = ScriptedBackend::start(move |request| match request.head.line[0].as_str() {
        "POST" => begins(&events[..4], Step::Reset),
        _ => rest(request),
    })
    .await;
    let other = ScriptedBackend::start(|_| Reply::sse(response_events("resp_2", &WORDS))).await;
    let text = config(&[member("a", &backend, 1), member("b", &other, 2)], pool, "").replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let got = gateway
        .post("/v1/responses?x=1", &json!({ "model": "m", "input": "hi", "stream": true, "background": true, "max_output_tokens": 50 }))
        .await;
    let rows = ledger_of(folder.path(), 1).await;
    assert_eq!(other.count(), 0, "what runs is not run again");
    (got, backend.received(), rows)
}

#[tokio::test]
async fn a_response_in_the_background_is_read_on_where_it_runs() {
    for from in [0, 4] {
        let rest = move |_: &Received| Reply::sse(response_events("resp_1", &WORDS).split_off(from));
        let (got, asked, rows) = in_the_background(rest, RESCUE).await;
        assert_eq!((got.ended, said(&got)), (Ended::Whole, WORDS.concat()), "{}", got.text());
        let whole = got.text().replace(": x-spillway-rescued: 1\n", "");
        assert_eq!(whole, response_events("resp_1", &WORDS).concat(), "byte for byte");
        assert_eq!((asked.len(), asked[1].path(), asked[1].body.len()), (2, "/v1/responses/resp_1?stream=true&starting_after=3", 0));
        assert_eq!((asked[1].header("content-length"), asked[1].header("content-type")), (None, None));
        assert_eq!(
            (rows.len(), &rows[0]["source"], &rows[0]["output_tokens"]),
            (1, &json!("reported"), &json!(9)),
            "one response, booked once"
        );
    }
}

#[tokio::test]
async fn a_response_in_the_background_that_can_not_be_read_on_ends_as_any_broken_stream() {
    for (rest, pool) in [
        (Reply::json(404, r#"{"error":{"code":"not_found"}}"#), RESCUE),
        (begins(&response_events("resp_1", &WORDS)[4..5], Step::Reset), RESCUE),
        (Reply::sse(response_events("resp_1", &WORDS).split_off(4)), ""),
    ] {
        let (got, asked, rows) = in_the_background(move |_| rest.clone(), pool).await;
        assert_eq!((got.ended, asked.len()), (Ended::Cut, if pool.is_empty() { 1 } else { 2 }), "{}", got.text());
        assert!(WORDS.concat().starts_with(&said(&got)) && got.text().contains("upstream_error"), "{}", got.text());
        assert_eq!((rows.len(), &rows[0]["source"]), (1, &json!("estimated")));
    }
}

#[tokio::test]
async fn an_error_within_is_continued_too() {
    let mut first = chat_events("first", &WORDS)[..3].to_vec();
    first.push("data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\"}}\n\n".to_owned());
    let (got, ..) =
        rescued(RESCUE, "/v1/chat/completions", move |_| Reply::sse(first.clone()), |_| Reply::sse(chat_events("second", &OTHERWISE)))
            .await;
    assert_eq!((got.ended, said(&got)), (Ended::Whole, WORDS.concat()), "{}", got.text());
}

#[tokio::test]
async fn what_is_no_repetition_ends_as_any_broken_stream() {
    let first = || {
        let events = chat_events("first", &WORDS)[..3].to_vec();
        move |_: &Received| begins(&events, Step::Reset)
    };
    let other = chat_events("second", &["A spillway ", "is a weir."]);
    let short = chat_events("second", &["A spill"]);
    let cut = chat_events("second", &OTHERWISE)[..3].to_vec();
    for (what, second, counted) in [
        ("another text", Reply::sse(other), [0.0, 1.0, 0.0]),
        ("a shorter one", Reply::sse(short), [0.0, 1.0, 0.0]),
        ("one that breaks, too", begins(&cut, Step::Reset), [0.0, 0.0, 1.0]),
        ("a plain answer", Reply::json(200, answer("A spillway lets water run off safely.")), [0.0, 0.0, 1.0]),
    ] {
        let (got, asked, _, seen) = rescued(RESCUE, "/v1/chat/completions", first(), move |_| second.clone()).await;
        assert_eq!((got.status, got.ended, asked, seen), (200, Ended::Cut, [1, 1], counted), "{what}: {}", got.text());
        assert!(WORDS.concat().starts_with(&said(&got)), "{what}: {}", got.text());
        assert!(got.text().contains("\"code\":\"upstream_error\"") && !got.text().contains("rescued"), "{what}: {}", got.text());
    }
}

#[tokio::test]
async fn nothing_is_continued_unless_the_pool_says_so() {
    let events = chat_events("first", &WORDS)[..3].to_vec();
    let second = ScriptedBackend::start(|_| Reply::sse(chat_events("second", &OTHERWISE))).await;
    for pool in ["", "[pools.streams]\nrescue = \"verified\"\nrescue_max = \"5B\""] {
        let events = events.clone();
        let first = ScriptedBackend::start(move |_| begins(&events, Step::Reset)).await;
        let gateway = Gateway::start(&config(&[member("a", &first, 1), member("b", &second, 2)], pool, "")).await;
        let got = gateway.stream().await;
        assert_eq!((got.ended, second.count()), (Ended::Cut, 0), "{pool}: {}", got.text());
    }
}

#[tokio::test]
async fn a_refusal_of_the_next_member_is_the_end() {
    for second in [Reply::json(400, r#"{"error":{"message":"no prefill"}}"#), Reply::throttled(60_000)] {
        let events = chat_events("first", &WORDS)[..3].to_vec();
        let first = ScriptedBackend::start(move |_| begins(&events, Step::Reset)).await;
        let next = ScriptedBackend::start(move |_| second.clone()).await;
        let gateway = Gateway::start(&config(&[member("a", &first, 1), member("b", &next, 2)], RESCUE, "")).await;
        let got = gateway.stream().await;
        assert_eq!((got.ended, next.count()), (Ended::Cut, 1), "{}", got.text());
        assert!(got.text().contains("upstream_error"));
    }
}
