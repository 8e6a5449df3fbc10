//! Bad input and bad manners: a clear error, nothing upstream, and the gateway stays calm.

use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Connection, ask, get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

async fn gateway(server: &str) -> (Gateway, ScriptedBackend) {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", server);
    (Gateway::start(&text).await, backend)
}

#[tokio::test]
async fn bad_bodies_get_400_in_the_shape_of_the_api() {
    let (gateway, backend) = gateway("").await;
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: [(&str, &str); 9] = [
        ("not json", "invalid_json"),
        ("{\"model\":\"m\"", "invalid_json"),
        ("[]", "invalid_json"),
        ("", "invalid_json"),
        ("{\"model\":7}", "invalid_json"),
        ("{\"model\":\"m\",\"stream\":\"yes\"}", "invalid_json"),
        ("{\"model\":\"m\",\"model\":\"gpt-4o\"}", "invalid_json"),
        (&deep, "invalid_json"),
        ("{\"messages\":[]}", "model_missing"),
    ];
    for (body, code) in cases {
        let got = ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
        assert_eq!((got.status, got.code().as_str()), (400, code), "{}", &body[..body.len().min(40)]);
        assert!(got.header("x-request-id").is_some() && got.header("content-type") == Some("application/json"));
        assert!(got.json()["error"]["message"].as_str().unwrap().len() > 10);
    }
    let anthropic = ask(gateway.address, post("/v1/messages", &[], b"{")).await.unwrap();
    assert!(anthropic.header("request-id").is_some() && anthropic.header("request-id") == anthropic.header("x-request-id"));
    let anthropic = anthropic.json();
    assert_eq!((&anthropic["type"], &anthropic["error"]["type"]), (&"error".into(), &"invalid_request_error".into()));
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn unknown_things_are_404_and_wrong_ways_405_415() {
    let (gateway, backend) = gateway("").await;
    let unknown = gateway.post("/v1/chat/completions", &serde_json::json!({ "model": "gpt-9" })).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
    for path in ["/", "/v1/chat", "/v1/chat//completions", "/v1/%63hat/completions", "/v1/chat/completions//", "/metrics"] {
        let got = gateway.post(path, &chat(false)).await;
        assert_eq!((got.status, got.code().as_str()), (404, "not_found"), "{path}");
    }
    let lost = gateway.post("/chat/completions", &chat(false)).await.json();
    let message = "there is nothing at '/chat/completions', but at '/v1/chat/completions': is the client's base URL right?";
    assert_eq!(lost["error"]["message"], message);
    assert_eq!(get(gateway.address, "/v1/chat/completions").await.unwrap().status, 405);
    let text =
        ask(gateway.address, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi")
            .await
            .unwrap();
    assert_eq!(text.status, 415);
    assert_eq!(get(gateway.address, "/v1/realtime?model=m").await.unwrap().status, 426);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn too_large_is_413_and_readable_while_still_sending() {
    let (gateway, backend) = gateway("max_body = \"64KiB\"").await;
    let big = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "y".repeat(200_000));
    let got = ask(gateway.address, post("/v1/chat/completions", &[], big.as_bytes())).await.unwrap();
    assert_eq!((got.status, got.code().as_str()), (413, "request_too_large"));
    let mut chunked = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(format!("2710\r\n{}\r\n", "y".repeat(10_000)).as_bytes());
    }
    assert_eq!(ask(gateway.address, chunked).await.unwrap().status, 413);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn smuggling_is_refused_and_the_connection_closed() {
    let (gateway, backend) = gateway("").await;
    let smuggled = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(smuggled).await.unwrap();
    let got = connection.answer().await.unwrap();
    assert_eq!((got.status, got.header("connection")), (400, Some("close")));
    assert!(connection.answer_head().await.is_err(), "what follows is not read as a request");
    let no_host = ask(gateway.address, "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(no_host.status, 400);
    for head in [
        "GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
    ] {
        let got = ask(gateway.address, head).await.unwrap();
        assert_eq!(
            (got.status, got.code().as_str(), got.header("content-type")),
            (400, "invalid_request", Some("application/json")),
            "{head}"
        );
    }
    assert!(gateway.metric("spillway_bad_heads_total").await >= 3.0);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_line_end_after_the_body_is_no_offence() {
    let (gateway, _backend) = gateway("").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    for _ in 0..3 {
        let mut request = post("/v1/chat/completions", &[], chat(false).to_string().as_bytes());
        request.extend_from_slice(b"\r\n");
        connection.send(request).await.unwrap();
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_head_has_a_deadline_on_every_request() {
    let (gateway, _backend) = gateway("header_timeout = \"300ms\"\nkeepalive = \"600ms\"").await;
    for requests_before in [0, 1] {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        for _ in 0..requests_before {
            connection.send(post("/v1/chat/completions", &[], chat(false).to_string().as_bytes())).await.unwrap();
            assert_eq!(connection.answer().await.unwrap().status, 200);
        }
        // A byte every now and then: each read is quick, the whole is not.
        for byte in b"POST /v1/chat/comp".chunks(1) {
            if connection.send(byte).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let got = connection.answer().await;
        assert!(got.is_err() || got.as_ref().is_ok_and(|got| got.status == 408), "{got:?}");
        assert!(connection.answer_head().await.is_err(), "closed");
    }
    assert_eq!(gateway.metric("spillway_head_timeouts_total").await, 2.0);
}

#[tokio::test]
async fn a_head_has_a_deadline_over_http2_too() {
    let (gateway, _backend) = gateway("h2c = true\nheader_timeout = \"300ms\"").await;
    let frame =
        |kind: u8, flags: u8, stream: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, b"")].concat();
    // `:method: POST`, by its index in the static table; then nothing that ends the head.
    for head in [frame(1, 0, 1, &[0x83]), frame(1, 4, 1, &[0x83; 9])[..12].to_vec()] {
        let mut tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        tcp.write_all(&[begin.clone(), head].concat()).await.unwrap();
        let mut read = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut read)).await.expect("still open").unwrap();
    }
    assert_eq!(gateway.metric("spillway_head_timeouts_total").await, 2.0);
}

#[tokio::test]
async fn idle_connections_end_quietly() {
    let (gateway, _backend) = gateway("header_timeout = \"200ms\"\nkeepalive = \"200ms\"").await;
    let mut silent = Connection::open(gateway.address).await.unwrap();
    let mut kept = Connection::open(gateway.address).await.unwrap();
    kept.send(post("/v1/chat/completions", &[], chat(false).to_string().as_bytes())).await.unwrap();
    assert_eq!(kept.answer().await.unwrap().status, 200);
    assert!(silent.answer_head().await.is_err());
    assert!(kept.answer_head().await.is_err());
    eventually("no connection is left", async || gateway.metric("spillway_connections").await == 0.0).await;
    assert_eq!(gateway.metric("spillway_head_timeouts_total").await, 0.0);
}

#[tokio::test]
async fn a_body_that_stalls_is_408() {
    let (gateway, backend) = gateway("body_timeout = \"200ms\"\nh2c = true").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"mod").await.unwrap();
    let got = connection.answer().await.unwrap();
    assert_eq!((got.status, got.code().as_str(), got.header("connection")), (408, "request_timeout", Some("close")));
    // HTTP/2 bodies have no timeout of their own in Pingora.
    let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut client, h2) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(h2);
    let request = http::Request::post("http://gateway/v1/chat/completions").body(()).unwrap();
    let (answer, _silent) = client.send_request(request, false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 408);
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn requests_and_connections_are_capped_with_an_early_503() {
    let hold = std::sync::Arc::new(tokio::sync::Notify::new());
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", answer("x").len(), answer("x"));
    let backend = ScriptedBackend::start({
        let hold = hold.clone();
        move |_| {
            Reply::raw([
                spillway_testkit::backend::Step::Until(hold.clone()),
                spillway_testkit::backend::Step::Write(whole.clone().into_bytes()),
            ])
        }
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "max_in_flight = 1\nmax_connections = 3");
    let gateway = Gateway::start(&text).await;
    let (first, second) = tokio::join!(gateway.chat(), async {
        eventually("the first is under way", async || backend.count() == 1).await;
        let second = gateway.chat().await;
        hold.notify_one();
        second
    });
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.code().as_str(), second.header("retry-after")), (503, "overloaded", Some("1")));
    eventually("none is open", async || gateway.metric("spillway_connections").await == 0.0).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Connection::open(gateway.address).await.unwrap());
    }
    eventually("three are open", async || gateway.metric("spillway_connections").await == 3.0).await;
    let mut fourth = Connection::open(gateway.address).await.unwrap();
    let got = fourth.answer().await.unwrap();
    assert_eq!((got.status, got.code().as_str()), (503, "overloaded"));
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_let_go() {
    let backend = ScriptedBackend::start(|_| {
        let event = delta(&"x".repeat(64 * 1024));
        Reply::sse(vec![event; 400])
    })
    .await;
    let cancel = "[usage]\non_disconnect = \"cancel\"\n";
    let text = config(&[member("a", &backend, 1)], "", cancel).replace("#server", "write_timeout = \"300ms\"");
    let gateway = Gateway::start(&text).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    eventually("the upstream is let go", async || backend.hung_up() == 1).await;
    eventually("nothing is in flight", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
}

#[tokio::test]
async fn no_header_chooses_where_a_request_goes() {
    let elsewhere = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let (gateway, backend) = gateway("").await;
    let evil = elsewhere.address().to_string();
    let headers = [
        ("x-forwarded-host", evil.as_str()),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("forwarded", "host=evil"),
        ("x-spillway-backend", "evil"),
        ("x-ms-spillover-deployment", "evil"),
        ("authorization", "Bearer caller-secret"),
        ("cookie", "a=b"),
    ];
    let got = ask(gateway.address, post("/v1/chat/completions", &headers, chat(false).to_string().as_bytes())).await.unwrap();
    assert_eq!(got.status, 200);
    let absolute = format!(
        "POST http://{evil}/v1/chat/completions HTTP/1.1\r\nhost: {evil}\r\ncontent-length: {}\r\n\r\n{}",
        chat(false).to_string().len(),
        chat(false)
    );
    assert_eq!(ask(gateway.address, absolute).await.unwrap().status, 200);
    assert_eq!((elsewhere.connections(), backend.count()), (0, 2));
    for request in backend.received() {
        assert_eq!(request.header("host"), Some(backend.address().to_string().as_str()));
        for (name, _) in headers {
            assert_eq!(request.header(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn an_http2_header_bomb_is_refused() {
    let (gateway, backend) = gateway("h2c = true").await;
    let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post("http://gateway/v1/chat/completions");
    for n in 0..400 {
        request = request.header(format!("x-{n}"), "y".repeat(1000));
    }
    let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    let refused = answer.await.map_or(true, |answer| answer.status() == 431 || answer.status() == 400);
    assert!(refused);
    assert_eq!((backend.count(), get(gateway.address, "/v1/models").await.unwrap().status), (0, 200));
}

#[tokio::test]
async fn a_long_target_is_refused_and_harms_nobody() {
    let (gateway, backend) = gateway("").await;
    let path = format!("/v1/chat/completions?{}", "y".repeat(65_000));
    let got = gateway.post(&path, &chat(false)).await;
    assert_eq!((got.status, got.code().as_str()), (414, "target_too_long"));
    assert_eq!((backend.count(), gateway.state("a").await.as_str()), (0, "ready"));
}

#[tokio::test]
async fn refusals_are_readable_while_a_body_is_still_being_sent() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let consumers =
        "[[consumers]]\nname = \"c\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }]";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", consumers)).await;
    let big = vec![b'y'; 3_000_000];
    for (path, key, status) in [("/v1/chat/completions", "wrong", 401), ("/v1/nothing", "test", 404)] {
        let got = ask(gateway.address, post(path, &[("api-key", key)], &big)).await.unwrap();
        assert_eq!(got.status, status, "{path}");
    }
}

#[tokio::test]
async fn broken_chunks_are_a_400() {
    let (gateway, backend) = gateway("").await;
    let got =
        ask(gateway.address, "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")
            .await
            .unwrap();
    assert_eq!((got.status, got.code().as_str(), backend.count()), (400, "invalid_request", 0));
}

#[tokio::test]
async fn an_http_1_0_caller_gets_its_end() {
    let (gateway, _backend) = gateway("keepalive = \"1h\"").await;
    let body = chat(false).to_string();
    let got =
        ask(gateway.address, format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await.unwrap();
    assert_eq!((got.status, got.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn a_slow_reader_does_not_outlive_the_total() {
    let backend = ScriptedBackend::start(|_| Reply::sse(vec![delta(&"x".repeat(64 * 1024)); 400])).await;
    let timeouts = "[pools.timeouts]\ntotal = \"500ms\"\nfirst_token = \"400ms\"\nidle = \"400ms\"\nanswer = \"400ms\"";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], timeouts, "")).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 200);
    // A piece every now and then: always reading, never fast.
    while connection.chunk().await.is_ok_and(|chunk| chunk.is_some_and(|bytes| !bytes.is_empty())) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually("the upstream is let go", async || backend.hung_up() == 1).await;
    assert_eq!(gateway.metric("spillway_attempts_total{backend=\"a\",deployment=\"m\",outcome=\"idle\",pool=\"pool\"}").await, 1.0);
}
