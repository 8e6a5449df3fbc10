//! A request that the gateway doesn't read itself goes to Pingora with the bytes that were read: none is lost or changed.

use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::Connection;

use crate::support::*;

async fn gateway(server: &str) -> (Gateway, ScriptedBackend) {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace(way_in(), "").replace("#server", &format!("fast_path = true\n{server}"));
    (Gateway::start(&text).await, backend)
}

/// A request with a chunked body, whose head has a field of `pad` bytes before the others.
fn chunked(pad: usize) -> String {
    let body = chat(false).to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nx-pad: {}\r\ncontent-type: application/json\r\nx-behind: it\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        "a".repeat(pad),
        body.len()
    )
}

#[tokio::test]
async fn a_head_is_handed_over_letter_for_letter_wherever_its_lines_end() {
    let (gateway, backend) = gateway("").await;
    let line_end = chunked(0).find("\r\ncontent-type").unwrap();
    // Pingora reads into a buffer of 4 KiB that doubles: a line ends before, at and behind each of its ends.
    for edge in [4096, 8192, 16384, 32768] {
        for offset in 0..6 {
            let pad = edge - line_end + 3 - offset;
            // Alone, and behind a request that the gateway reads itself.
            for before in ["", "\r\n"] {
                let mut connection = Connection::open(gateway.address).await.unwrap();
                if !before.is_empty() {
                    let plain = spillway_testkit::client::post("/v1/chat/completions", &[], chat(false).to_string().as_bytes());
                    connection.send(plain).await.unwrap();
                    assert_eq!(connection.answer().await.unwrap().status, 200);
                }
                backend.forget();
                connection.send(before.to_owned() + &chunked(pad)).await.unwrap();
                assert_eq!(connection.answer().await.unwrap().status, 200, "{edge} {offset}");
                let received = backend.received();
                assert_eq!(received[0].header("x-pad").map(str::len), Some(pad), "{edge} {offset}");
                assert_eq!((received[0].header("content-type"), received[0].header("x-behind")), (Some("application/json"), Some("it")));
                assert_eq!(received[0].json(), chat(false));
            }
        }
    }
}

#[tokio::test]
async fn an_empty_line_at_the_end_of_a_buffer_ends_the_head() {
    let (gateway, backend) = gateway("").await;
    let body = format!("x-smuggled: from-body\r\n\r\n{}", chat(false));
    let head = |pad: usize| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nx-pad: {}",
            body.len(),
            "a".repeat(pad)
        )
    };
    for offset in 0..6 {
        let pad = 4096 - head(0).len() + 3 - offset;
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(format!("{}\r\n\r\n{body}", head(pad))).await.unwrap();
        assert_eq!(connection.answer().await.unwrap().status, 415, "{offset}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_head_that_is_handed_over_has_a_heads_time() {
    // What an idle connection has left would be too short, or far too long.
    let (gateway, _backend) = gateway("header_timeout = \"500ms\"\nkeepalive = \"1h\"").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let plain = spillway_testkit::client::post("/v1/chat/completions", &[], chat(false).to_string().as_bytes());
    connection.send(plain).await.unwrap();
    assert_eq!(connection.answer().await.unwrap().status, 200);
    connection.send("GET /v1/mod").await.unwrap();
    let got = tokio::time::timeout(Duration::from_secs(60), connection.answer()).await.expect("it waits for the rest of the head");
    assert_eq!(got.unwrap().status, 408);
}

#[tokio::test]
async fn an_answer_of_a_backend_and_one_of_the_gateway_say_when_they_were_sent() {
    let (gateway, _backend) = gateway("").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let unknown = chat(false).to_string().replace("\"m\"", "\"nothing\"");
    for (body, status) in [(chat(false).to_string(), 200), (unknown, 404)] {
        connection.send(spillway_testkit::client::post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
        let got = connection.answer().await.unwrap();
        let dates: Vec<&str> = got.head.headers.iter().filter(|(name, _)| name == "date").map(|(_, value)| value.as_str()).collect();
        assert_eq!((got.status, dates.len()), (status, 1), "{dates:?}");
        let sent = chrono::DateTime::parse_from_rfc2822(dates[0]).unwrap();
        assert!(sent.timestamp() > 1_700_000_000, "{sent}");
    }
}
