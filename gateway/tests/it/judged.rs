//! What is no answer, who may do better, and what the caller is told in the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};

use crate::support::*;

const TOO_LONG: &str = r#"{"error":{"message":"This model's maximum context length is 1000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
const TOO_LONG_THERE: &str =
    r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#;

fn replies(replies: &[Reply]) -> impl Fn(&spillway_testkit::backend::Received) -> Reply + Send + Sync + 'static {
    let (replies, asked) = (replies.to_vec(), AtomicUsize::new(0));
    move |_| replies[asked.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1)].clone()
}

/// A config of two members with these windows.
fn windows(members: &[Member<'_>], windows: &[u64]) -> String {
    let mut text = config(members, "", "");
    for (member, window) in members.iter().zip(windows) {
        let line = format!("{{ backend = \"{}\", priority = {} }}", member.name, member.priority);
        text = text.replace(&line, &format!("{{ backend = \"{}\", priority = {}, context = {window} }}", member.name, member.priority));
    }
    text
}

#[tokio::test]
async fn what_is_too_long_for_one_goes_to_those_that_take_more() {
    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"too long\"}}}\n\n";
    for (reply, path, body) in [
        (Reply::json(400, TOO_LONG), "/v1/chat/completions", chat(false)),
        (Reply::json(400, TOO_LONG_THERE), "/v1/chat/completions", chat(false)),
        (Reply::sse([failed]), "/v1/responses", json!({ "model": "m", "input": "x", "stream": true })),
    ] {
        let small = ScriptedBackend::start(move |_| reply.clone()).await;
        let equal = ScriptedBackend::start(|_| Reply::json(200, answer("equal"))).await;
        let large = ScriptedBackend::start(|_| Reply::json(200, answer("large"))).await;
        let members = [member("small", &small, 1), member("equal", &equal, 2), member("large", &large, 3)];
        let gateway = Gateway::start(&windows(&members, &[1000, 1000, 2000])).await;
        for round in 1..=6 {
            let got = gateway.post(path, &body).await;
            assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("large")), "{}", got.text());
            assert_eq!((small.count(), equal.count(), large.count()), (round, 0, round));
        }
        assert_eq!(gateway.state("small").await, "ready", "it works");
    }
}

#[tokio::test]
async fn what_is_too_long_for_all_is_the_callers() {
    let small = ScriptedBackend::start(|_| Reply::json(400, TOO_LONG)).await;
    let large = ScriptedBackend::start(replies(&[Reply::json(400, TOO_LONG), Reply::throttled(60_000)])).await;
    let members = [member("small", &small, 1), member("large", &large, 2)];
    let gateway = Gateway::start(&windows(&members, &[1000, 2000])).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.text(), small.count(), large.count()), (400, TOO_LONG.to_owned(), 1, 1));
    // Who could take it is throttled: later it may be answered.
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str()), (429, "rate_limit_exceeded"), "{}", got.text());
    let alone = Gateway::start(&config(&[member("small", &small, 1)], "", "")).await;
    assert_eq!(alone.chat().await.text(), TOO_LONG);
}

