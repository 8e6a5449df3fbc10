//! Responses over a WebSocket: each message is a request of its own, and its events come back as messages.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, frame};

use crate::support::*;

const UPGRADE: &str =
    "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

fn event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
}

/// A response that says what it was asked last.
fn events(request: &Received, number: usize) -> Vec<String> {
    let asked = request.json();
    let last = asked["input"].as_array().and_then(|items| items.last()).map_or(&asked["input"], |item| &item["content"]);
    let item = json!({ "type": "message", "id": format!("msg_{number}"), "role": "assistant", "content": [{ "type": "output_text", "text": last }] });
    let usage = json!({ "input_tokens": 10 + number, "output_tokens": 5, "total_tokens": 15 + number });
    let id = format!("resp_{number}");
    [
        json!({ "type": "response.created", "sequence_number": 0, "response": { "id": id, "status": "in_progress" } }),
        json!({ "type": "response.output_text.delta", "sequence_number": 1, "output_index": 0, "content_index": 0, "delta": last }),
        json!({ "type": "response.output_item.done", "sequence_number": 2, "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "sequence_number": 3, "response": { "id": id, "status": "completed", "output": [item], "usage": usage } }),
    ]
    .iter()
    .map(event)
    .collect()
}

async fn speaker() -> ScriptedBackend {
    let number = std::sync::atomic::AtomicUsize::new(0);
    ScriptedBackend::start(move |request| Reply::sse(events(request, number.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))).await
}

async fn opened(gateway: &Gateway, path: &str, headers: &str) -> (u16, Connection) {
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n")).await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    if status == 101 {
        // RFC 6455, 1.3.
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
    (status, connection)
}

async fn socket(gateway: &Gateway, who: &str) -> Connection {
    let (status, connection) = opened(gateway, "/v1/responses", &format!("api-key: {who}\r\n{UPGRADE}")).await;
    assert_eq!(status, 101);
    connection
}

fn create(more: Value) -> Vec<u8> {
    let mut message = json!({ "type": "response.create", "model": "m", "store": false, "input": "hi" });
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    frame(&message.to_string())
}

async fn next(connection: &mut Connection) -> Value {
    let (first, text) = tokio::time::timeout(Duration::from_secs(10), connection.message()).await.unwrap().unwrap();
    assert_eq!(first, 0x81, "{}", String::from_utf8_lossy(&text));
    serde_json::from_slice(&text).unwrap()
}

/// Asks, and hears to the end of the response.
async fn turn(connection: &mut Connection, more: Value) -> Vec<Value> {
    connection.send(create(more)).await.unwrap();
    let mut heard = Vec::new();
    loop {
        heard.push(next(connection).await);
        let kind = heard.last().unwrap()["type"].as_str().unwrap();
        if ["response.completed", "response.incomplete", "response.failed", "error"].contains(&kind) {
            return heard;
        }
    }
}

async fn closed_with(connection: &mut Connection) -> u16 {
    let (first, close) = tokio::time::timeout(Duration::from_secs(10), connection.message()).await.unwrap().unwrap();
    assert_eq!(first, 0x88, "{}", String::from_utf8_lossy(&close));
    u16::from_be_bytes([close[0], close[1]])
}

fn limited() -> String {
    consumer("crm", "models = [\"m\"]\n[consumers.limits]\nrequests_per_minute = 2\n") + &consumer("other", "")
}

#[tokio::test]
async fn each_message_is_a_request_with_its_own_limits_and_row() {
    let backend = speaker().await;
    let folder = tempfile::tempdir().unwrap();
    let text = config(&[member("a", &backend, 1)], "", &limited()).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let mut connection = socket(&gateway, "crm").await;
    for (number, text) in ["one", "two"].into_iter().enumerate() {
        let heard = turn(&mut connection, json!({ "input": text })).await;
        let kinds: Vec<&str> = heard.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["response.created", "response.output_text.delta", "response.output_item.done", "response.completed"]);
        assert_eq!((&heard[1]["delta"], &heard[3]["response"]["usage"]["input_tokens"]), (&json!(text), &json!(10 + number)));
    }
    let refused = turn(&mut connection, json!({})).await.remove(0);
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(429), &json!("rate_limit_exceeded")), "{refused}");
    assert!(refused["error"]["headers"]["retry-after"].is_string(), "{refused}");
    let forbidden = turn(&mut connection, json!({ "model": "gpt-4o" })).await.remove(0);
    assert_eq!((&forbidden["status"], &forbidden["error"]["code"]), (&json!(403), &json!("model_not_allowed")));
    let rows = ledger_of(folder.path(), 2).await;
    for (number, row) in rows.iter().enumerate() {
        assert_eq!((&row["input_tokens"], &row["output_tokens"], &row["source"]), (&json!(10 + number), &json!(5), &json!("reported")));
    }
    assert_eq!(backend.count(), 2);
    for request in backend.received() {
        let body = request.json();
        assert_eq!((request.path(), &body["stream"], &body["type"]), ("/v1/responses", &json!(true), &Value::Null));
        assert_eq!(request.header("sec-websocket-key"), None);
        assert_eq!(request.header("upgrade"), None);
    }
    drop(connection);
    eventually("nothing is held any more", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    assert_eq!(gateway.metric("spillway_buffered_bytes").await, 0.0);
}

