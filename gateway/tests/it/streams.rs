//! Streams: held back until output, replaced before it, never silently cut after it.

use std::sync::Arc;
use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, post};
use spillway_testkit::wire::Ended;
use tokio::sync::Notify;

use crate::support::*;

async fn pair(first: Reply) -> (ScriptedBackend, ScriptedBackend) {
    let good = ScriptedBackend::start(|request| match request.path() {
        "/v1/responses" => Reply::sse(RESPONSES),
        "/v1/messages" => Reply::sse(MESSAGES),
        _ => Reply::sse(whole_stream("hello")),
    })
    .await;
    (ScriptedBackend::start(move |_| first.clone()).await, good)
}

const RESPONSES: [&str; 4] = [
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"hello\"}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"delta\":\"!\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":3,\"response\":{}}\n\n",
];
const MESSAGES: [&str; 4] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

const TIMERS: &str = "[pools.timeouts]\nfirst_token = \"400ms\"\nidle = \"400ms\"";

#[tokio::test]
async fn a_stream_passes_byte_for_byte() {
    let events = [": hi\n\n", &role(), &delta("a"), "data: {malformed\n\n", &delta("b"), &stop(), DONE].concat();
    // Strict readers break at what is no JSON.
    let passed = events.replace("data: {malformed\n\n", "");
    for piece in [1, 7, 4096] {
        let backend = ScriptedBackend::start({
            let events = events.clone();
            move |_| Reply::sse(events.as_bytes().chunks(piece).map(<[u8]>::to_vec))
        })
        .await;
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
        let got = gateway.stream().await;
        assert_eq!((got.status, got.ended, got.text()), (200, Ended::Whole, passed.clone()), "pieces of {piece}");
        assert_eq!(gateway.metric("spillway_malformed_events_total").await, 1.0);
        assert_eq!(got.header("x-accel-buffering"), Some("no"));
        eventually("the connection is used again", async || {
            gateway.stream().await;
            backend.count() > backend.connections()
        })
        .await;
    }
}

