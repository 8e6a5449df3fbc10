//! Models that think before they answer, and others that are only silent.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};

use crate::support::*;

/// The short times are over long before the thinking is.
const TIMERS: &str = "[pools.timeouts]\nfirst_token = \"150ms\"\nanswer = \"150ms\"\nthinking = \"20s\"";
const THINKING: Duration = Duration::from_millis(700);

const CHAT_END: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
const RESPONSES_BEGIN: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\"}}\n\n";
const RESPONSES_END: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"hi\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":2,\"output_tokens\":3}}}\n\n";
const MESSAGES_BEGIN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":2,\"output_tokens\":1}}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
const MESSAGES_END: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// A stream whose model thinks after each of its first events.
fn thinks(begin: &[&str], end: &str) -> Reply {
    let reply = Reply::sse(Vec::<Vec<u8>>::new());
    let pause = if begin.is_empty() { reply.clone().then(Step::Pause(THINKING)) } else { reply };
    let began = begin.iter().fold(pause, |reply, event| reply.then(Step::Write(event.as_bytes().to_vec())).then(Step::Pause(THINKING)));
    began.then(Step::Write(end.as_bytes().to_vec()))
}

/// A plain answer that is thought about before its head comes.
fn plain() -> Reply {
    let body = answer("hi");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    Reply::raw([Step::Pause(THINKING), Step::Write(head.into_bytes())])
}

/// Asks a gateway whose first member thinks; what came, and how often each was asked.
async fn asked(path: &str, body: &Value, reply: Reply) -> (spillway_testkit::client::Response, usize, usize, f64) {
    let slow = ScriptedBackend::start(move |_| reply.clone()).await;
    let other = ScriptedBackend::start(|_| Reply::json(200, answer("other"))).await;
    let extra = if path == "/v1/messages" { "kind = \"anthropic\"" } else { "" };
    let members = [Member { extra, ..member("slow", &slow, 1) }, Member { extra, ..member("other", &other, 2) }];
    let gateway = Gateway::start(&config(&members, TIMERS, "")).await;
    let got = gateway.post(path, body).await;
    assert_eq!(gateway.state("slow").await, "ready", "no circuit opens");
    let ok = format!(
        "spillway_attempts_total{{backend=\"slow\",deployment=\"{}\",outcome=\"ok\",pool=\"pool\"}}",
        body["model"].as_str().unwrap()
    );
    (got, slow.count(), other.count(), gateway.metric(&ok).await)
}

#[tokio::test]
async fn a_model_that_thinks_is_asked_once() {
    let messages = json!([{ "role": "user", "content": "think" }]);
    for (path, body, reply) in [
        (
            "/v1/chat/completions",
            json!({ "model": "m", "messages": messages, "stream": true, "reasoning_effort": "high" }),
            thinks(&[], CHAT_END),
        ),
        ("/v1/chat/completions", json!({ "model": "m", "messages": messages, "reasoning_effort": "high" }), plain()),
        ("/v1/responses", json!({ "model": "m", "input": "think", "stream": true }), thinks(&[RESPONSES_BEGIN], RESPONSES_END)),
        ("/v1/responses", json!({ "model": "m", "input": "think", "reasoning": { "effort": "low" } }), plain()),
        (
            "/v1/messages",
            json!({ "model": "m", "max_tokens": 9, "messages": messages, "stream": true }),
            thinks(&[MESSAGES_BEGIN, PING], MESSAGES_END),
        ),
    ] {
        let (got, slow, other, ok) = asked(path, &body, reply).await;
        assert_eq!((got.status, slow, other, ok), (200, 1, 0, 1.0), "{path} {body}: {}", got.text());
        assert!(got.text().contains("hi"), "{path} {body}");
    }
}

#[tokio::test]
async fn who_shows_no_sign_of_thinking_is_replaced() {
    let messages = json!([{ "role": "user", "content": "quick" }]);
    let role =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
    for (path, body, reply) in [
        // What stands in front of the model sends a role at once.
        ("/v1/chat/completions", json!({ "model": "m", "messages": messages, "stream": true }), thinks(&[role], CHAT_END)),
        ("/v1/chat/completions", json!({ "model": "m", "messages": messages }), plain()),
        ("/v1/chat/completions", json!({ "model": "m", "messages": messages, "reasoning_effort": "none" }), plain()),
        ("/v1/responses", json!({ "model": "m", "input": "x", "stream": true }), Reply::raw([Step::Hang])),
    ] {
        let (got, slow, other, _) = asked(path, &body, reply).await;
        assert_eq!((got.status, slow, other), (200, 1, 1), "{path} {body}: {}", got.text());
    }
}

#[tokio::test]
async fn a_tool_that_has_begun_is_not_run_again() {
    let tool = "event: response.mcp_call.in_progress\ndata: {\"type\":\"response.mcp_call.in_progress\",\"sequence_number\":1,\"item_id\":\"mcp_1\"}\n\n";
    let steps = [Step::Write([RESPONSES_BEGIN, tool].concat().into_bytes()), Step::Pause(Duration::from_millis(50)), Step::Reset];
    let body = json!({ "model": "m", "input": "x", "stream": true });
    let (got, slow, other, _) = asked("/v1/responses", &body, steps.into_iter().fold(Reply::sse(Vec::<Vec<u8>>::new()), Reply::then)).await;
    assert_eq!((got.status, slow, other), (200, 1, 0));
    assert!(got.text().contains("\"code\":\"upstream_error\""), "{}", got.text());
}
