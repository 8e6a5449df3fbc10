//! What one consumer's requests meet changes nothing for another.

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client::Response;

use crate::support::*;

fn two_consumers() -> String {
    consumer("hostile", "") + &consumer("ordinary", "")
}

/// Whether a request is the hostile consumer's.
fn is_hostile(request: &Received) -> bool {
    String::from_utf8_lossy(&request.body).contains("hostile")
}

async fn two(
    pool: &str,
    reply: impl Fn(&Received) -> Reply + Send + Sync + Clone + 'static,
) -> (ScriptedBackend, ScriptedBackend, Gateway) {
    let one = ScriptedBackend::start(reply.clone()).await;
    let other = ScriptedBackend::start(reply).await;
    let gateway = Gateway::start(&config(&[member("one", &one, 1), member("other", &other, 2)], pool, &two_consumers())).await;
    (one, other, gateway)
}

async fn ask(gateway: &Gateway, who: &str, path: &str, more: Value) -> Response {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": who }], "input": who });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let text = body.to_string();
    spillway_testkit::client::ask(gateway.address, spillway_testkit::client::post(path, &[("api-key", who)], text.as_bytes()))
        .await
        .unwrap()
}

/// Whatever the backends answer to the hostile one, the ordinary one is served by the first, at the first attempt.
async fn holds(reply: impl Fn() -> Reply + Send + Sync + Clone + 'static, status: u16, more: Value) {
    let script = move |request: &Received| if is_hostile(request) { reply() } else { Reply::json(200, answer("fine")) };
    let (_one, _other, gateway) = two("", script).await;
    assert_eq!(ask(&gateway, "ordinary", "/v1/chat/completions", json!({})).await.status, 200);
    for _ in 0..8 {
        let got = ask(&gateway, "hostile", "/v1/chat/completions", more.clone()).await;
        assert!(got.status == status || got.status >= 500, "{}", got.text());
        let got = ask(&gateway, "ordinary", "/v1/chat/completions", json!({})).await;
        assert_eq!((got.status, got.header("x-spillway-backend"), got.header("x-spillway-attempts")), (200, Some("one"), Some("1")));
    }
    assert_eq!(gateway.state("one").await, "ready");
}

