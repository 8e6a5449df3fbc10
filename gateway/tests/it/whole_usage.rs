//! Usage is found wherever it stands: behind anything, in events of any length, after the finish reason, in every
//! turn of a socket, and in answers that nobody labelled or asked to be compressed.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{self, Connection, Response, post};
use spillway_testkit::wire::Ended;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use crate::support::*;

/// Input and output tokens that were counted as reported, and answers of which nothing is known.
async fn counted(gateway: &Gateway) -> (f64, f64) {
    let labels = "{backend=\"a\",deployment=\"m\",pool=\"pool\"}";
    (
        gateway.metric(&format!("spillway_input_tokens_total{labels}")).await,
        gateway.metric(&format!("spillway_output_tokens_total{labels}")).await,
    )
}

async fn answered(reply: Reply, path: &str, kind: &str, body: Value) -> (Gateway, ScriptedBackend, Response) {
    let backend = ScriptedBackend::start(move |_| reply.clone()).await;
    let extra = format!("kind = \"{kind}\"");
    let gateway = Gateway::start(&config(&[Member { name: "a", backend: &backend, priority: 1, extra: &extra }], "", "")).await;
    let got = gateway.post(path, &body).await;
    (gateway, backend, got)
}

fn plain() -> Value {
    json!({ "model": "m", "input": "x" })
}

fn streamed() -> Value {
    json!({ "model": "m", "stream": true, "stream_options": { "include_usage": true }, "messages": [{ "role": "user", "content": "hi" }] })
}

#[tokio::test]
async fn usage_before_any_amount_of_echoed_metadata_is_counted() {
    // Held as a whole, and longer than anything that is held.
    for size in [20_000, 400_000] {
        let decoy = json!({ "usage": { "input_tokens": 9999, "output_tokens": 9999 } });
        let text = format!(
            r#"{{"id":"resp_1","usage":{{"input_tokens":11,"output_tokens":45600}},"tools":[{decoy}],"metadata":{{"k":"{}"}},"x":{decoy}}}"#,
            "m".repeat(size)
        );
        let (gateway, _backend, got) = answered(Reply::json(200, text.clone()), "/v1/responses", "openai", plain()).await;
        assert_eq!((got.status, got.text()), (200, text));
        eventually("counted", async || counted(&gateway).await == (11.0, 45600.0)).await;
    }
}

#[tokio::test]
async fn an_event_of_any_length_passes_and_is_counted() {
    let image = "i".repeat(3 << 20);
    let completed = json!({ "type": "response.completed", "sequence_number": 2, "response": { "id": "resp_1", "output": [{ "id": "ig_1", "result": image }], "usage": { "input_tokens": 11, "output_tokens": 7 } } });
    let responses = [
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n".to_owned(),
        format!("event: response.completed\ndata: {completed}\n\n"),
    ];
    let done = json!({ "type": "image_generation.completed", "b64_json": image, "usage": { "input_tokens": 11, "output_tokens": 7 } });
    let images = [format!("event: image_generation.completed\ndata: {done}\n\n")];
    let events: [(&str, &[String]); 2] = [("/v1/responses", &responses), ("/v1/images/generations", &images)];
    for (path, events) in events {
        // The connection stays open: the API's own last event is the end.
        let pieces: Vec<Vec<u8>> = events.concat().into_bytes().chunks(100_000).map(<[u8]>::to_vec).collect();
        let reply = Reply::sse(pieces).then(Step::Hang);
        let body = json!({ "model": "m", "stream": true, "input": "x", "prompt": "x" });
        let (gateway, _backend, got) = answered(reply, path, "openai", body).await;
        assert_eq!((got.status, got.ended), (200, Ended::Whole), "{path}");
        assert!(got.text() == events.concat(), "{path}: bytes differ");
        eventually(path, async || counted(&gateway).await == (11.0, 7.0)).await;
        assert_eq!(gateway.metric("spillway_attempts_total{backend=\"a\",deployment=\"m\",outcome=\"ok\",pool=\"pool\"}").await, 1.0);
    }
}