#[tokio::test]
async fn the_last_refusal_is_the_callers_answer() {
    // One that failed fast would be asked once more.
    let broken = ScriptedBackend::start(|_| Reply::raw([Step::Hang])).await;
    let pool = "[pools.timeouts]\nanswer = \"100ms\"";
    let said = r#"{"error":{"code":"model_not_found","message":"The tool is not set up here."}}"#;
    let refusing = ScriptedBackend::start(move |_| Reply::json(404, said)).await;
    let gateway = Gateway::start(&config(&[member("a", &broken, 1), member("b", &refusing, 2)], pool, "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.text()), (404, said.to_owned()));
    // The other way round the failure is the last.
    let gateway = Gateway::start(&config(&[member("a", &refusing, 1), member("b", &broken, 2)], pool, "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str()), (504, "upstream_timeout"));
}

#[tokio::test]
async fn the_words_of_a_failure_are_told_without_secrets() {
    let said = r#"{"error":{"message":"The engine is overloaded; key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 was fine.","type":"server_error"}}"#;
    let event = format!("event: error\ndata: {said}\n\n");
    for (reply, stream, status) in [(Reply::json(503, said), false, 503), (Reply::sse([event]), true, 200)] {
        let broken = ScriptedBackend::start(move |_| reply.clone()).await;
        let gateway = Gateway::start(&config(&[member("a", &broken, 1)], "[pools.retry]\nmax_attempts = 1", "")).await;
        let got = gateway.post("/v1/chat/completions", &chat(stream)).await;
        let upstream = &got.json()["error"]["upstream"];
        assert_eq!((got.status, &upstream["status"]), (502, &json!(status)), "{}", got.text());
        let message = upstream["message"].as_str().unwrap();
        assert!(message.starts_with("The engine is overloaded; key") && !message.contains("abcdefg"), "{message}");
        let told = gateway.admin(&format!("/api/requests/{}", got.header("x-request-id").unwrap())).await.json();
        assert_eq!(told["attempts"][0]["said"], message);
    }
}

#[tokio::test]
async fn a_success_without_an_answer_is_a_failure() {
    let error = |code: &str| Reply::json(200, json!({ "error": { "code": code, "message": "x" } }).to_string());
    for (what, reply, outcome) in [
        ("a page", Reply::json(200, "<html>welcome</html>").header("content-type", "text/html"), "no_answer"),
        ("a page that says it is JSON", Reply::json(200, "<html>welcome</html>"), "no_answer"),
        ("nothing", Reply::json(200, ""), "no_answer"),
        ("spaces", Reply::json(200, " \n "), "no_answer"),
        ("an error", error("server_error"), "no_answer"),
        ("a limit", error("rate_limit_exceeded"), "throttled"),
        ("no deployment", error("DeploymentNotFound"), "misconfigured"),
    ] {
        let first = ScriptedBackend::start(move |_| reply.clone()).await;
        let second = ScriptedBackend::start(|_| Reply::json(200, answer("good"))).await;
        for stream in [false, true] {
            let gateway = Gateway::start(&config(&[member("a", &first, 1), member("b", &second, 2)], "", "")).await;
            let got = gateway.post("/v1/chat/completions", &chat(stream)).await;
            assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("b")), "{what}: {}", got.text());
            let name = format!("spillway_attempts_total{{backend=\"a\",deployment=\"m\",outcome=\"{outcome}\",pool=\"pool\"}}");
            assert_eq!(gateway.metric(&name).await, 1.0, "{what}");
        }
    }
    // The caller's own fault is the caller's answer.
    let first = ScriptedBackend::start(move |_| error("invalid_prompt")).await;
    let gateway = Gateway::start(&config(&[member("a", &first, 1)], "", "")).await;
    assert_eq!(gateway.chat().await.json()["error"]["code"], "invalid_prompt");
}

#[tokio::test]
async fn the_same_target_is_asked_again_first_if_the_pool_says_so() {
    for (reply, outcome) in [(Reply::json(500, "{}"), "failed"), (Reply::throttled(120), "throttled")] {
        for (same_target, expected) in [(0, "b"), (1, "a")] {
            let first = ScriptedBackend::start(replies(&[reply.clone(), Reply::json(200, answer("x"))])).await;
            let second = ScriptedBackend::start(|_| Reply::json(200, answer("y"))).await;
            let pool = format!("[pools.retry]\nsame_target = {same_target}");
            let gateway = Gateway::start(&config(&[member("a", &first, 1), member("b", &second, 2)], &pool, "")).await;
            let got = gateway.chat().await;
            assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some(expected)), "{outcome} {same_target}");
            assert_eq!(got.header("x-spillway-attempts"), Some("2"));
        }
    }
    // A wait that is too long is not waited out.
    let first = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let second = ScriptedBackend::start(|_| Reply::json(200, answer("y"))).await;
    let pool = "[pools.retry]\nsame_target = 3";
    let gateway = Gateway::start(&config(&[member("a", &first, 1), member("b", &second, 2)], pool, "")).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("b"));
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn a_short_throttle_is_waited_out_where_nobody_else_is_left() {
    let by_reset = Reply::json(429, "{}").header("x-ratelimit-reset-requests", "150ms").header("x-ratelimit-remaining-requests", "0");
    for reply in [Reply::throttled(150), by_reset, Reply::json(429, "{}").header("retry-after", "0")] {
        let alone = ScriptedBackend::start(replies(&[reply, Reply::json(200, answer("x"))])).await;
        let gateway = Gateway::start(&config(&[member("a", &alone, 1)], "", "")).await;
        let got = gateway.chat().await;
        assert_eq!((got.status, alone.count()), (200, 2), "{}", got.text());
    }
    let none = ScriptedBackend::start(replies(&[Reply::throttled(150), Reply::json(200, answer("x"))])).await;
    let gateway = Gateway::start(&config(&[member("a", &none, 1)], "[pools.retry]\nwait = \"0s\"", "")).await;
    let got: Value = gateway.chat().await.json();
    assert_eq!(got["error"]["code"], "rate_limit_exceeded", "{got}");
}
