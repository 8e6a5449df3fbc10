//! URL forms in, each backend's own form out; keys where each kind expects them.

use std::sync::Arc;

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, frame, get, post};

use crate::support::*;

async fn one(extra: &str) -> (Gateway, ScriptedBackend) {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[Member { name: "a", backend: &backend, priority: 1, extra }], "", "")).await;
    (gateway, backend)
}

#[tokio::test]
async fn whatever_form_comes_in_each_backend_gets_its_own() {
    let kinds = [
        ("kind = \"openai\"", "/v1/chat/completions"),
        ("kind = \"azure-openai\"", "/openai/v1/chat/completions"),
        (
            "kind = \"azure-openai\"\napi = \"dated\"\napi_version = \"2024-06-01\"",
            "/openai/deployments/dep/chat/completions?api-version=2024-06-01",
        ),
    ];
    let forms = ["/v1/chat/completions", "/openai/v1/chat/completions", "/openai/deployments/m/chat/completions?api-version=2024-10-21"];
    for (extra, expected) in kinds {
        let (gateway, backend) = one(&format!("{extra}\ndeployments = {{ m = \"dep\" }}")).await;
        for form in forms {
            assert_eq!(gateway.post(form, &chat(false)).await.status, 200, "{form}");
            let arrived = backend.received().pop().unwrap();
            assert_eq!((arrived.path(), &arrived.json()["model"]), (expected, &json!("dep")), "{form}");
        }
        // The path names the model, the body doesn't.
        assert_eq!(gateway.post(forms[2], &json!({ "messages": [] })).await.status, 200);
        let dated = extra.contains("dated");
        let expected = if dated { json!({ "messages": [] }) } else { json!({ "model": "dep", "messages": [] }) };
        assert_eq!(backend.received().pop().unwrap().json(), expected, "a dated URL names the deployment itself");
        assert_eq!(gateway.post(forms[2], &json!({})).await.status, 200);
        assert_eq!(backend.received().pop().unwrap().json(), if dated { json!({}) } else { json!({ "model": "dep" }) });
    }
}

#[tokio::test]
async fn the_path_decides_over_the_body() {
    let (gateway, backend) = one("").await;
    gateway.post("/openai/deployments/gpt-4o/chat/completions", &chat(false)).await;
    assert_eq!(backend.received().pop().unwrap().json()["model"], "gpt-4o");
}

#[tokio::test]
async fn keys_go_where_each_kind_expects_them() {
    for (kind, header, value) in
        [("openai", "authorization", "Bearer sk-1"), ("azure-openai", "api-key", "sk-1"), ("anthropic", "x-api-key", "sk-1")]
    {
        let (gateway, backend) = one(&format!("kind = \"{kind}\"\nauth = {{ type = \"api-key\", key = \"sk-1\" }}")).await;
        let path = if kind == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" };
        let caller = [("authorization", "Bearer caller")];
        ask(gateway.address, post(path, &caller, chat(false).to_string().as_bytes())).await.unwrap();
        let arrived = backend.received().pop().unwrap();
        assert_eq!(arrived.header(header), Some(value));
        assert!(arrived.head.headers.iter().all(|(_, v)| !v.contains("caller")));
        assert_eq!(arrived.header("anthropic-version").is_some(), kind == "anthropic");
    }
    let (gateway, backend) = one("kind = \"azure-openai\"\nauth = { type = \"passthrough\" }").await;
    ask(gateway.address, post("/v1/chat/completions", &[("authorization", "Bearer their-key")], chat(false).to_string().as_bytes()))
        .await
        .unwrap();
    assert_eq!(backend.received().pop().unwrap().header("api-key"), Some("their-key"));
}

#[tokio::test]
async fn a_backend_that_speaks_another_api_is_not_asked() {
    let anthropic = ScriptedBackend::start(|_| Reply::json(200, r#"{"type":"message","content":[]}"#)).await;
    let openai = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let members = [Member { name: "claude", backend: &anthropic, priority: 1, extra: "kind = \"anthropic\"" }, member("gpt", &openai, 2)];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    gateway.chat().await;
    gateway.post("/v1/messages", &chat(false)).await;
    assert_eq!((anthropic.count(), openai.count()), (1, 1));
    let (gateway, backend) = one("kind = \"anthropic\"").await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str(), backend.count()), (404, "model_not_found", 0));
}