#[tokio::test]
async fn what_comes_after_the_finish_reason_is_passed_on_and_counted() {
    let next = Arc::new(Notify::new());
    let usage = format!("data: {}\n\n", json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 45679 } }));
    let backend = ScriptedBackend::start({
        let (next, usage) = (Arc::clone(&next), usage.clone());
        move |_| {
            Reply::sse([role(), delta("a"), stop()])
                .then(Step::Until(Arc::clone(&next)))
                .then(Step::Write(usage.clone().into()))
                .then(Step::Write(DONE.into()))
                .then(Step::Hang)
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(post("/v1/chat/completions", &[], streamed().to_string().as_bytes())).await.unwrap();
    caller.until("\"stop\"").await.unwrap();
    next.notify_one();
    let mut rest = Vec::new();
    while let Some(chunk) = caller.chunk().await.unwrap() {
        if chunk.is_empty() {
            break;
        }
        rest.extend(chunk);
    }
    assert_eq!(String::from_utf8(rest).unwrap(), usage + DONE, "whole, though the upstream keeps its connection");
    eventually("counted", async || counted(&gateway).await == (11.0, 45679.0)).await;
}

#[tokio::test]
async fn zeros_in_a_last_report_erase_nothing() {
    let events = [
        json!({ "type": "message_start", "message": { "usage": { "input_tokens": 11, "output_tokens": 1 } } }),
        json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "x" } }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "input_tokens": 0, "output_tokens": 7 } }),
        json!({ "type": "message_stop" }),
    ];
    let reply = Reply::sse(events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())));
    let (gateway, _backend, got) = answered(reply, "/v1/messages", "anthropic", streamed()).await;
    assert_eq!(got.status, 200);
    eventually("counted", async || counted(&gateway).await == (11.0, 7.0)).await;
}

fn chat_events() -> String {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7 } });
    role() + &delta("a") + &stop() + &format!("data: {usage}\n\n") + DONE
}

#[tokio::test]
async fn a_stream_without_a_content_type_is_a_stream() {
    for size in [1, 4096] {
        let reply = Reply::sse(chat_events().as_bytes().chunks(size).map(<[u8]>::to_vec)).without("content-type");
        let (gateway, _backend, got) = answered(reply, "/v1/chat/completions", "openai", streamed()).await;
        assert_eq!((got.status, got.ended, got.text()), (200, Ended::Whole, chat_events()));
        eventually("counted", async || counted(&gateway).await == (11.0, 7.0)).await;
    }
}

#[tokio::test]
async fn compression_is_not_asked_for_and_read_all_the_same() {
    let gzip = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let whole = json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7 } }).to_string();
    for (text, kind, body) in [(whole, "application/json", chat(false)), (chat_events(), "text/event-stream", streamed())] {
        let bytes = gzip(&text);
        let reply = Reply::sse([bytes.clone()]).header("content-type", kind).header("content-encoding", "gzip");
        let (gateway, backend, got) = answered(reply, "/v1/chat/completions", "openai", body).await;
        assert_eq!((got.status, got.header("content-encoding")), (200, Some("gzip")));
        assert!(got.body == bytes, "the caller's bytes stay as they came");
        assert_eq!(backend.received()[0].header("accept-encoding"), Some("identity"));
        eventually(kind, async || counted(&gateway).await == (11.0, 7.0)).await;
    }
}

/// A server's frame with a text.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 126, length[0], length[1]], text.as_bytes()].concat()
}

const UPGRADE: &str =
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";