#[tokio::test]
async fn what_is_not_stored_is_gone_on_from_on_its_connection_only() {
    let backend = speaker().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    let long = "x".repeat(100_000);
    turn(&mut connection, json!({ "input": long })).await;
    let heard = turn(&mut connection, json!({ "input": "two", "previous_response_id": "resp_0" })).await;
    assert_eq!(heard[1]["delta"], "two");
    let sent = backend.received().pop().unwrap().json();
    assert_eq!(sent["previous_response_id"], Value::Null);
    let roles: Vec<&str> = sent["input"].as_array().unwrap().iter().map(|item| item["role"].as_str().unwrap()).collect();
    assert_eq!((roles, &sent["input"][0]["content"]), (vec!["user", "assistant", "user"], &json!(long)));
    assert!(gateway.metric("spillway_buffered_bytes").await >= 200_000.0, "what is remembered has its room");
    let mut elsewhere = socket(&gateway, "crm").await;
    for (connection, id) in [(&mut connection, "resp_0"), (&mut elsewhere, "resp_1")] {
        let error = turn(connection, json!({ "previous_response_id": id })).await.remove(0);
        assert_eq!((&error["status"], &error["error"]["code"]), (&json!(400), &json!("previous_response_not_found")), "{error}");
    }
    // What a failed turn went on from is forgotten; another one changes nothing.
    let heard = turn(&mut connection, json!({ "previous_response_id": "resp_1" })).await;
    assert_eq!(heard.last().unwrap()["response"]["id"], "resp_2");
    drop((connection, elsewhere));
    eventually("the room is given back", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
}

#[tokio::test]
async fn a_warm_up_asks_nobody() {
    let backend = speaker().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", "models = [\"m\"]"))).await;
    let mut connection = socket(&gateway, "crm").await;
    let heard = turn(&mut connection, json!({ "generate": false, "input": "context" })).await;
    assert_eq!((heard.len(), backend.count()), (2, 0));
    let id = &heard[1]["response"]["id"];
    assert_eq!((id, &heard[1]["response"]["usage"]["total_tokens"]), (&heard[0]["response"]["id"], &json!(0)));
    turn(&mut connection, json!({ "previous_response_id": id, "input": "question" })).await;
    let sent = backend.received().pop().unwrap().json();
    assert_eq!((&sent["input"][0]["content"], &sent["input"][1]["content"]), (&json!("context"), &json!("question")));
    assert_eq!(sent["generate"], Value::Null);
    for (model, code) in [("gpt-4o", "model_not_allowed"), ("nothing", "model_not_found")] {
        assert_eq!(turn(&mut connection, json!({ "generate": false, "model": model })).await[0]["error"]["code"], code);
    }
}

