//! Requests that ask for more than `plugins.request_rules` allow are refused before anything happens for them.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Response, ask, post};

use super::prompt_log::{log, records_of};
use crate::support::*;

const RULES: &str = "
[[plugins.request_rules]]
max_output_tokens = 100
require_output_cap = true
max_choices = 2
max_messages = 3
max_tools = 1

[[plugins.request_rules]]
models = [\"gpt-4o\"]
allow_images = false
";

/// A member for OpenAI's APIs and one for Anthropic's, behind a gateway with rules.
async fn started(rules: &str, rest: &str) -> (Gateway, [ScriptedBackend; 2]) {
    let backends = [
        ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await,
        ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await,
    ];
    let other = Member { name: "b", backend: &backends[1], priority: 1, extra: "kind = \"anthropic\"" };
    let text = config(&[member("a", &backends[0], 1), other], "", &format!("{rules}\n{rest}"));
    (Gateway::start(&text).await, backends)
}

/// A request within all bounds, with these members changed.
fn body(changed: Value) -> Value {
    let mut body = json!({ "model": "m", "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    body
}

fn assert_refused(answer: &Response, field: &str, message: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (400, "request_out_of_bounds"), "{}", answer.text());
    assert!(answer.text().contains(message), "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error");
    // Anthropic's errors have no member for it.
    assert!(error["param"] == field || answer.json()["type"] == "error", "{error}");
}

#[tokio::test]
async fn what_asks_for_too_much_reaches_no_backend() {
    let (gateway, backends) = started(RULES, "").await;
    let message = json!({ "role": "user", "content": "hi" });
    let tool = json!({ "type": "function", "name": "f", "function": { "name": "f" } });
    let image = |kind: &str| json!([{ "role": "user", "content": [{ "type": kind, "image_url": { "url": "data:," }, "source": {} }] }]);
    let (chat, responses, messages) = ("/v1/chat/completions", "/v1/responses", "/v1/messages");
    let mut refused = 0.0;
    for (path, changed, field, told) in [
        (chat, json!({ "max_tokens": 101 }), "max_tokens", "'max_tokens' asks for 101 output tokens; at most 100 "),
        (chat, json!({ "max_completion_tokens": 101 }), "max_completion_tokens", "at most 100 output tokens are allowed here"),
        (chat, json!({ "max_tokens": null }), "max_completion_tokens", "'max_completion_tokens' is missing"),
        (chat, json!({ "n": 3 }), "n", "at most 2 answers are allowed here"),
        (chat, json!({ "messages": vec![message.clone(); 4] }), "messages", "at most 3 messages are allowed here"),
        (chat, json!({ "tools": [tool.clone(), tool.clone()] }), "tools", "at most 1 tool is allowed here"),
        (chat, json!({ "model": "gpt-4o", "messages": image("image_url") }), "messages", "only prompts without images are allowed here"),
        (responses, json!({ "max_output_tokens": 101 }), "max_output_tokens", "at most 100 output tokens are allowed here"),
        (responses, json!({}), "max_output_tokens", "'max_output_tokens' is missing"),
        (responses, json!({ "max_output_tokens": 1, "input": vec![message.clone(); 4] }), "input", "at most 3 items are allowed here"),
        (
            responses,
            json!({ "model": "gpt-4o", "max_output_tokens": 1, "messages": [], "input": image("input_image") }),
            "input",
            "only prompts without images are allowed here",
        ),
        (
            responses,
            json!({ "model": "gpt-4o", "max_output_tokens": 1, "messages": [], "input": "x", "tools": [{ "type": "image_generation", "input_image_mask": { "image_url": "data:," } }] }),
            "tools",
            "only prompts without images are allowed here",
        ),
        (messages, json!({ "max_tokens": 101 }), "max_tokens", "at most 100 output tokens are allowed here"),
        (messages, json!({ "messages": vec![message; 4] }), "messages", "at most 3 messages are allowed here"),
        (messages, json!({ "tools": [{ "name": "f" }, { "name": "g" }] }), "tools", "at most 1 tool is allowed here"),
        (messages, json!({ "model": "gpt-4o", "messages": image("image") }), "messages", "only prompts without images are allowed here"),
        // A long one, too, which is checked on another thread.
        (chat, json!({ "n": 3, "x": "x".repeat(100_000) }), "n", "at most 2 answers are allowed here"),
    ] {
        assert_refused(&gateway.post(path, &body(changed)).await, field, told);
        refused += 1.0;
    }
    assert_eq!(backends.each_ref().map(ScriptedBackend::count), [0, 0]);
    assert_eq!(gateway.metric("spillway_rejections_total{code=\"request_out_of_bounds\"}").await, refused);
    assert_eq!(gateway.metric("spillway_in_flight_requests").await, 0.0);
}

#[tokio::test]
async fn what_is_within_its_bounds_passes_unchanged() {
    let (gateway, backends) = started(RULES, "").await;
    for (path, changed) in [
        ("/v1/chat/completions", json!({})),
        ("/v1/chat/completions", json!({ "n": 2, "x": "x".repeat(100_000) })),
        ("/v1/responses", json!({ "max_output_tokens": 100, "input": "hi" })),
        ("/v1/messages", json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": {} }] }] })),
        ("/v1/embeddings", json!({ "input": ["a", "b", "c", "d"], "max_tokens": null })),
    ] {
        let body = body(changed);
        assert_eq!(gateway.post(path, &body).await.status, 200, "{path}");
        let backend = &backends[usize::from(path == "/v1/messages")];
        assert_eq!(backend.received().last().unwrap().json(), body, "{path}");
    }
}

#[tokio::test]
async fn rules_hold_for_their_consumers_and_after_transforms() {
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "") + &consumer("vision", "[consumers.transform]\ncap = { max_tokens = 50 }\n") + &log(folder.path(), "");
    let excepted = RULES.replace("allow_images = false", "allow_images = false\nexcept_consumers = [\"vision\"]");
    let (gateway, backends) = started(&excepted, &rest).await;
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:," } }] }]);
    let pictured = body(json!({ "model": "gpt-4o", "messages": image }));
    assert_refused(&ask_as(gateway.address, "crm", &pictured).await, "messages", "only prompts without images");
    assert_eq!(ask_as(gateway.address, "vision", &pictured).await.status, 200);
    // What its transform caps is within the bounds.
    assert_eq!(ask_as(gateway.address, "vision", &body(json!({ "max_tokens": 500 }))).await.status, 200);
    assert_refused(&ask_as(gateway.address, "crm", &body(json!({ "max_tokens": 500 }))).await, "max_tokens", "asks for 500");
    assert_eq!(backends[0].count(), 2);
    // Refusals are in the prompt log.
    let records = records_of(folder.path(), 4).await;
    let refused: Vec<&Value> = records.iter().filter(|record| record["status"] == 400).collect();
    assert_eq!(refused.len(), 2, "{records:#?}");
    assert!(refused.iter().any(|record| record["prompt"][0]["text"] == "hi"), "{records:#?}");
}

#[tokio::test]
async fn counting_tokens_needs_no_cap() {
    let (gateway, backends) = started(RULES, "").await;
    let request = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let request = post("/v1/messages/count_tokens", &[], request.to_string().as_bytes());
    assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    assert_eq!(backends[1].count(), 1);
}
