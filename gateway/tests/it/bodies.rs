//! Bodies arrive byte for byte at whichever target serves them.

use std::io::Write as _;

use sha2::{Digest, Sha256};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Connection, ask, post};

use crate::support::*;

/// A chat body of exactly `size` bytes whose keys stand in an unusual order.
fn body(size: usize) -> Vec<u8> {
    if size == 10 {
        return b"{\"n\":  1 }".to_vec();
    }
    let empty = "{\"zeta\" : 1.50, \"messages\":[{\"content\":\"\",\"role\":\"user\"}],  \"model\":\"m\",\"alpha\":[ ]}";
    if size <= empty.len() {
        return format!("{{\"model\":\"m\"{}}}", " ".repeat(size.saturating_sub(13))).into_bytes();
    }
    let mut rng = fastrand(size as u64);
    let text: String = (0..size - empty.len()).map(|_| char::from(b'a' + (rng() % 26) as u8)).collect();
    empty.replacen("\"content\":\"\"", &format!("\"content\":\"{text}\""), 1).into_bytes()
}

fn fastrand(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

/// Ten bytes have no room for a model: there the URL names it.
fn path(size: usize) -> &'static str {
    if size == 10 { "/openai/deployments/m/chat/completions?api-version=x" } else { "/v1/chat/completions" }
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

const SIZES: [usize; 8] = [10, 13, 63 * 1024, 64 * 1024, 65 * 1024, 65_536 + 1, 1 << 20, 20 << 20];

async fn throttled_pair() -> (ScriptedBackend, ScriptedBackend) {
    (ScriptedBackend::start(|_| Reply::throttled(1)).await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await)
}

/// A pool of the two whose own URL form names the model too, so that no body needs one.
fn dated(first: &ScriptedBackend, second: &ScriptedBackend) -> String {
    let extra = "kind = \"azure-openai\"\napi = \"dated\"";
    let members =
        [Member { name: "first", backend: first, priority: 1, extra }, Member { name: "second", backend: second, priority: 2, extra }];
    config(&members, "", "")
}

#[tokio::test]
async fn any_size_arrives_at_the_second_target() {
    let (first, second) = throttled_pair().await;
    let gateway = Gateway::start(&dated(&first, &second)).await;
    for size in SIZES {
        let sent = body(size);
        assert_eq!(sent.len(), size);
        let before = (first.count(), second.count());
        let got = ask(gateway.address, post(path(size), &[], &sent)).await.unwrap();
        assert_eq!(got.status, 200, "{size}");
        assert_eq!((first.count(), second.count()), (before.0 + 1, before.1 + 1), "{size}");
        for backend in [&first, &second] {
            let arrived = backend.received().pop().unwrap();
            assert_eq!(sha(&arrived.body), sha(&sent), "{size}");
            assert_eq!(arrived.header("content-length"), Some(size.to_string().as_str()));
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn chunked_bodies_too() {
    let (first, second) = throttled_pair().await;
    let gateway = Gateway::start(&dated(&first, &second)).await;
    for size in SIZES {
        let sent = body(size);
        let before = (first.count(), second.count());
        let mut request = format!("POST {} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", path(size)).into_bytes();
        for piece in sent.chunks(10_007) {
            write!(request, "{:x}\r\n", piece.len()).unwrap();
            request.extend_from_slice(piece);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(ask(gateway.address, request).await.unwrap().status, 200, "{size}");
        assert_eq!((first.count(), second.count()), (before.0 + 1, before.1 + 1), "{size}");
        for backend in [&first, &second] {
            assert_eq!(sha(&backend.received().pop().unwrap().body), sha(&sent), "{size}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn over_http2_too() {
    let (first, second) = throttled_pair().await;
    let text = dated(&first, &second).replace("#server", "h2c = true");
    let gateway = Gateway::start(&text).await;
    let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    for size in SIZES {
        let sent = body(size);
        let before = (first.count(), second.count());
        let request = http::Request::post(format!("http://gateway{}", path(size))).body(()).unwrap();
        let (answer, mut stream) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
        let mut rest = bytes::Bytes::from(sent.clone());
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
            let piece = rest.split_to(room.min(rest.len()));
            stream.send_data(piece, rest.is_empty()).unwrap();
        }
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200, "{size}");
        assert_eq!(answer.headers()["x-spillway-backend"], "second");
        let mut body = answer.into_body();
        while let Some(data) = body.data().await {
            let _ = body.flow_control().release_capacity(data.unwrap().len());
        }
        assert_eq!((first.count(), second.count()), (before.0 + 1, before.1 + 1), "{size}");
        for backend in [&first, &second] {
            let arrived = backend.received().pop().unwrap();
            assert_eq!((sha(&arrived.body), arrived.header("host")), (sha(&sent), Some(backend.address().to_string().as_str())), "{size}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn only_the_models_name_is_replaced() {
    let first = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let second = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let members = [
        Member { name: "first", backend: &first, priority: 1, extra: "deployments = { m = \"ptu-deployment\" }" },
        member("second", &second, 2),
    ];
    let text = config(&members, "", "");
    let gateway = Gateway::start(&text).await;
    let sent = body(500);
    ask(gateway.address, post("/v1/chat/completions", &[], &sent)).await.unwrap();
    let expected = String::from_utf8(sent.clone()).unwrap().replace("\"model\":\"m\"", "\"model\":\"ptu-deployment\"");
    let arrived = first.received().pop().unwrap();
    assert_eq!(String::from_utf8(arrived.body.clone()).unwrap(), expected);
    assert_eq!(arrived.header("content-length"), Some(expected.len().to_string().as_str()));
    assert_eq!(second.received().pop().unwrap().body, sent);
}

#[tokio::test]
async fn expect_100_continue_is_answered() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let sent = chat(false).to_string();
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection
        .send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", sent.len()))
        .await
        .unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 100);
    connection.send(&sent).await.unwrap();
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert_eq!(backend.received()[0].header("expect"), None);
    let other =
        ask(gateway.address, "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: magic\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    assert_eq!(other.status, 417);
}

#[tokio::test]
async fn a_body_freed_at_the_commit_point_and_counted_until_then() {
    let hold = std::sync::Arc::new(tokio::sync::Notify::new());
    let backend = ScriptedBackend::start({
        let hold = hold.clone();
        move |_| {
            Reply::sse([role()])
                .then(spillway_testkit::backend::Step::Until(hold.clone()))
                .then(spillway_testkit::backend::Step::Write(delta("a").into_bytes()))
                .then(spillway_testkit::backend::Step::Until(hold.clone()))
        }
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "max_buffered = \"1MiB\"\nmax_body = \"1MiB\"");
    let gateway = Gateway::start(&text).await;
    let big = format!("{{\"model\":\"m\",\"stream\":true,\"x\":\"{}\"}}", "y".repeat(700_000));
    let mut first = Connection::open(gateway.address).await.unwrap();
    first.send(post("/v1/chat/completions", &[], big.as_bytes())).await.unwrap();
    eventually("the first is held", async || backend.count() == 1).await;
    assert!(gateway.metric("spillway_buffered_bytes").await >= 700_000.0);
    let second = ask(gateway.address, post("/v1/chat/completions", &[], big.as_bytes())).await.unwrap();
    assert_eq!((second.status, second.code().as_str()), (503, "overloaded"));
    hold.notify_one();
    assert_eq!(first.answer_head().await.unwrap().0, 200);
    eventually("the body is freed while the stream goes on", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
}