#[tokio::test]
async fn a_failing_member_is_left_before_the_caller_notices() {
    let busy = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let cuts = ScriptedBackend::start(|request| Reply::sse(events(request, 0).drain(..1)).then(Step::Reset)).await;
    let backend = speaker().await;
    let members = [member("busy", &busy, 1), member("cuts", &cuts, 2), member("a", &backend, 3)];
    let gateway = Gateway::start(&config(&members, "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    assert_eq!(turn(&mut connection, json!({})).await.len(), 4);
    assert_eq!((busy.count(), cuts.count() >= 1, backend.count()), (1, true, 1));
    // After output it is an error, and the socket lives.
    let breaks = ScriptedBackend::start(|request| Reply::sse(events(request, 0).drain(..2)).then(Step::Reset)).await;
    let gateway = Gateway::start(&config(&[member("breaks", &breaks, 1)], "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    for _ in 0..2 {
        let error = turn(&mut connection, json!({})).await.pop().unwrap();
        assert_eq!(
            (&error["type"], error["status"].is_u64(), error["error"]["code"].is_string()),
            (&json!("error"), true, true),
            "{error}"
        );
    }
}

#[tokio::test]
async fn messages_wait_for_each_other_and_a_backend_need_not_stream() {
    let backend = ScriptedBackend::start(|request| {
        let number = request.json()["input"].as_str().unwrap().to_owned();
        Reply::json(200, json!({ "id": number, "object": "response", "status": "completed", "output": [], "usage": { "input_tokens": 1, "output_tokens": 1 } }).to_string())
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    let all: Vec<u8> = (0..8).flat_map(|number| create(json!({ "input": number.to_string() }))).collect();
    connection.send(all).await.unwrap();
    for number in 0..8 {
        let event = next(&mut connection).await;
        assert_eq!((&event["type"], &event["response"]["id"]), (&json!("response.completed"), &json!(number.to_string())));
    }
}

#[tokio::test]
async fn what_is_no_request_is_told_and_what_is_no_message_ends_it() {
    let backend = speaker().await;
    let text = config(&[member("a", &backend, 1)], "", &consumer("crm", "")).replace("#server", "max_body = \"64KiB\"");
    let gateway = Gateway::start(&text).await;
    let mut connection = socket(&gateway, "crm").await;
    for (message, param) in [
        (json!({ "type": "response.steer", "input": "x" }), json!("type")),
        (json!({ "type": "response.create", "stream_id": "a" }), json!("stream_id")),
        (json!({ "type": "response.create", "background": true }), json!("background")),
        (json!("text"), Value::Null),
    ] {
        connection.send(frame(&message.to_string())).await.unwrap();
        let error = next(&mut connection).await;
        assert_eq!((&error["type"], &error["status"], &error["error"]["param"]), (&json!("error"), &json!(400), &param), "{error}");
    }
    assert_eq!(turn(&mut connection, json!({})).await.len(), 4, "the socket lives");
    let mut binary = create(json!({}));
    binary[0] = 0x82;
    let too_long = create(json!({ "input": "x".repeat(70_000) }));
    let unmasked = [&[0x81, 2][..], b"{}"].concat();
    for (bytes, code, close) in [(binary, "invalid_form", 1003), (too_long, "request_too_large", 1009), (unmasked, "invalid_form", 1002)] {
        let mut connection = socket(&gateway, "crm").await;
        connection.send(bytes).await.unwrap();
        assert_eq!(next(&mut connection).await["error"]["code"], code);
        assert_eq!(closed_with(&mut connection).await, close);
        // A caller that goes on all the same reaches nobody.
        let _ = connection.send(create(json!({}))).await;
        assert!(tokio::time::timeout(Duration::from_secs(10), connection.message()).await.unwrap().is_err());
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_socket_needs_a_caller_and_a_handshake() {
    let backend = speaker().await;
    let gateway =
        Gateway::start(&config(&[member("a", &backend, 1)], "", &(consumer("crm", "") + &consumer("chat", "apis = [\"chat\"]")))).await;
    let without = |what: &str| UPGRADE.split("\r\n").filter(|line| !line.starts_with(what)).collect::<Vec<_>>().join("\r\n");
    for (headers, expected) in [
        (UPGRADE.to_owned(), 401),
        (format!("api-key: wrong\r\n{UPGRADE}"), 401),
        (format!("api-key: chat\r\n{UPGRADE}"), 403),
        (format!("api-key: crm\r\n{}", without("sec-websocket-key")), 400),
        (format!("api-key: crm\r\n{}", without("sec-websocket-version")), 426),
        (format!("api-key: crm\r\n{}", without("upgrade")), 405),
        (format!("api-key: crm\r\n{}", UPGRADE.replace("WebSocket", "h2c")), 426),
        (format!("api-key: crm\r\ncontent-length: 5\r\n{UPGRADE}"), 400),
        // A browser can set no header but this one.
        (format!("sec-websocket-protocol: realtime, openai-insecure-api-key.crm\r\n{UPGRADE}"), 101),
    ] {
        assert_eq!(opened(&gateway, "/openai/v1/responses", &headers).await.0, expected, "{headers}");
    }
    let (_, mut connection) = opened(
        &gateway,
        "/v1/responses",
        &format!("sec-websocket-protocol: realtime, openai-insecure-api-key.crm\r\nx-spillway-internal: 1\r\n{UPGRADE}"),
    )
    .await;
    assert_eq!(turn(&mut connection, json!({})).await.len(), 4);
    let sent = backend.received().pop().unwrap();
    assert!(!format!("{sent:?}").contains("insecure"), "{sent:?}");
    assert!(!format!("{:?}", sent.head).contains("x-spillway"), "{sent:?}");
}

#[tokio::test]
async fn a_caller_that_hangs_up_gives_its_request_up() {
    let backend = ScriptedBackend::start(|request| Reply::sse(events(request, 0).drain(..2)).then(Step::Hang)).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "") + "[usage]\non_disconnect = \"cancel\"\n";
    let text = config(&[member("a", &backend, 1)], "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let mut connection = socket(&gateway, "crm").await;
    connection.send(create(json!({ "max_output_tokens": 50 }))).await.unwrap();
    assert_eq!(next(&mut connection).await["type"], "response.created");
    drop(connection);
    eventually("the backend is hung up on", async || backend.hung_up() == 1).await;
    let row = ledger_of(folder.path(), 1).await.remove(0);
    assert_eq!((&row["source"], &row["outcome"]), (&json!("estimated"), &json!("cancelled")), "{row:#}");
    eventually("nothing is in flight", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
}

#[tokio::test]
async fn a_gateway_that_stops_lets_what_runs_end_and_closes() {
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let until = std::sync::Arc::clone(&go_on);
    let backend = ScriptedBackend::start(move |request| {
        let mut events = events(request, 0);
        let rest = events.split_off(2).concat();
        Reply::sse(events).then(Step::Until(std::sync::Arc::clone(&until))).then(Step::Write(rest.into_bytes()))
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let (mut idle, mut busy) = (socket(&gateway, "crm").await, socket(&gateway, "crm").await);
    busy.send(create(json!({}))).await.unwrap();
    assert_eq!(next(&mut busy).await["type"], "response.created");
    let Gateway { running, .. } = gateway;
    let stopped = tokio::spawn(running.stop(std::future::pending()));
    assert_eq!(closed_with(&mut idle).await, 1001);
    go_on.notify_one();
    for kind in ["response.output_text.delta", "response.output_item.done", "response.completed"] {
        assert_eq!(next(&mut busy).await["type"], kind);
    }
    assert_eq!(closed_with(&mut busy).await, 1001);
    stopped.await.unwrap();
}

#[tokio::test]
async fn what_a_backend_stores_stays_before_what_the_connection_knows() {
    let backend = speaker().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    turn(&mut connection, json!({ "store": true, "input": "a" })).await;
    turn(&mut connection, json!({ "input": "b", "previous_response_id": "resp_0" })).await;
    turn(&mut connection, json!({ "input": "c", "previous_response_id": "resp_1" })).await;
    let sent = backend.received().pop().unwrap().json();
    let items: Vec<&str> = sent["input"].as_array().unwrap().iter().map(|item| item["role"].as_str().unwrap()).collect();
    assert_eq!((&sent["previous_response_id"], items), (&json!("resp_0"), vec!["user", "assistant", "user"]));
    turn(&mut connection, json!({ "generate": false, "previous_response_id": "resp_none" })).await;
}

#[tokio::test]
async fn a_socket_at_rest_holds_nothing_and_is_no_request_in_flight() {
    let backend = speaker().await;
    let text = config(&[member("a", &backend, 1)], "", &(consumer("crm", "") + &consumer("other", "")));
    let gateway = Gateway::start(&text.replace("#server", "max_in_flight = 2\nmax_body = \"4MiB\"\nmax_buffered = \"16MiB\"")).await;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        let mut connection = socket(&gateway, "crm").await;
        turn(&mut connection, json!({ "store": true, "input": "x".repeat(2 << 20) })).await;
        connection.send(frame(&"x".repeat(1 << 20))).await.unwrap();
        assert_eq!(next(&mut connection).await["error"]["code"], "invalid_json");
        // Pings are answered, and held by nobody.
        let pings = [&[0x89, 0x80 | 100, 0, 0, 0, 0][..], &[b'p'; 100]].concat().repeat(1000);
        connection.send(pings).await.unwrap();
        for _ in 0..1000 {
            assert_eq!(connection.message().await.unwrap().0, 0x8a);
        }
        sockets.push(connection);
    }
    let at_rest = async |name: &str| gateway.metric(name).await == 0.0;
    eventually("nothing is in flight", async || at_rest("spillway_in_flight_requests").await).await;
    eventually("nothing is held", async || at_rest("spillway_buffered_bytes").await).await;
    assert_eq!(turn(&mut sockets[0], json!({})).await.len(), 4, "none of them takes a request's place");
}

#[tokio::test]
async fn a_message_without_room_is_refused_once() {
    let backend = speaker().await;
    let text = config(&[member("a", &backend, 1)], "", &(consumer("crm", "") + &consumer("other", "")));
    let gateway = Gateway::start(&text.replace("#server", "max_body = \"8MiB\"\nmax_buffered = \"8MiB\"")).await;
    let mut connection = socket(&gateway, "crm").await;
    let _ = connection.send(create(json!({ "input": "x".repeat(6 << 20) }))).await;
    assert_eq!(next(&mut connection).await["error"]["code"], "overloaded", "twice is more than there is");
    assert_eq!(turn(&mut connection, json!({})).await.len(), 4);
    drop(connection);
    eventually("the room is given back", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
    assert_eq!(turn(&mut socket(&gateway, "crm").await, json!({})).await.len(), 4);
}

#[tokio::test]
async fn a_response_ends_with_its_last_event_whatever_comes_after() {
    let late = |request: &Received| {
        let mut all = events(request, 0);
        let comments = ": keep-alive\n\n".repeat(10_000);
        all.insert(1, comments);
        all[2] = all[2].replace("data: ", "data:  ");
        all.push(event(&json!({ "type": "response.output_text.delta", "sequence_number": 4, "delta": "late" })));
        Reply::sse(all)
    };
    let backend = ScriptedBackend::start(late).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    for _ in 0..2 {
        assert_eq!(turn(&mut connection, json!({})).await.len(), 4);
    }
    let incomplete =
        json!({ "id": "r", "status": "incomplete", "output": [{ "type": "message", "content": "x".repeat(6 << 20) }], "usage": {} });
    let backend = ScriptedBackend::start(move |_| Reply::json(200, incomplete.to_string())).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    assert_eq!(turn(&mut socket(&gateway, "crm").await, json!({})).await[0]["type"], "response.incomplete");
}