#[tokio::test]
async fn models_are_listed_from_the_config() {
    let (gateway, backend) = one("").await;
    let list = get(gateway.address, "/v1/models").await.unwrap().json();
    let names: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["m", "gpt-4o", "text-embedding-3-small"]);
    assert_eq!(get(gateway.address, "/v1/models/gpt-4o").await.unwrap().json()["id"], "gpt-4o");
    assert_eq!(get(gateway.address, "/openai/models?api-version=x").await.unwrap().status, 200);
    assert_eq!(get(gateway.address, "/v1/models/nope").await.unwrap().status, 404);
    assert_eq!(backend.count(), 0);
}

fn form(model_first: bool, file: usize) -> Vec<u8> {
    let model = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
    let data = format!("--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{}\r\n", "w".repeat(file));
    let parts = if model_first { [model, &data] } else { [&data, model] };
    format!("{}{}--XX--\r\n", parts[0], parts[1]).into_bytes()
}

fn upload(body: &[u8], chunked: bool) -> Vec<u8> {
    let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=XX\r\n";
    if !chunked {
        return [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    }
    let mut request = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for piece in body.chunks(50_000) {
        request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

#[tokio::test]
async fn small_uploads_fail_over_like_json() {
    let first = ScriptedBackend::start(|_| Reply::throttled(1)).await;
    let second = ScriptedBackend::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
    let members = [
        member("first", &first, 1),
        Member { name: "second", backend: &second, priority: 2, extra: "deployments = { m = \"whisper-dep\" }" },
    ];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    for model_first in [true, false] {
        let body = form(model_first, 100_000);
        let got = ask(gateway.address, upload(&body, false)).await.unwrap();
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("second")));
        assert_eq!(first.received().pop().unwrap().body, body);
        let expected = String::from_utf8(body).unwrap().replace("\r\n\r\nm\r\n", "\r\n\r\nwhisper-dep\r\n");
        assert_eq!(String::from_utf8(second.received().pop().unwrap().body).unwrap(), expected);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn large_uploads_of_unknown_length_stream_through() {
    let gone = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
    let members =
        [member("gone", &gone, 1), Member { name: "a", backend: &backend, priority: 2, extra: "deployments = { m = \"whisper-dep\" }" }];
    let text = config(&members, "", "").replace("#server", "max_body = \"256KiB\"");
    drop(gone);
    let gateway = Gateway::start(&text).await;
    for (size, chunked) in [(1_000, true), (3_000_000, true), (3_000_000, false)] {
        let body = form(true, size);
        let got = ask(gateway.address, upload(&body, chunked)).await.unwrap();
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("a")), "{size} {chunked}: {}", got.text());
        let expected = String::from_utf8(body).unwrap().replace("\r\n\r\nm\r\n", "\r\n\r\nwhisper-dep\r\n");
        let arrived = String::from_utf8(backend.received().pop().unwrap().body).unwrap();
        assert!(arrived == expected, "{size} {chunked}: {} bytes of {}", arrived.len(), expected.len());
    }
    let hidden = ask(gateway.address, upload(&form(false, 3_000_000), true)).await.unwrap();
    assert_eq!(hidden.status, 413, "the model stands behind more than max_body");
}

#[tokio::test]
async fn a_streamed_uploads_attempt_is_counted_as_what_it_was() {
    for (status, outcome, served) in [(200, "ok", 1.0), (500, "failed", 0.0), (400, "caller_fault", 1.0), (429, "throttled", 0.0)] {
        let backend = ScriptedBackend::start(move |_| Reply::json(status, "{}")).await;
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "").replace("#server", "max_body = \"256KiB\"")).await;
        let got = ask(gateway.address, upload(&form(true, 1_000_000), true)).await.unwrap();
        assert_eq!(got.status, status);
        let name = |outcome| format!("spillway_attempts_total{{backend=\"a\",deployment=\"m\",outcome=\"{outcome}\",pool=\"pool\"}}");
        eventually("counted", async || gateway.metric(&name(outcome)).await == 1.0).await;
        assert_eq!(gateway.metric("spillway_tier_served_total{pool=\"pool\",priority=\"1\"}").await, served, "{status}");
    }
}

