//! How a socket begins.

use super::*;
use crate::proxy::fixtures::{get, pingora_session as session};

/// The example of RFC 6455, 1.3.
const ASKED: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn with(more: &[(&'static str, &'static str)], without: &str) -> Vec<(&'static str, &'static str)> {
    ASKED.iter().filter(|(name, _)| *name != without).chain(more).copied().collect()
}

#[tokio::test]
async fn a_socket_is_asked_for_where_responses_are() {
    let asks = async |target: &str, fields: &[(&str, &str)]| {
        let (session, _caller) = session(get(target, fields)).await;
        is_asked(&session)
    };
    for target in ["/v1/responses", "/openai/v1/responses", "/openai/responses?api-version=x"] {
        assert!(asks(target, &ASKED).await, "{target}");
    }
    for target in ["/v1/realtime", "/v1/chat/completions", "/v1/responses/resp_1", "/openai/deployments/m/responses"] {
        assert!(!asks(target, &ASKED).await, "{target}");
    }
    assert!(!asks("/v1/responses", &[]).await);
}

#[tokio::test]
async fn the_key_is_answered_and_a_subprotocol_chosen() {
    let fields = with(&[("sec-websocket-protocol", "openai-insecure-api-key.secret, responses.v1")], "");
    let (mut session, mut caller) = session(get("/v1/responses", &fields)).await;
    assert!(accept(&mut session, "the-id").await.is_ok());
    let got = caller.answer().await;
    assert_eq!((got.status, got.header("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    assert_eq!((got.header("upgrade"), got.header("sec-websocket-protocol")), (Some("websocket"), Some("responses.v1")));
    assert_eq!(got.header("x-request-id"), Some("the-id"));
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let refused = async |fields: &[(&str, &str)]| {
        let (mut session, _caller) = session(get("/v1/responses", fields)).await;
        match accept(&mut session, "the-id").await {
            Err(IntakeError::Refuse(refusal)) => refusal.shape().status.as_u16(),
            _ => panic!("{fields:?}"),
        }
    };
    for (fields, status) in [
        (with(&[], "upgrade"), 426),
        (with(&[("sec-websocket-version", "8")], "sec-websocket-version"), 426),
        (with(&[], "sec-websocket-key"), 400),
        (with(&[("sec-websocket-key", "c2hvcnQ=")], "sec-websocket-key"), 400),
        (with(&[("content-length", "0")], ""), 400),
    ] {
        assert_eq!(refused(&fields).await, status, "{fields:?}");
    }
}

#[test]
fn what_is_of_the_socket_stays_with_it() {
    let mut asked = HeaderMap::new();
    for (name, value) in with(&[("x-custom", "1"), ("authorization", "Bearer k"), ("x-hop", "1")], "connection") {
        asked.append(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("connection", "upgrade, x-hop"),
        ("content-type", "a/b"),
        ("origin", "https://a.test"),
        ("idempotency-key", "1"),
        ("x-spillway-internal", "0"),
        ("openai-beta", "responses_websockets=2026-02-04"),
        ("sec-websocket-protocol", "openai-insecure-api-key.secret"),
    ] {
        asked.append(name, HeaderValue::from_static(value));
    }
    let own = own_headers(&asked);
    let mut names: Vec<&str> = own.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = ["authorization", "host", "sec-websocket-protocol", "x-custom"];
    assert_eq!(names, expected);
    assert_eq!(own[HOST], "socket");
    asked.insert(HOST, HeaderValue::from_static("gateway"));
    asked.insert("openai-beta", HeaderValue::from_static("other=1"));
    let own = own_headers(&asked);
    assert_eq!((&own[HOST], &own["openai-beta"]), (&HeaderValue::from_static("gateway"), &HeaderValue::from_static("other=1")));
}

#[test]
fn each_request_has_the_sockets_id_and_its_number() {
    let mut headers = HeaderMap::new();
    number(&mut headers, "the-id", 1);
    number(&mut headers, "the-id", 2);
    assert_eq!(headers.get_all("x-request-id").iter().collect::<Vec<_>>(), ["the-id-2"]);
    number(&mut headers, &"x".repeat(128), 3);
    assert_eq!(headers["x-request-id"], format!("{}-3", "x".repeat(100)));
}
