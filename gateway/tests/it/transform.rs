//! Parameters and headers are changed on the way, and nothing else.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, post};

use crate::support::*;

#[tokio::test]
async fn consumer_and_pool_change_what_goes_on() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x")).header("x-region", "se").header("x-internal", "1")).await;
    let pool = "[pools.transform]\ncap = { max_tokens = 100 }\nrequest_headers = { set = { \"x-team\" = \"ai\" }, remove = [\"x-debug\"] }\n\
                response_headers = { set = { \"x-served-by\" = \"spillway\" }, remove = [\"x-internal\"] }\n";
    let own = "transform = { set = { user = \"crm\" }, default = { temperature = 0.2, max_tokens = 50 }, remove = [\"logit_bias\"], system_prompt = \"Be brief.\" }\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], pool, &consumer("crm", own))).await;
    let body = r#"{ "model":"m",  "user":"me", "logit_bias":{}, "messages":[ {"role":"user","content":"hi"}] }"#;
    let request = post("/v1/chat/completions", &[("api-key", "crm"), ("x-debug", "1"), ("x-other", "2")], body.as_bytes());
    let answer = ask(gateway.address, request).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        (answer.header("x-served-by"), answer.header("x-region"), answer.header("x-internal")),
        (Some("spillway"), Some("se"), None)
    );
    let got = &backend.received()[0];
    assert_eq!((got.header("x-team"), got.header("x-debug"), got.header("x-other")), (Some("ai"), None, Some("2")));
    let expected = r#"{"max_tokens":50,"temperature":0.2, "model":"m",  "user":"crm", "messages":[{"content":"Be brief.","role":"system"}, {"role":"user","content":"hi"}] }"#;
    let sent: Value = got.json();
    assert_eq!(sent, serde_json::from_str::<Value>(expected).unwrap());
    assert!(String::from_utf8_lossy(&got.body).contains(r#" "model":"m",  "user":"crm""#), "the rest is as it was");
    // The caps hold for what a caller says under another name.
    let body = json!({ "model": "m", "max_completion_tokens": 10_000, "messages": [] });
    assert_eq!(ask_as(gateway.address, "crm", &body).await.status, 200);
    let got = backend.received()[1].json();
    assert_eq!((&got["max_completion_tokens"], &got["temperature"]), (&json!(100), &json!(0.2)));
}

#[tokio::test]
async fn what_the_gateway_acts_on_is_not_to_be_changed() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    for (line, problem) in [
        ("transform = { set = { model = \"x\" } }", "'model' must not be changed"),
        ("transform = { set = { instructions = \"x\" } }", "'instructions' must not be changed"),
        ("transform = { default = { n = 5 }, cap = { n = 2 } }", "more than its cap"),
        ("transform = { set = { a = 1 }, remove = [\"a\"] }", "both removed and given"),
        ("transform = { request_headers = { set = { authorization = \"x\" } } }", "'authorization' must not be changed"),
        ("transform = { response_headers = { remove = [\"no name\"] } }", "not a header name"),
    ] {
        let text = config(&[member("a", &backend, 1)], "", &consumer("crm", line));
        let error =
            spillway::config::Config::parse(&text, std::path::Path::new("x.toml"), &spillway::config::Secrets::default()).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[tokio::test]
async fn headers_change_for_sockets_and_streamed_uploads_too() {
    let backend = ScriptedBackend::start(|request| match request.path().starts_with("/v1/realtime") {
        true => Reply::raw([Step::Write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\nx-internal: 1\r\n\r\n"
                .to_vec(),
        ), Step::Echo]),
        false => Reply::json(200, "{\"text\":\"hi\"}").header("x-internal", "1"),
    })
    .await;
    let pool = "transform = { request_headers = { set = { x-team = \"ai\" }, remove = [\"x-debug\"] }, \
                response_headers = { set = { x-region = \"se\" }, remove = [\"x-internal\"] } }";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], pool, "")).await;
    let mut socket = Connection::open(gateway.address).await.unwrap();
    socket.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nx-debug: 1\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await.unwrap();
    let (status, head) = socket.answer_head().await.unwrap();
    assert_eq!((status, head.header("x-region"), head.header("x-internal")), (101, Some("se"), None));
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n";
    let mut upload = Connection::open(gateway.address).await.unwrap();
    upload.send(format!("POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nx-debug: 1\r\ncontent-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{form}\r\n0\r\n\r\n", form.len())).await.unwrap();
    let answer = upload.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("x-region"), answer.header("x-internal")), (200, Some("se"), None), "{}", answer.text());
    let received = backend.received();
    assert_eq!(received.len(), 2);
    for got in received {
        assert_eq!((got.header("x-team"), got.header("x-debug")), (Some("ai"), None), "{}", got.path());
    }
}