#[tokio::test]
async fn realtime_is_upgraded_and_pinned_to_its_target() {
    let throttled = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let backend = ScriptedBackend::start(|_| {
        Reply::raw([
            Step::Write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n"
                    .to_vec(),
            ),
            Step::Echo,
        ])
    })
    .await;
    let extra = "kind = \"azure-openai\"\nauth = { type = \"api-key\", key = \"sk-1\" }\ndeployments = { m = \"rt\" }";
    let members = [
        Member { name: "throttled", backend: &throttled, priority: 1, extra },
        Member { name: "a", backend: &backend, priority: 2, extra },
    ];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer caller\r\n\r\n").await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    assert_eq!((status, head.header("x-spillway-backend")), (101, Some("a")));
    for message in [r#"{"type":"a"}"#, r#"{"type":"b"}"#] {
        connection.send(frame(message)).await.unwrap();
        let mut echo = [0; 14];
        tokio::io::AsyncReadExt::read_exact(connection.socket(), &mut echo).await.unwrap();
        assert_eq!(&echo[2..], message.as_bytes());
    }
    assert_eq!(gateway.metric("spillway_target_in_flight{backend=\"a\",deployment=\"rt\",pool=\"pool\"}").await, 1.0);
    let arrived = backend.received().pop().unwrap();
    assert_eq!(
        (arrived.path(), arrived.header("api-key"), arrived.header("authorization")),
        ("/openai/v1/realtime?model=rt", Some("sk-1"), None)
    );
    drop(connection);
    eventually("the socket is closed on both sides", async || backend.hung_up() == 1).await;
    eventually("the slot is free", async || {
        gateway.metric("spillway_target_in_flight{backend=\"a\",deployment=\"rt\",pool=\"pool\"}").await == 0.0
    })
    .await;
    assert_eq!((throttled.count(), backend.count()), (1, 1));
}

#[tokio::test]
async fn realtime_with_nobody_left_is_a_clear_error() {
    let throttled = ScriptedBackend::start(|_| Reply::throttled(30_000)).await;
    let gateway = Gateway::start(&config(&[member("a", &throttled, 1)], "", "")).await;
    let request = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let got = ask(gateway.address, request).await.unwrap();
    assert_eq!((got.status, got.code().as_str(), got.header("retry-after")), (429, "rate_limit_exceeded", Some("30")));
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_one() {
    let (gateway, backend) = one("").await;
    let body = chat(false).to_string();
    let got = ask(gateway.address, post("/v1/chat/completions", &[("x-request-id", "abc-123")], body.as_bytes())).await.unwrap();
    assert_eq!(got.header("x-request-id"), Some("abc-123"));
    assert_eq!(backend.received()[0].header("x-request-id"), Some("abc-123"));
    let got = ask(gateway.address, post("/v1/chat/completions", &[("x-request-id", "a b\"c")], body.as_bytes())).await.unwrap();
    assert_eq!(got.header("x-request-id").unwrap().len(), 32);
    let shared: Arc<str> = got.header("x-request-id").unwrap().into();
    assert!(shared.chars().all(|c| c.is_ascii_hexdigit()));
}

#[tokio::test]
async fn a_form_that_leaves_the_model_to_the_url_gets_it() {
    for (extra, server, size) in [("kind = \"azure-openai\"", "", 1_000), ("kind = \"azure-openai\"", "max_body = \"256KiB\"", 1_000_000)] {
        let backend = ScriptedBackend::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
        let text = config(&[Member { name: "a", backend: &backend, priority: 1, extra }], "", "").replace("#server", server);
        let gateway = Gateway::start(&text).await;
        let whole = String::from_utf8(form(true, size)).unwrap();
        let body = whole.replacen("--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n", "", 1);
        let request = String::from_utf8(upload(body.as_bytes(), false)).unwrap().replacen("/v1/audio", "/openai/deployments/m/audio", 1);
        let got = ask(gateway.address, request.replacen("/transcriptions", "/transcriptions?api-version=x", 1)).await.unwrap();
        assert_eq!(got.status, 200, "{size}");
        let arrived = backend.received().pop().unwrap();
        assert_eq!((arrived.path(), arrived.ended), ("/openai/v1/audio/transcriptions", spillway_testkit::wire::Ended::Whole));
        assert!(String::from_utf8(arrived.body).unwrap() == whole, "{size}");
    }
}

#[tokio::test]
async fn a_second_model_behind_the_first_is_not_smuggled_past() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "max_body = \"256KiB\"");
    let gateway = Gateway::start(&text).await;
    let second = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n--XX--\r\n";
    let body = String::from_utf8(form(true, 1_000_000)).unwrap().replacen("--XX--\r\n", second, 1);
    let got = ask(gateway.address, upload(body.as_bytes(), true)).await;
    assert!(got.is_err() || got.as_ref().is_ok_and(|got| got.status == 400), "{got:?}");
    assert!(backend.received().iter().all(|request| !String::from_utf8_lossy(&request.body).contains("gpt-4o")));
}

