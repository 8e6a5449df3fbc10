//! Connections to backends: used again if it is safe, and never if it isn't.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{ask, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::*;

/// A gateway with one backend.
async fn gateway(backend: &ScriptedBackend) -> Gateway {
    Gateway::start(&config(&[member("a", backend, 1)], "", "")).await
}

/// A whole answer as bytes.
fn raw(text: &str, more: &str) -> String {
    let body = answer(text);
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn requests_share_a_connection_whatever_their_answers_are() {
    let backend = ScriptedBackend::start({
        let count = AtomicUsize::new(0);
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::json(200, answer("x")),
            1 => Reply::json(200, answer("x")).chunked(),
            2 => Reply::sse(whole_stream("x")),
            3 => Reply::json(400, r#"{"error":{"message":"no"}}"#),
            4 => Reply::raw([Step::Write(format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", raw("x", "")).into_bytes())]),
            _ => Reply::json(200, answer(&"x".repeat(300_000))),
        }
    })
    .await;
    let gateway = gateway(&backend).await;
    for (number, status) in [200, 200, 200, 400, 200, 200].into_iter().enumerate() {
        let answer = if number == 2 { gateway.stream().await } else { gateway.chat().await };
        assert_eq!(answer.status, status, "{number}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn bytes_behind_an_answer_are_never_the_next_one() {
    for more in ["", "connection: keep-alive\r\n"] {
        let backend = ScriptedBackend::start({
            let count = AtomicUsize::new(0);
            move |_| match count.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::raw([Step::Write((raw("first", more) + &raw("smuggled", "")).into_bytes())]),
                _ => Reply::json(200, answer("second")),
            }
        })
        .await;
        let gateway = gateway(&backend).await;
        for expected in ["first", "second", "second"] {
            let text = gateway.chat().await.text();
            assert!(text.contains(expected) && !text.contains("smuggled"), "{text}");
        }
        assert_eq!(backend.connections(), 3, "and no connection is used again: the next one could come just in time");
        assert_eq!(gateway.metric("spillway_stray_answers_total").await, 1.0);
    }
}

#[tokio::test]
async fn a_backend_that_sends_an_answer_too_many_later_gets_no_second_request_on_a_connection() {
    let later = Arc::new(tokio::sync::Notify::new());
    let backend = ScriptedBackend::start({
        let (count, later) = (AtomicUsize::new(0), Arc::clone(&later));
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::raw([
                Step::Write(raw("first", "").into_bytes()),
                Step::Until(Arc::clone(&later)),
                Step::Write(raw("stray", "").into_bytes()),
            ]),
            _ => Reply::json(200, answer("own")),
        }
    })
    .await;
    let gateway = gateway(&backend).await;
    assert!(gateway.chat().await.text().contains("first"));
    later.notify_one();
    // Until the gateway has seen it, nothing tells it from the answer to the next request.
    for _ in 0..100 {
        gateway.chat().await;
        if gateway.metric("spillway_stray_answers_total").await == 1.0 {
            break;
        }
    }
    for _ in 0..3 {
        let before = backend.connections();
        assert!(gateway.chat().await.text().contains("own"));
        assert_eq!(backend.connections(), before + 1);
    }
    assert_eq!(gateway.metric("spillway_stray_answers_total").await, 1.0);
}

#[tokio::test]
async fn an_answer_that_has_two_meanings_is_a_failure_of_its_backend() {
    for head in [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: +1\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "x: a\r\n folded\r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n1\r\nx\r\n0\r\n\r\n").into_bytes();
        let unclear = ScriptedBackend::start(move |_| Reply::raw([Step::Write(bytes.clone())])).await;
        let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let gateway = Gateway::start(&config(&[member("unclear", &unclear, 1), member("good", &good, 2)], "", "")).await;
        assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("good"), "{head:?}");
        assert_eq!((unclear.count(), good.count()), (1, 1), "{head:?}");
    }
    // This one can be read, but another reader could find another end.
    let both = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = answer("x");
    let bytes = format!("{both}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes();
    let backend = ScriptedBackend::start(move |_| Reply::raw([Step::Write(bytes.clone())])).await;
    let gateway = gateway(&backend).await;
    for _ in 0..2 {
        let got = gateway.chat().await;
        assert_eq!((got.status, got.text()), (200, answer("x")));
    }
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn what_never_becomes_an_answer_is_a_failure_of_its_backend() {
    let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(2000) + &raw("late", "");
    for (bytes, is_304) in [(flood, false), ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), true)] {
        let bytes = bytes.into_bytes();
        let odd = ScriptedBackend::start(move |_| Reply::raw([Step::Write(bytes.clone())])).await;
        let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let gateway = Gateway::start(&config(&[member("odd", &odd, 1), member("good", &good, 2)], "", "")).await;
        let got = gateway.chat().await;
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("good")));
        // Whoever asks for it gets it, and harms nobody.
        if is_304 {
            let own = Gateway::start(&config(&[member("odd", &odd, 1), member("good", &good, 2)], "", "")).await;
            let asked = post("/v1/chat/completions", &[("if-none-match", "*")], chat(false).to_string().as_bytes());
            assert_eq!(ask(own.address, asked).await.unwrap().status, 304);
            assert_eq!(own.state("odd").await, "ready");
        }
    }
}