#[tokio::test]
async fn events_are_passed_on_at_once() {
    let next = Arc::new(Notify::new());
    let backend = ScriptedBackend::start({
        let next = next.clone();
        move |_| {
            Reply::sse([role(), delta("one")])
                .then(Step::Until(next.clone()))
                .then(Step::Write(delta("two").into()))
                .then(Step::Until(next.clone()))
                .then(Step::Write(format!("{}{DONE}", stop()).into()))
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 200);
    let first = connection.chunk().await.unwrap().unwrap();
    assert_eq!(String::from_utf8(first).unwrap(), role() + &delta("one"));
    next.notify_one();
    assert_eq!(connection.chunk().await.unwrap().unwrap(), delta("two").as_bytes());
    next.notify_one();
    assert_eq!(connection.chunk().await.unwrap().unwrap(), format!("{}{DONE}", stop()).as_bytes());
    assert_eq!(connection.chunk().await.unwrap().unwrap(), b"");
}

/// Every way in which a stream can go wrong before its first output: the next target takes over.
#[tokio::test]
async fn before_the_first_output_any_fault_is_replaced_unseen() {
    let filter_chunk = "data: {\"id\":\"\",\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n";
    let rate = "data: {\"error\":{\"code\":\"429\",\"message\":\"Rate limit is exceeded. Try again in 2 seconds.\"}}\n\n";
    let cases: Vec<(&str, Reply)> = vec![
        ("cut after the head", Reply::sse(Vec::<String>::new()).then(Step::Close)),
        ("reset after the role", Reply::sse([role()]).then(Step::Reset)),
        ("a clean end without output", Reply::sse([filter_chunk.to_owned(), role()])),
        ("end of connection without output", Reply::sse([role()]).until_close()),
        ("silence", Reply::sse([role()]).then(Step::Hang)),
        ("comments only", Reply::sse(vec![": ping\n\n"; 3]).then(Step::Hang)),
        ("an error event", Reply::sse([filter_chunk, rate])),
        ("a server error event", Reply::sse(["data: {\"error\":{\"type\":\"server_error\",\"message\":\"x\",\"code\":null}}\n\n"])),
        ("half an event", Reply::sse(["data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel"]).then(Step::Close)),
        (
            "a broken chunk",
            Reply::raw([
                Step::Write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec()),
                Step::Close,
            ]),
        ),
    ];
    for (name, reply) in cases {
        let (bad, good) = pair(reply).await;
        let gateway = Gateway::start(&config(&[member("bad", &bad, 1), member("good", &good, 2)], TIMERS, "")).await;
        let got = gateway.stream().await;
        assert_eq!((got.status, got.ended), (200, Ended::Whole), "{name}");
        assert_eq!(got.text(), whole_stream("hello").concat(), "{name}");
        assert_eq!((bad.count(), good.count()), (1, 1), "{name}");
        assert_eq!(got.header("x-spillway-attempts"), Some("2"), "{name}");
        calm(&gateway).await;
    }
}

/// Nothing is held any more: no request, no slot, no buffered byte, no caller's connection.
async fn calm(gateway: &Gateway) {
    eventually("calm afterwards", async || {
        let text = gateway.admin("/metrics").await.text();
        let held = ["spillway_in_flight_requests", "spillway_target_in_flight", "spillway_buffered_bytes", "spillway_connections "];
        text.lines().filter(|line| held.iter().any(|name| line.starts_with(name))).all(|line| line.ends_with(" 0"))
    })
    .await;
}

#[tokio::test]
async fn azures_failures_inside_http_200_go_elsewhere_on_every_api() {
    let limited = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":2,\"error\":{\"type\":\"too_many_requests\",\"code\":\"too_many_requests\",\"message\":\"x\",\"param\":null}}\n\n";
    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":3,\"response\":{\"status\":\"failed\",\"error\":null}}\n\n";
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    for (path, events, kind, state) in [
        ("/v1/responses", vec![RESPONSES[0], limited, failed], "openai", "throttled"),
        ("/v1/responses", vec![RESPONSES[0], failed, limited], "openai", "ready"),
        ("/v1/messages", vec![MESSAGES[0], overloaded], "anthropic", "ready"),
    ] {
        let (bad, good) = pair(Reply::sse(events).header("retry-after", "30")).await;
        let extra = format!("kind = \"{kind}\"");
        let members = [
            Member { name: "bad", backend: &bad, priority: 1, extra: &extra },
            Member { name: "good", backend: &good, priority: 2, extra: &extra },
        ];
        let gateway = Gateway::start(&config(&members, TIMERS, "")).await;
        let got = gateway.post(path, &serde_json::json!({ "model": "m", "stream": true, "input": "x", "messages": [] })).await;
        let expected = if kind == "openai" { RESPONSES.concat() } else { MESSAGES.concat() };
        assert_eq!((got.status, got.text()), (200, expected), "{path}");
        assert_eq!(gateway.state("bad").await, state, "{path}");
    }
}

/// After the first output: an error event in the API's shape, and an unfinished transfer.
#[tokio::test]
async fn after_the_first_output_a_cut_is_told_and_never_looks_complete() {
    let cases: Vec<(&str, Reply)> = vec![
        ("closed", Reply::sse([role(), delta("hel")]).then(Step::Close)),
        ("reset", Reply::sse([role(), delta("hel")]).then(Step::Reset)),
        ("a clean end without a finish reason", Reply::sse([role(), delta("hel")])),
        ("end of connection without a finish reason", Reply::sse([role(), delta("hel")]).until_close()),
        ("silence", Reply::sse([role(), delta("hel")]).then(Step::Hang)),
        ("cut inside an event", Reply::sse([role(), delta("hel"), "data: {\"choices\":[{\"ind".to_owned()]).then(Step::Close)),
    ];
    for (name, reply) in cases {
        let (bad, good) = pair(reply).await;
        let gateway = Gateway::start(&config(&[member("bad", &bad, 1), member("good", &good, 2)], TIMERS, "")).await;
        let got = gateway.stream().await;
        assert_eq!((got.status, got.ended), (200, Ended::Cut), "{name}");
        let text = got.text();
        let rest = text.strip_prefix(&(role() + &delta("hel"))).unwrap_or_else(|| panic!("{name}: {text}"));
        let error: serde_json::Value = serde_json::from_str(rest.strip_prefix("data: ").unwrap().trim()).unwrap();
        assert_eq!(error["error"]["code"], "upstream_error", "{name}");
        assert!(!text.contains("[DONE]"), "{name}");
        assert_eq!((bad.count(), good.count()), (1, 0), "{name}: nothing is retried after the commit point");
        calm(&gateway).await;
    }
}

#[tokio::test]
async fn each_api_has_its_own_error_event() {
    for (path, events, kind, expected) in [
        ("/v1/responses", RESPONSES[..2].to_vec(), "openai", "event: error\ndata: {"),
        ("/v1/messages", MESSAGES[..2].to_vec(), "anthropic", "event: error\ndata: {"),
    ] {
        let (bad, _) = pair(Reply::sse(events).then(Step::Close)).await;
        let extra = format!("kind = \"{kind}\"");
        let gateway = Gateway::start(&config(&[Member { name: "bad", backend: &bad, priority: 1, extra: &extra }], TIMERS, "")).await;
        let got = gateway.post(path, &serde_json::json!({ "model": "m", "stream": true, "input": "x", "messages": [] })).await;
        let text = got.text();
        let error = text.split("\n\n").find(|event| event.starts_with("event: error")).unwrap_or_else(|| panic!("{text}"));
        assert!(error.starts_with(expected) && got.ended == Ended::Cut);
        let data: serde_json::Value = serde_json::from_str(error.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], "error");
        if path == "/v1/responses" {
            assert_eq!((&data["sequence_number"], &data["error"]["code"]), (&2.into(), &"upstream_error".into()));
        }
    }
}