#[tokio::test]
async fn a_refusal_of_one_request_takes_no_member_out() {
    for (status, body) in [
        (403, r#"{"error":{"code":"Forbidden","message":"no image_generation here"}}"#),
        (404, r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#),
        (404, r#"{"error":{"code":"404","message":"Resource not found"}}"#),
        (404, r#"{"error":{"code":"model_not_found","message":"x"}}"#),
    ] {
        holds(move || Reply::json(status, body), status, json!({})).await;
    }
    holds(|| Reply::json(401, r#"{"error":{"code":"PermissionDenied","message":"x"}}"#), 502, json!({})).await;
    holds(|| Reply::json(429, r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota"}}"#), 503, json!({})).await;
}

#[tokio::test]
async fn failures_that_one_consumer_provokes_open_no_circuit_for_another() {
    holds(|| Reply::json(500, r#"{"error":{"message":"boom"}}"#), 502, json!({})).await;
    holds(|| Reply::raw([spillway_testkit::backend::Step::Reset]), 502, json!({})).await;
    holds(|| Reply::sse([r#"data: {"error":{"message":"x","type":"server_error"}}"#.to_owned() + "\n\n"]), 502, json!({ "stream": true }))
        .await;
}

#[tokio::test]
async fn what_every_member_refuses_is_answered_in_the_last_ones_words() {
    let refusal = r#"{"error":{"code":"Forbidden","message":"image_generation is not enabled for this account"}}"#;
    let (one, other, gateway) = two("", move |_: &Received| Reply::json(403, refusal)).await;
    let got = ask(&gateway, "hostile", "/v1/chat/completions", json!({})).await;
    assert_eq!((got.status, got.text().as_str()), (403, refusal));
    assert_eq!((one.count(), other.count()), (1, 1), "each was asked once");
    let got = ask(&gateway, "ordinary", "/v1/chat/completions", json!({})).await;
    assert_eq!((got.status, got.text().as_str()), (403, refusal));
}

#[tokio::test]
async fn what_a_backend_says_of_our_credentials_is_not_for_a_caller() {
    let (_one, _other, gateway) = two("", |_: &Received| Reply::json(401, r#"{"error":{"message":"Incorrect API key sk-canary"}}"#)).await;
    let got = ask(&gateway, "hostile", "/v1/chat/completions", json!({})).await;
    assert!(got.status >= 500 && !got.text().contains("canary"), "{}", got.text());
}

#[tokio::test]
async fn an_operation_that_is_refused_leaves_the_others_in_use() {
    let script = |request: &Received| match request.path() {
        "/v1/responses" => Reply::json(401, r#"{"error":{"code":"missing_scope","message":"x"}}"#),
        _ => Reply::json(200, answer("fine")),
    };
    let (one, _other, gateway) = two("", script).await;
    for who in ["hostile", "ordinary", "hostile", "ordinary"] {
        assert!(ask(&gateway, who, "/v1/responses", json!({})).await.status >= 500);
    }
    let before = one.count();
    assert!(before <= 2, "two consumers were refused: it is out for that operation ({before})");
    let got = ask(&gateway, "ordinary", "/v1/chat/completions", json!({})).await;
    assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("one")));
}

#[tokio::test]
async fn faults_of_the_caller_inside_a_stream_are_delivered_and_asked_once() {
    for code in ["failed_to_download_image", "invalid_image_url", "image_too_large", "bio_policy", "a_code_that_nobody_knows"] {
        let event = format!(
            "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"id\":\"resp_1\",\"error\":{{\"code\":\"{code}\",\"message\":\"x\"}}}}}}\n\n"
        );
        let script = move |request: &Received| if is_hostile(request) { Reply::sse([event.clone()]) } else { Reply::json(200, "{}") };
        let (one, other, gateway) = two("", script).await;
        for round in 1..=6 {
            let got = ask(&gateway, "hostile", "/v1/responses", json!({ "stream": true })).await;
            assert!(got.status == 200 && got.text().contains(code), "{}", got.text());
            assert_eq!((one.count(), other.count()), (round, 0));
        }
        assert_eq!(gateway.state("one").await, "ready");
    }
}

#[tokio::test]
async fn words_about_stream_options_end_no_usage_reports() {
    let script = |request: &Received| match is_hostile(request) {
        true => Reply::json(400, r#"{"error":{"message":"Invalid content: stream_options","param":"messages","code":null}}"#),
        false => Reply::sse(whole_stream("hi")),
    };
    let (one, _other, gateway) = two("", script).await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "hostile", "/v1/chat/completions", json!({ "stream": true })).await.status, 400);
    }
    assert_eq!(ask(&gateway, "ordinary", "/v1/chat/completions", json!({ "stream": true })).await.status, 200);
    assert_eq!(one.count(), 4, "the refusal was the caller's: nothing was asked twice");
    assert_eq!(one.received()[3].json()["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn a_callers_own_stream_options_end_no_usage_reports() {
    let refusal = r#"{"error":{"message":"Unknown parameter: 'stream_options.foo'.","type":"invalid_request_error","param":"stream_options.foo","code":"unknown_parameter"}}"#;
    let script = move |request: &Received| if is_hostile(request) { Reply::json(400, refusal) } else { Reply::sse(whole_stream("hi")) };
    let (one, _other, gateway) = two("", script).await;
    let own = json!({ "stream": true, "stream_options": { "foo": 1 } });
    assert_eq!(ask(&gateway, "hostile", "/v1/chat/completions", own).await.status, 400);
    assert_eq!(one.received().last().unwrap().json()["stream_options"], json!({ "foo": 1 }), "asked again as the caller wrote it");
    assert_eq!(ask(&gateway, "ordinary", "/v1/chat/completions", json!({ "stream": true })).await.status, 200);
    assert_eq!(one.received().last().unwrap().json()["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn a_429_for_more_than_a_target_ever_takes_throttles_nobody() {
    let reply = || Reply::throttled(60_000).header("x-ratelimit-limit-tokens", "1000");
    let script = move |request: &Received| if is_hostile(request) { reply() } else { Reply::json(200, answer("fine")) };
    let (_one, _other, gateway) = two("", script).await;
    for (path, more) in [
        ("/v1/chat/completions", json!({ "max_tokens": 5000 })),
        ("/v1/chat/completions", json!({ "max_tokens": 50, "n": 40 })),
        ("/v1/responses", json!({ "max_output_tokens": 5000 })),
    ] {
        assert_eq!(ask(&gateway, "hostile", path, more.clone()).await.status, 429);
        let got = ask(&gateway, "ordinary", "/v1/chat/completions", json!({})).await;
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("one")), "{more}");
    }
}

#[tokio::test]
async fn a_429_that_is_delivered_throttles_nobody_if_the_request_was_too_large() {
    let reply = || Reply::throttled(60_000).header("x-ratelimit-limit-tokens", "1000");
    let script = move |request: &Received| if is_hostile(request) { reply() } else { Reply::json(200, answer("fine")) };
    let (one, _other, gateway) = two("[pools.retry]\nstatuses = [500]\n", script).await;
    assert_eq!(ask(&gateway, "hostile", "/v1/chat/completions", json!({ "max_tokens": 5000 })).await.status, 429);
    let got = ask(&gateway, "ordinary", "/v1/chat/completions", json!({})).await;
    assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("one")));
    assert_eq!(ask(&gateway, "hostile", "/v1/chat/completions", json!({})).await.status, 429);
    let after = ask(&gateway, "hostile", "/v1/chat/completions", json!({})).await;
    assert_eq!((after.header("x-spillway-backend"), one.count()), (Some("other"), 3), "one that fits throttles the consumer");
    assert_eq!(gateway.state("one").await, "ready", "nobody else");
}

#[tokio::test]
async fn a_429_is_one_consumers_until_another_gets_one() {
    let script = move |request: &Received| match request.header("x-full") {
        Some(_) => Reply::throttled(60_000),
        None => Reply::json(200, answer("fine")),
    };
    let one = ScriptedBackend::start(script).await;
    let other = ScriptedBackend::start(|_: &Received| Reply::json(200, answer("fine"))).await;
    let rest = two_consumers() + &consumer("third", "");
    let gateway = Gateway::start(&config(&[member("one", &one, 1), member("other", &other, 2)], "", &rest)).await;
    let by = async |who: &str, full: bool| {
        let headers: &[(&str, &str)] = if full { &[("api-key", who), ("x-full", "1")] } else { &[("api-key", who)] };
        let request = spillway_testkit::client::post("/v1/chat/completions", headers, chat(false).to_string().as_bytes());
        let got = spillway_testkit::client::ask(gateway.address, request).await.unwrap();
        got.header("x-spillway-backend").unwrap().to_owned()
    };
    assert_eq!(by("ordinary", false).await, "one");
    // Whatever makes it refuse: it stands in no header, or nobody here can know its size.
    assert_eq!(by("hostile", true).await, "other");
    assert_eq!((by("hostile", false).await, by("ordinary", false).await), ("other".into(), "one".into()));
    assert_eq!(gateway.state("one").await, "ready");
    assert_eq!(by("ordinary", true).await, "other");
    assert_eq!((by("third", false).await, gateway.state("one").await), ("other".into(), "throttled".into()));
}

/// An upload of a consumer's, with so much in it; of unknown length, so that it is not held.
fn upload(who: &str, size: usize) -> Vec<u8> {
    let part = |name: &str, text: &str| format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
    let body = part("model", "m") + &part("prompt", who) + &part("file", &"w".repeat(size)) + "--XX--\r\n";
    format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\napi-key: {who}\r\ncontent-type: multipart/form-data; boundary=XX\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn a_429_for_an_upload_that_is_too_large_throttles_nobody() {
    let reply = || Reply::throttled(60_000).header("x-ratelimit-limit-tokens", "10000");
    let script = move |request: &Received| if is_hostile(request) { reply() } else { Reply::json(200, r#"{"text":"fine"}"#) };
    let one = ScriptedBackend::start(script).await;
    let other = ScriptedBackend::start(script).await;
    let members = [member("one", &one, 1), member("other", &other, 2)];
    let text = config(&members, "", &two_consumers()).replace("#server", "max_body = \"32KiB\"");
    let gateway = Gateway::start(&text).await;
    let send = async |who: &str, size: usize| spillway_testkit::client::ask(gateway.address, upload(who, size)).await.unwrap();
    assert_eq!(send("hostile", 60_000).await.status, 429);
    let got = send("ordinary", 60_000).await;
    assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("one")), "{}", got.text());
    assert_eq!(send("hostile", 35_000).await.status, 429);
    let got = send("hostile", 35_000).await;
    assert_eq!((got.header("x-spillway-backend"), one.count()), (Some("other"), 3), "one that fits throttles the consumer");
}

#[tokio::test]
async fn a_deployment_that_a_stream_does_not_find_is_told_in_the_upstreams_words() {
    let said = r#"{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}"#;
    for (path, event) in [
        ("/v1/chat/completions", format!("data: {{\"error\":{said}}}\n\n")),
        ("/v1/responses", format!("event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"error\":{said}}}}}\n\n")),
        ("/v1/responses", format!("event: error\ndata: {{\"type\":\"error\",{}\n\n", &said[1..])),
    ] {
        let (one, other, gateway) = two("", move |_: &Received| Reply::sse([event.clone()])).await;
        let got = ask(&gateway, "hostile", path, json!({ "stream": true })).await;
        assert_eq!((got.status, got.header("content-type")), (404, Some("application/json")), "{}", got.text());
        let error = &got.json()["error"];
        assert_eq!((&error["code"], error["message"].as_str().unwrap().contains("does not exist")), (&json!("DeploymentNotFound"), true));
        assert_eq!((one.count(), other.count()), (1, 1), "each was asked once");
    }
}

#[tokio::test]
async fn a_lone_member_is_asked_again_after_a_fast_failure() {
    let only = ScriptedBackend::start({
        let first = std::sync::atomic::AtomicBool::new(true);
        move |_: &Received| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) { Reply::json(500, "{}") } else { Reply::json(200, answer("second")) }
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("only", &only, 1)], "", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.header("x-spillway-attempts"), only.count()), (200, Some("2"), 2));
}
