//! What the last one said.

use spillway_plugins::api::Api;

use super::*;
use crate::proxy::fixtures::{CHAT, Setup, context, facts, post, session};

#[test]
fn only_what_says_nothing_of_credentials_may_be_said() {
    let may = |status: u16| may_be_said(&ResponseHeader::build(status, None).unwrap());
    assert_eq!([403, 404, 401, 400, 429, 500].map(may), [true, true, false, false, false, false]);
}

#[test]
fn the_last_event_of_a_stream_is_a_refusal_as_without_one() {
    let mut stream = ResponseHeader::build(200, None).unwrap();
    stream.insert_header("content-type", "text/event-stream").unwrap();
    let of =
        |events: &str| of_events(&stream, events.as_bytes()).map(|(head, body)| (head, serde_json::from_slice::<Value>(&body).unwrap()));
    let (head, body) = of("data: {\"id\":1}\n\ndata: {\"error\":{\"code\":\"model_not_found\"}}\n\ndata: [DONE]\n\n").unwrap();
    assert_eq!((head.status.as_u16(), &head.headers["content-type"]), (404, &http::HeaderValue::from_static("application/json")));
    assert_eq!(body, json!({ "error": { "code": "model_not_found" } }));
    let (_, body) = of("event: response.failed\ndata: {\"response\":{\"error\":{\"code\":\"x\"}}}\n\n").unwrap();
    assert_eq!(body, json!({ "error": { "code": "x" } }));
    let (_, body) = of("data: {\"type\":\"error\",\"code\":\"x\",\"message\":\"no\"}\n\n").unwrap();
    assert_eq!(body, json!({ "error": { "code": "x", "message": "no", "param": null, "type": "error" } }));
    assert!(of("data: [DONE]\n\n").is_none());
}

#[tokio::test]
async fn it_is_said_with_the_gateways_own_fields() {
    let pool = "transform = { response_headers = { set = { x-pool = \"1\" } } }";
    let gateway = Setup { pool, ..Setup::default() }.gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let mut upstream = ResponseHeader::build(404, None).unwrap();
    for (name, value) in [("content-type", "application/json"), ("content-length", "999"), ("server", "theirs"), ("x-custom", "1")] {
        upstream.insert_header(name, value).unwrap();
    }
    let (mut session, mut caller) = session(post("/v1/chat/completions", &[], "")).await;
    let said = say(&gateway, &mut session, ctx.own_answer(), &asked, (upstream, "{\"error\":1}".into())).await;
    assert_eq!((said, ctx.reply.status, ctx.reply.bytes_out), (End::Complete, Some(404), 11));
    let got = caller.answer().await;
    assert_eq!((got.status, got.text().as_str(), got.header("content-length")), (404, "{\"error\":1}", Some("11")));
    assert_eq!(["x-custom", "x-pool", "x-request-id", "server"].map(|name| got.header(name)), [Some("1"), Some("1"), Some("the-id"), None]);
    assert_eq!((got.header("x-spillway-backend"), got.header("x-spillway-attempts")), (None, Some("0")));
}

#[tokio::test]
async fn a_caller_that_is_gone_hears_nothing() {
    let gateway = Setup::default().gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let (mut session, caller) = session(post("/v1/chat/completions", &[], "")).await;
    drop(caller);
    let said = say(&gateway, &mut session, ctx.own_answer(), &asked, (ResponseHeader::build(404, None).unwrap(), Bytes::new())).await;
    assert_eq!(said, End::CallerLeft);
}
