//! A form is read in one way, to its end, or refused.

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::ask;

use crate::support::*;

const HEAD: &str = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\n";
const MODEL: &str = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
const FILE: &str = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";

async fn gateway(server: &str) -> (Gateway, ScriptedBackend) {
    let backend = ScriptedBackend::start(|_| Reply::json(200, "{\"text\":\"hi\"}")).await;
    (Gateway::start(&config(&[member("a", &backend, 1)], "", "").replace("#server", server)).await, backend)
}

fn whole(kind: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn chunked(pieces: &[&str]) -> Vec<u8> {
    let mut request = format!("{HEAD}content-type: multipart/form-data; boundary=XX\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    for piece in pieces {
        request.extend_from_slice(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

#[tokio::test]
async fn what_readers_of_forms_take_differently_is_refused() {
    let (gateway, backend) = gateway("").await;
    let evil = "\r\n\r\ngpt-4o\r\n";
    for part in [
        "Content-Disposition: form-data; Name=\"model\"",
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Disposition: form-data; name=\"x\\\"; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=model",
        "Content-Disposition: form-data; name=\"Model\"",
        "content-disposition: form-data; name=\"model[]\"",
        "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
    ] {
        let body = format!("{MODEL}--XX\r\n{part}{evil}{FILE}www\r\n--XX--\r\n");
        let got = ask(gateway.address, whole("multipart/form-data; boundary=XX", &body)).await.unwrap();
        assert_eq!((got.status, got.code().as_str()), (400, "invalid_form"), "{part}");
    }
    let good = format!("{MODEL}{FILE}www\r\n--XX--\r\n");
    for (kind, status) in [
        ("multipart/form-data; boundary=XX; boundary=YY", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=XX\r\ncontent-type: multipart/form-data; boundary=YY", 415),
        ("multipart/form-data; boundary=XX\r\ncontent-encoding: gzip", 415),
        ("multipart/mixed; boundary=XX", 415),
    ] {
        assert_eq!(ask(gateway.address, whole(kind, &good)).await.unwrap().status, status, "{kind}");
    }
    assert_eq!(backend.count(), 0);
    assert_eq!(ask(gateway.address, whole("multipart/form-data; boundary=\"XX\"", &good)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_second_model_that_begins_with_the_first_is_seen() {
    let (gateway, backend) = gateway("max_body = \"256KiB\"").await;
    let second = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n";
    let (filler, end) = ("w".repeat(200_000), "\r\n--XX--\r\n");
    for cut in (1..second.len()).step_by(7) {
        // The first piece tells the model, and has the beginning of another.
        let (begin, rest) = second.split_at(cut);
        let pieces = [&*format!("{MODEL}{begin}"), &*format!("{rest}{FILE}{filler}"), &*filler, end];
        let got = ask(gateway.address, chunked(&pieces)).await;
        assert!(got.is_err() || got.as_ref().is_ok_and(|got| got.status == 400), "{cut}: {got:?}");
    }
    for request in backend.received() {
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains("gpt-4o") || request.ended != spillway_testkit::wire::Ended::Whole, "it never arrives whole");
    }
}

#[tokio::test]
async fn an_http2_upload_ends_once() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("hi"))).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "h2c = true\nmax_body = \"64KiB\"");
    let gateway = Gateway::start(&text).await;
    let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let body = format!("{MODEL}{FILE}{}\r\n--XX--\r\n", "w".repeat(200_000)).into_bytes();
    for round in 1..=5 {
        let request =
            http::Request::post("http://gateway/v1/audio/transcriptions").header("content-type", "multipart/form-data; boundary=XX");
        let (answer, mut stream) = client.clone().ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
        let mut rest = bytes::Bytes::from(body.clone());
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
            stream.send_data(rest.split_to(room.min(rest.len())), false).unwrap();
        }
        // The end comes by itself, in an empty frame.
        stream.send_data(bytes::Bytes::new(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200, "{round}");
        // A surplus end would be the beginning of this one's request.
        assert_eq!(gateway.chat().await.status, 200, "{round}");
    }
    let received = backend.received();
    assert_eq!(received.len(), 10);
    assert!(received.iter().all(|request| request.head.line[0] == "POST" && request.ended == spillway_testkit::wire::Ended::Whole));
    assert!(received.iter().step_by(2).all(|request| request.body == body));
}