#[tokio::test]
async fn a_finish_reason_makes_it_complete_without_done() {
    let ends: Vec<(&str, Reply)> = vec![
        ("clean end", Reply::sse([role(), delta("hi"), stop()])),
        ("end of connection", Reply::sse([role(), delta("hi"), stop()]).until_close()),
        ("reset", Reply::sse([role(), delta("hi"), stop()]).then(Step::Pause(Duration::from_millis(50))).then(Step::Reset)),
        ("silence: it ends promptly", Reply::sse([role(), delta("hi"), stop()]).then(Step::Hang)),
        ("done, then silence", Reply::sse([role(), delta("hi"), stop(), DONE.to_owned()]).then(Step::Hang)),
    ];
    for (name, reply) in ends {
        let backend = ScriptedBackend::start(move |_| reply.clone()).await;
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "[pools.timeouts]\nidle = \"300ms\"", "")).await;
        let got = gateway.stream().await;
        let expected = role() + &delta("hi") + &stop() + if name.starts_with("done") { DONE } else { "" };
        assert_eq!((got.ended, got.text()), (Ended::Whole, expected), "{name}");
    }
}

#[tokio::test]
async fn a_plain_answer_that_breaks_is_replaced() {
    let cases: Vec<(&str, Reply)> = vec![
        ("cut by length", Reply::json(200, "{\"choices\":").header("content-length", "500").then(Step::Close)),
        ("cut in a chunk", Reply::json(200, "{\"choices\":").chunked().then(Step::Close)),
        ("cut without framing", Reply::json(200, "{\"choices\":").until_close()),
        ("silent", Reply::json(200, "{\"choices\":").header("content-length", "500").then(Step::Hang)),
    ];
    for (name, reply) in cases {
        let bad = ScriptedBackend::start(move |_| reply.clone()).await;
        let good = ScriptedBackend::start(|_| Reply::json(200, answer("whole"))).await;
        let gateway = Gateway::start(&config(&[member("bad", &bad, 1), member("good", &good, 2)], TIMERS, "")).await;
        let got = gateway.chat().await;
        assert_eq!((got.status, got.text(), got.header("x-spillway-backend")), (200, answer("whole"), Some("good")), "{name}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_stops_the_upstream_where_that_is_wanted() {
    let backend = ScriptedBackend::start(|_| Reply::sse([role(), delta("a")]).then(Step::Hang)).await;
    let cancel = "[usage]\non_disconnect = \"cancel\"\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", cancel)).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 200);
    drop(connection);
    eventually("the upstream is let go", async || backend.hung_up() == 1).await;
    eventually("nothing is in flight", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    assert_eq!(gateway.metric("spillway_requests_total{api=\"chat\",pool=\"pool\",status=\"200\"}").await, 1.0);
    assert_eq!(gateway.state("a").await, "ready", "a cancelled request never counts");
}

