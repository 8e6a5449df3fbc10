//! The gateway's own answers on the wire.

use spillway_testkit::client::Response;
use spillway_testkit::wire::Ended;

use super::*;
use crate::proxy::fixtures::{get, post, session};

/// The answer to a request that is refused, and whether its connection ends.
async fn refused(request: &str, refusal: &Refusal) -> (Response, bool) {
    let (mut session, mut caller) = session(request).await;
    let length =
        refuse(&mut session, refusal, Dialect::OpenAi, "the-id", &Clock::new(), |head| head.add_parsed("x-more", b"1")).await.unwrap();
    let got = caller.answer().await;
    assert_eq!(
        (length, got.header("x-more"), got.header("x-request-id")),
        (error_body(refusal, Dialect::OpenAi, "the-id").len(), Some("1"), Some("the-id"))
    );
    let ends = got.header("connection") == Some("close");
    (got, ends)
}

#[tokio::test]
async fn a_refusal_says_whether_it_is_worth_another_try() {
    let chat = post("/v1/chat/completions", &[], "");
    let (got, ends) = refused(&chat, &Refusal::Unauthorized).await;
    assert_eq!((got.status, got.header("x-should-retry"), got.header("www-authenticate")), (401, Some("false"), Some("Bearer")));
    assert!(!ends);
    let (got, _) = refused(&chat, &Refusal::WrongMethod { allowed: "POST" }).await;
    assert_eq!((got.status, got.header("allow"), got.header("www-authenticate")), (405, Some("POST"), None));
    let (got, ends) = refused(&chat, &Refusal::Overloaded { what: "requests in flight" }).await;
    assert_eq!((got.status, got.header("x-should-retry"), got.header("retry-after")), (503, None, Some("1")));
    assert!(ends, "what follows on the connection is not wanted");
    let soon = Refusal::UpstreamTimeout { model: "m".to_owned(), retry_after: Some(Duration::from_millis(1)) };
    let (got, _) = refused(&chat, &soon).await;
    assert_eq!((got.status, got.header("x-should-retry")), (504, None));
    assert!(got.header("retry-after").is_some());
}

#[tokio::test]
async fn a_head_without_a_body_is_all_that_a_head_request_gets() {
    let (mut session, caller) = session(get("/v1/models", &[]).replacen("GET", "HEAD", 1)).await;
    json(&mut session, StatusCode::OK, &json!({ "a": 1 }), "the-id", &Clock::new()).await.unwrap();
    drop(session);
    let text = String::from_utf8(caller.bytes().await).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.to_ascii_lowercase().contains("content-length: 7\r\n"), "{text}");
}

#[tokio::test]
async fn json_is_written_whole_and_is_not_kept_on_the_way() {
    let (mut session, mut caller) = session(get("/v1/models", &[("origin", "https://a.test")])).await;
    json(&mut session, StatusCode::OK, &json!({ "a": 1 }), "the-id", &Clock::new()).await.unwrap();
    let got = caller.answer().await;
    assert_eq!((got.status, got.text().as_str(), got.ended), (200, "{\"a\":1}", Ended::Whole));
    assert_eq!((got.header("cache-control"), got.header("content-type")), (Some("no-store"), Some("application/json")));
    assert_eq!(got.header("access-control-allow-origin"), Some("https://a.test"), "an origin that is left is allowed");
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_not_waited_for() {
    let (mut session, _caller) = session(get("/v1/models", &[])).await;
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    let head = head(StatusCode::OK, "text/plain", Some(body.len()), "the-id");
    let error = send(&mut session, Some(head), body, true, (Duration::from_millis(50), &Clock::new())).await.unwrap_err();
    assert_eq!((error.etype(), error.esource()), (&pingora::ErrorType::WriteTimedout, &pingora::ErrorSource::Downstream));
}

#[tokio::test]
async fn the_rest_of_a_body_is_read_so_that_its_sender_sees_the_answer() {
    let request = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: 10\r\n\r\n01234";
    let (mut session, mut caller) = session(request).await;
    caller.send("56789").await;
    refuse(&mut session, &Refusal::TooLarge { limit: 5 }, Dialect::OpenAi, "the-id", &Clock::new(), |_| ()).await.unwrap();
    assert!(session.is_body_done());
    let got = caller.answer().await;
    assert_eq!((got.status, got.header("connection")), (413, Some("close")));
}

#[test]
fn an_error_has_the_shape_of_the_dialect() {
    let of = |refusal: &Refusal, dialect| serde_json::from_slice::<Value>(&error_body(refusal, dialect, "the-id")).unwrap();
    let refusal = Refusal::UnknownModel { model: "x".to_owned() };
    let message = refusal.to_string();
    let openai = json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": "model_not_found" } });
    assert_eq!((of(&refusal, Dialect::OpenAi), of(&refusal, Dialect::Azure)), (openai.clone(), openai));
    let anthropic = json!({ "type": "error", "request_id": "the-id", "error": { "type": "not_found_error", "message": message, "code": "model_not_found" } });
    assert_eq!(of(&refusal, Dialect::Anthropic), anthropic);
    let failed =
        Refusal::UpstreamFailed { model: "m".to_owned(), last: "failed", retry_after: None, upstream: Some((Some(500), "on fire".into())) };
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        assert_eq!(of(&failed, dialect)["error"]["upstream"], json!({ "status": 500, "message": "on fire" }));
    }
}

#[test]
fn an_event_has_the_shape_of_its_api() {
    let of = |api, sequence| String::from_utf8(error_event(api, "no", "upstream_error", sequence).to_vec()).unwrap();
    let data = |event: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str::<Value>(line).unwrap()
    };
    let chat = of(Api::Chat, Some(3));
    assert!(chat.starts_with("data: {") && chat.ends_with("}\n\n"), "{chat}");
    assert_eq!(data(&chat)["error"]["code"], "upstream_error");
    let responses = of(Api::Responses, Some(3));
    assert!(responses.starts_with("event: error\ndata: "), "{responses}");
    assert_eq!((&data(&responses)["type"], &data(&responses)["sequence_number"]), (&json!("error"), &json!(4)));
    assert_eq!(data(&of(Api::Responses, None))["sequence_number"], 0);
    let messages = of(Api::Messages, None);
    assert_eq!((&data(&messages)["type"], &data(&messages)["error"]["type"]), (&json!("error"), &json!("api_error")));
}