#[tokio::test]
async fn an_upload_that_expects_100_gets_its_refusal() {
    let throttled = ScriptedBackend::start(|_| Reply::throttled(30_000)).await;
    let gone = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let text = config(&[member("a", &gone, 1)], "", "").replace("#server", "max_body = \"256KiB\"");
    drop(gone);
    drop(throttled);
    let gateway = Gateway::start(&text).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let body = form(true, 1_000_000);
    let request = String::from_utf8(upload(&body, true)).unwrap().replacen("host: x", "host: x\r\nexpect: 100-continue", 1);
    let (head, rest) = request.split_once("\r\n\r\n").unwrap();
    connection.send(format!("{head}\r\n\r\n")).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 100);
    connection.send(rest).await.unwrap();
    assert_eq!(connection.answer().await.unwrap().status, 502);
}

#[tokio::test]
async fn an_http2_upload_in_one_frame_arrives() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "h2c = true");
    let gateway = Gateway::start(&text).await;
    let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://gateway/v1/audio/transcriptions").header("content-type", "multipart/form-data; boundary=XX");
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(form(true, 1_000).into(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(backend.received().pop().unwrap().body, form(true, 1_000));
}

#[tokio::test]
async fn a_silent_websocket_stays_open() {
    let backend = ScriptedBackend::start(|_| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        Reply::raw([Step::Write(head.to_vec()), Step::Echo])
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "body_timeout = \"100ms\"");
    let gateway = Gateway::start(&text).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 101);
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let message = r#"{"type":"still there"}"#;
    connection.send(frame(message)).await.unwrap();
    let mut echo = [0; 24];
    tokio::io::AsyncReadExt::read_exact(connection.socket(), &mut echo).await.unwrap();
    assert_eq!(&echo[2..], message.as_bytes());
}

#[tokio::test]
async fn a_websocket_that_nobody_can_count_is_cut() {
    let opened = std::sync::Arc::new(tokio::sync::Notify::new());
    let next = std::sync::Arc::clone(&opened);
    let backend = ScriptedBackend::start(move |_| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n";
        // Compressed, though no extension was offered.
        Reply::raw([Step::Write(head.to_vec()), Step::Until(next.clone()), Step::Write(b"\xc1\x03abc".to_vec()), Step::Hang])
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n").await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    assert_eq!((status, head.header("sec-websocket-extensions")), (101, None));
    opened.notify_one();
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(connection.socket(), &mut rest).await;
    assert_eq!(rest, b"");
    eventually("the backend is let go", async || backend.hung_up() == 1).await;
}

#[tokio::test]
async fn realtime_waits_as_long_as_it_may() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let backend = ScriptedBackend::start(move |_| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            true => Reply::throttled(200),
            false => Reply::raw([Step::Write(head.to_vec()), Step::Echo]),
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "[pools.retry]\nwait = \"5s\"", "")).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    assert_eq!((status, head.header("x-spillway-attempts")), (101, Some("2")));
}