#[tokio::test]
async fn a_socket_is_closed_when_its_quota_has_ended() {
    let turn = json!({ "type": "response.done", "response": { "usage": { "input_tokens": 300, "output_tokens": 300 } } }).to_string();
    let spoken = json!({ "type": "conversation.item.input_audio_transcription.completed", "usage": { "type": "tokens", "input_tokens": 200, "output_tokens": 100 } }).to_string();
    let next = Arc::new(Notify::new());
    let backend = ScriptedBackend::start({
        let (next, turn, spoken) = (Arc::clone(&next), turn.clone(), spoken.clone());
        move |_| {
            let more = [frame(&turn), frame(r#"{"type":"rate_limits.updated"}"#)].concat();
            Reply::raw([
                Step::Write(SWITCHING.into()),
                Step::Write(frame(&turn)),
                Step::Write(frame(&spoken)),
                Step::Until(Arc::clone(&next)),
                Step::Write(more),
                Step::Hang,
            ])
        }
    })
    .await;
    let rest =
        consumer("crm", "[consumers.limits]\ntoken_quota = { tokens = 1550, period = \"year\" }\n") + "[usage]\nassume_completion = 100\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(format!("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\napi-key: crm\r\n{UPGRADE}\r\n\r\n")).await.unwrap();
    assert_eq!(caller.answer_head().await.unwrap().0, 101);
    eventually("both turns are settled while the socket is open", async || counted(&gateway).await == (500.0, 400.0)).await;
    let elsewhere = ask_as(gateway.address, "crm", &json!({ "model": "m", "max_tokens": 700, "messages": [] })).await;
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (403, "quota_exceeded"), "what it used is used for all");
    next.notify_one();
    let mut all = Vec::new();
    let policy = 1008u16.to_be_bytes();
    while !all.windows(2).any(|pair| pair == policy) {
        assert!(caller.socket().read_buf(&mut all).await.unwrap() > 0, "{}", String::from_utf8_lossy(&all));
    }
    // As a client answers a close frame; and one that goes on all the same reaches nobody.
    caller.send([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf0]).await.unwrap();
    let _ = caller.socket().read_to_end(&mut all).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(all.windows(turn.len()).any(|part| part == turn.as_bytes()), "the turn itself arrives: {text}");
    let (_, ending) = text.split_once(r#"{"error":"#).unwrap_or_else(|| panic!("{text}"));
    assert!(ending.contains(r#""code":"quota_exceeded""#) && !text.contains("rate_limits.updated"), "{text}");
    eventually("nothing is held any more", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    assert_eq!(gateway.metric("spillway_time_to_first_token_seconds_count{backend=\"a\",deployment=\"m\",pool=\"pool\"}").await, 1.0);
    let limits = gateway.admin("/api/limits").await.json();
    assert_eq!(limits["scopes"][0]["limits"]["token_quota"]["used"], 1500, "and nothing is reserved");
}

/// Opens a socket, waits for these events of its backend, says this and hangs up: the rows of the ledger.
async fn hung_up(events: &[&str], said: &[&str], rows: usize) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let open = Arc::new(Notify::new());
    let backend = ScriptedBackend::start({
        let (events, open) = (events.iter().map(|text| frame(text)).collect::<Vec<_>>().concat(), Arc::clone(&open));
        move |_| Reply::raw([Step::Write(SWITCHING.to_vec()), Step::Until(Arc::clone(&open)), Step::Write(events.clone()), Step::Echo])
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(format!("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n\r\n")).await.unwrap();
    assert_eq!(caller.answer_head().await.unwrap().0, 101);
    open.notify_one();
    let expected = events.iter().map(|text| frame(text).len()).sum::<usize>();
    let mut got = Vec::new();
    while got.len() < expected {
        assert!(caller.socket().read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    // When this is echoed, all before it has reached the backend.
    let last = r#"{"type":"last"}"#;
    let all: Vec<u8> = said.iter().chain(&[last]).flat_map(|text| client::frame(text)).collect();
    caller.send(all).await.unwrap();
    while !got.ends_with(last.as_bytes()) {
        assert!(caller.socket().read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    drop(caller);
    eventually("nothing is held any more", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    ledger_of(folder.path(), rows).await
}

#[tokio::test]
async fn every_response_under_way_at_a_hang_up_is_booked() {
    let (create, created) = (r#"{"type":"response.create"}"#, r#"{"type":"response.created","response":{}}"#);
    let done = r#"{"type":"response.done","response":{"usage":{"input_tokens":11,"output_tokens":7}}}"#;
    let booked = |row: &Value| (row["source"].clone(), row["output_tokens"].clone());
    // Asked for, and nothing has begun; begun, though nobody asked; and one is settled before others are asked for.
    assert_eq!(booked(&hung_up(&[], &[create; 5], 1).await[0]), (json!("estimated"), json!(5 * 1024)));
    assert_eq!(booked(&hung_up(&[created; 10], &[], 1).await[0]), (json!("estimated"), json!(10 * 1024)));
    let rows = hung_up(&[created, done], &[create; 2], 2).await;
    assert_eq!((booked(&rows[0]), booked(&rows[1])), ((json!("reported"), json!(7)), (json!("estimated"), json!(2 * 1024))));
    // What asks for nothing is booked at nothing.
    assert_eq!(hung_up(&[created, done], &[r#"{"type":"response.cancel"}"#], 1).await.len(), 1);
}