#[tokio::test]
async fn the_total_bounds_everything() {
    let dripping = ScriptedBackend::start(|_| {
        let mut reply = Reply::sse([role()]);
        for n in 0..200 {
            reply = reply.then(Step::Write(delta(&n.to_string()).into())).then(Step::Pause(Duration::from_millis(20)));
        }
        reply
    })
    .await;
    let gateway = Gateway::start(&config(
        &[member("a", &dripping, 1)],
        "[pools.timeouts]\ntotal = \"500ms\"\nfirst_token = \"400ms\"\nidle = \"400ms\"\nanswer = \"400ms\"",
        "",
    ))
    .await;
    let got = gateway.stream().await;
    assert_eq!(got.ended, Ended::Cut);
    assert!(got.text().contains("upstream_error"));
}

#[tokio::test]
async fn a_choice_that_never_came_is_missed() {
    let of = |index: u32, delta: &str, finish: &str| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n")
    };
    let backend = ScriptedBackend::start(move |_| Reply::sse([of(0, "{\"content\":\"a\"}", "null"), of(0, "{}", "\"stop\"")])).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], TIMERS, "")).await;
    let mut body = chat(true);
    body["n"] = 2.into();
    let got = gateway.post("/v1/chat/completions", &body).await;
    assert!(got.ended == Ended::Cut && got.text().contains("upstream_error"), "{}", got.text());
}

#[tokio::test]
async fn a_cut_over_http2_is_told_before_the_reset() {
    let backend = ScriptedBackend::start(|_| Reply::sse([role(), delta("hel")]).then(Step::Close)).await;
    let text = config(&[member("a", &backend, 1)], TIMERS, "").replace("#server", "h2c = true");
    let gateway = Gateway::start(&text).await;
    let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://gateway/v1/chat/completions").body(()).unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(chat(true).to_string().into(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let (mut text, mut reset) = (String::new(), false);
    while let Some(data) = body.data().await {
        match data {
            Ok(bytes) => text += &String::from_utf8_lossy(&bytes),
            Err(error) => {
                reset = error.is_reset();
                break;
            }
        }
    }
    assert!(reset && text.contains("upstream_error"), "{reset} {text}");
}

#[tokio::test]
async fn an_upstreams_own_error_after_output_is_no_clean_end() {
    let error = "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\",\"code\":null}}\n\n";
    let backend = ScriptedBackend::start(move |_| Reply::sse([role(), delta("a"), error.to_owned()])).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], TIMERS, "")).await;
    let got = gateway.stream().await;
    assert_eq!((got.ended, got.text()), (Ended::Cut, role() + &delta("a") + error));
    let outcome = |outcome: &str| format!("spillway_attempts_total{{backend=\"a\",deployment=\"m\",outcome=\"{outcome}\",pool=\"pool\"}}");
    assert_eq!((gateway.metric(&outcome("ok")).await, gateway.metric(&outcome("reset")).await), (0.0, 1.0));
}