#[tokio::test]
async fn a_long_request_may_be_refused_before_it_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Reads some of it, answers and closes: then the rest meets a reset.
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut some = [0; 1000];
            tcp.read_exact(&mut some).await.unwrap();
            tcp.write_all(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlong").await.unwrap();
        }
    });
    let unused = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &unused, 1)], "", "").replace(&unused.url(), &format!("http://{address}"));
    let gateway = Gateway::start(&text).await;
    let mut body = chat(false);
    body["messages"][0]["content"] = "x".repeat(8 << 20).into();
    let got = gateway.post("/v1/chat/completions", &body).await;
    assert_eq!((got.status, got.text()), (413, "long".to_owned()));
}

#[tokio::test]
async fn tls_connections_are_shared_and_carry_much_both_ways() {
    let backend = ScriptedBackend::start(|request| Reply::json(200, answer(&"y".repeat(request.body.len())))).await;
    let ca = TestCa::new("ca");
    let front = tls_front(&ca, "localhost", backend.address()).await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, &ca.pem).unwrap();
    let url = format!("https://localhost:{}\"\nca = \"{}", front.port(), bundle.display());
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "").replace(&backend.url(), &url)).await;
    for length in [1, 100_000, 3_000_000, 1] {
        let mut body = chat(false);
        body["messages"][0]["content"] = "x".repeat(length).into();
        let got = gateway.post("/v1/chat/completions", &body).await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(got.body.len() > length);
        assert_eq!(backend.received().last().unwrap().json(), body);
    }
    assert_eq!(backend.connections(), 1);
    let stream = gateway.stream().await;
    assert_eq!(stream.status, 200);
}

#[tokio::test]
async fn a_gateway_that_stops_closes_idle_connections_while_a_stream_goes_on() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let backend = ScriptedBackend::start({
        let go_on = Arc::clone(&go_on);
        move |request| match request.json()["stream"].as_bool() {
            Some(true) => {
                let mut events = whole_stream("x").into_iter();
                let first = Reply::sse(events.by_ref().take(2)).then(Step::Until(Arc::clone(&go_on)));
                events.fold(first, |reply, event| reply.then(Step::Write(event.into_bytes())))
            }
            _ => Reply::json(200, answer("x")),
        }
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "lb_delay = \"0s\"");
    let gateway = Gateway::start(&text).await;
    let address = gateway.address;
    let stream = tokio::spawn(async move { ask(address, post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await });
    eventually("the stream has begun", async || backend.count() == 1).await;
    assert_eq!(gateway.chat().await.status, 200);
    assert_eq!((backend.connections(), backend.hung_up()), (2, 0));
    let stopping = tokio::spawn(gateway.running.stop(std::future::pending()));
    eventually("the idle connection is closed", async || backend.hung_up() == 1).await;
    go_on.notify_one();
    assert!(stream.await.unwrap().unwrap().text().contains("[DONE]"));
    stopping.await.unwrap();
}
