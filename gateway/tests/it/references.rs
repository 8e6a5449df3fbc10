//! Ids of what others have stored lead nowhere, wherever an API lets one stand; one's own lead to where it is. What is
//! sealed goes where it can be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client::{Response, ask, post};

use crate::support::*;

/// A backend that makes things with its own name in theirs, and reads only what it has sealed itself.
async fn keeper(name: &'static str) -> ScriptedBackend {
    let made = AtomicUsize::new(0);
    ScriptedBackend::start(move |request| answer_as(name, made.fetch_add(1, Ordering::Relaxed), request)).await
}

fn answer_as(name: &str, number: usize, request: &Received) -> Reply {
    let body = request.json();
    let sealed: Vec<&str> = body["input"].as_array().into_iter().flatten().filter_map(|item| item["encrypted_content"].as_str()).collect();
    if sealed.iter().any(|sealed| !sealed.starts_with(&format!("gAAA{name}"))) {
        let error = json!({ "error": { "message": "The encrypted content gAAA could not be verified.", "type": "invalid_request_error", "param": null, "code": "invalid_encrypted_content" } });
        return Reply::json(400, error.to_string());
    }
    let item = json!({ "type": "reasoning", "id": format!("rs_{name}_{number}"), "summary": [], "encrypted_content": format!("gAAA{name}-{number}") });
    let run =
        json!({ "type": "code_interpreter_call", "id": format!("ci_{name}_{number}"), "container_id": format!("cntr_{name}_{number}") });
    let id = format!("resp_{name}_{number}");
    match request.path() {
        "/v1/responses" if body["stream"] == true => {
            let begun = json!({ "type": "reasoning", "id": item["id"], "encrypted_content": "gAAA-begun" });
            let events = [
                json!({ "type": "response.created", "response": { "id": id } }),
                json!({ "type": "response.output_item.added", "item": begun }),
                json!({ "type": "response.output_item.done", "item": item }),
                json!({ "type": "response.output_item.done", "item": run }),
                json!({ "type": "response.output_text.delta", "delta": "x" }),
                json!({ "type": "response.completed", "response": { "id": id, "output": [] } }),
            ];
            Reply::sse(events.map(|event| format!("data: {event}\n\n")))
        }
        "/v1/responses" => Reply::json(200, json!({ "id": id, "object": "response", "output": [item, run] }).to_string()),
        "/v1/messages" if body["thread"].is_object() || body["diagnostics"].is_object() => {
            let message =
                json!({ "id": format!("msg_{name}_{number}"), "type": "message", "role": "assistant", "content": [], "usage": {} });
            if body["stream"] != true {
                return Reply::json(200, message.to_string());
            }
            let delta = json!({ "type": "text_delta", "text": "x" });
            let events = [
                json!({ "type": "message_start", "message": message }),
                json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
                json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": {} }),
                json!({ "type": "message_stop" }),
            ];
            Reply::sse(events.map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())))
        }
        "/v1/messages" => {
            let container = json!({ "id": format!("container_{name}_{number}") });
            let wrote =
                json!({ "type": "code_execution_tool_result", "content": { "content": [{ "file_id": format!("file_{name}_{number}") }] } });
            let said = json!({ "type": "tool_use", "input": { "content": { "content": [{ "file_id": "file_said" }] } } });
            Reply::json(200, json!({ "type": "message", "container": container, "content": [wrote, said], "usage": {} }).to_string())
        }
        _ => {
            let audio = json!({ "id": format!("audio_{name}_{number}"), "data": "AA" });
            let message = json!({ "role": "assistant", "content": null, "audio": audio });
            Reply::json(200, json!({ "id": "c", "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] }).to_string())
        }
    }
}

struct Place {
    a: ScriptedBackend,
    b: ScriptedBackend,
    gateway: Gateway,
}

impl Place {
    async fn of(extra: &'static str) -> Self {
        let (a, b) = (keeper("a").await, keeper("b").await);
        let members = [Member { name: "a", backend: &a, priority: 1, extra }, Member { name: "b", backend: &b, priority: 1, extra }];
        let gateway = Gateway::start(&config(&members, "", &(consumer("one", "") + &consumer("two", "")))).await;
        Place { a, b, gateway }
    }

    fn count(&self) -> usize {
        self.a.count() + self.b.count()
    }

    async fn post(&self, key: &str, path: &str, body: &Value) -> Response {
        ask(self.gateway.address, post(path, &[("api-key", key)], body.to_string().as_bytes())).await.unwrap()
    }

    /// Whoever made these things gets where they are; everybody else gets what it would get for things that never were.
    async fn owned(&self, path: &str, backend: &str, body: &Value) {
        for _ in 0..3 {
            let got = self.post("one", path, body).await;
            assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some(backend)), "{body}: {}", got.text());
        }
        let before = self.count();
        for (key, body) in
            [("two", body.clone()), ("one", serde_json::from_str(&body.to_string().replace(&format!("_{backend}_"), "_x_")).unwrap())]
        {
            let got = self.post(key, path, &body).await;
            assert_eq!(got.status, 404, "{key} {body}: {}", got.text());
            if path == "/v1/messages" {
                assert_eq!((&got.json()["type"], &got.json()["error"]["type"]), (&"error".into(), &"not_found_error".into()));
            } else {
                assert_eq!(got.code(), "object_not_found");
            }
        }
        assert_eq!(self.count(), before, "nothing of it reached a backend: {body}");
    }
}

fn with_input(input: Value) -> Value {
    json!({ "model": "m", "input": input })
}

#[tokio::test]
async fn ids_in_responses_are_their_owners_wherever_they_stand() {
    let place = Place::of("").await;
    for stream in [false, true] {
        let got = place.post("one", "/v1/responses", &json!({ "model": "m", "input": "x", "stream": stream })).await;
        let backend = got.header("x-spillway-backend").unwrap().to_owned();
        let text = got.text();
        let made = |kind: &str| {
            let at = text.find(&format!("{kind}_{backend}_")).unwrap_or_else(|| panic!("{kind} in {text}"));
            text[at..].split('"').next().unwrap().to_owned()
        };
        let (thought, container) = (made("rs"), made("cntr"));
        let tool =
            |container: Value| json!({ "model": "m", "input": "x", "tools": [{ "type": "code_interpreter", "container": container }] });
        for body in [
            with_input(json!([{ "id": thought }])),
            with_input(json!([{ "id": thought, "type": null }])),
            with_input(json!([{ "id": thought, "type": "item_reference" }])),
            with_input(json!([{ "id": thought, "type": "reasoning", "summary": [] }, { "role": "user", "content": "x" }])),
            with_input(json!([{ "id": "ci_1", "type": "code_interpreter_call", "code": "1", "container_id": container }])),
            tool(json!(container)),
            json!({ "model": "m", "input": "x", "tools": [{ "type": "shell", "environment": { "type": "container_reference", "container_id": container } }] }),
            json!({ "model": "m", "input": "x", "previous_response_id": made("resp") }),
        ] {
            place.owned("/v1/responses", &backend, &body).await;
        }
        assert_eq!(
            place.post("two", "/openai/responses?api-version=2025-04-01-preview", &with_input(json!([{ "id": thought }]))).await.status,
            404
        );
    }
    let before = place.count();
    for store in [json!(["vs_1"]), json!(["vs_1", "vs_2"])] {
        let body = json!({ "model": "m", "input": "x", "tools": [{ "type": "file_search", "vector_store_ids": store }] });
        assert_eq!(place.post("one", "/v1/responses", &body).await.code(), "object_not_found");
    }
    // A way into the operator's network belongs to no consumer, either.
    let tunnel = json!({ "model": "m", "input": "x", "tools": [{ "type": "mcp", "server_label": "s", "tunnel_id": "tun_1" }] });
    assert_eq!(place.post("one", "/v1/responses", &tunnel).await.code(), "object_not_found");
    assert_eq!(place.count(), before);
}

#[tokio::test]
async fn whole_items_that_come_back_with_their_ids_are_not_looked_up() {
    let place = Place::of("").await;
    for store in [true, false] {
        let items = json!([
            { "type": "message", "id": "msg_unknown", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": "x", "annotations": [] }] },
            { "type": "function_call", "id": "fc_unknown", "call_id": "call_1", "name": "f", "arguments": "{\"file_id\":\"file-1\"}" },
            { "type": "function_call_output", "id": "fco_unknown", "call_id": "call_1", "output": "y" },
            { "id": "msg_easy", "role": "user", "content": "x" },
        ]);
        let got = place.post("one", "/v1/responses", &json!({ "model": "m", "store": store, "input": items })).await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
}

#[tokio::test]
async fn sounds_in_chats_are_their_owners() {
    let place = Place::of("").await;
    let wanted = json!({ "voice": "ash", "format": "wav" });
    let spoken =
        json!({ "model": "m", "audio": wanted, "modalities": ["text", "audio"], "messages": [{ "role": "user", "content": "x" }] });
    let got = place.post("one", "/v1/chat/completions", &spoken).await;
    let backend = got.header("x-spillway-backend").unwrap().to_owned();
    let id = got.json()["choices"][0]["message"]["audio"]["id"].clone();
    let body = json!({ "model": "m", "audio": wanted, "messages": [{ "role": "assistant", "audio": { "id": id } }, { "role": "user", "content": "x" }] });
    place.owned("/v1/chat/completions", &backend, &body).await;
    assert_eq!(place.post("two", "/openai/deployments/m/chat/completions?api-version=2024-10-21", &body).await.status, 404);
}

#[tokio::test]
async fn files_and_containers_in_messages_are_their_owners() {
    let place = Place::of("kind = \"anthropic\"").await;
    let message = |content: Value| json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": content }] });
    let got = place.post("one", "/v1/messages", &message(json!("x"))).await;
    let backend = got.header("x-spillway-backend").unwrap().to_owned();
    let container = got.json()["container"]["id"].clone();
    let file = got.json()["content"][0]["content"]["content"][0]["file_id"].clone();
    let inside = |container: Value| {
        let mut body = message(json!("x"));
        body["container"] = container;
        body
    };
    for body in [
        inside(container.clone()),
        inside(json!({ "id": container })),
        inside(json!({ "id": container, "skills": [{ "type": "anthropic", "skill_id": "pptx", "version": "latest" }] })),
        message(json!([{ "type": "document", "source": { "type": "file", "file_id": file } }])),
        message(json!([{ "type": "container_upload", "file_id": file }])),
    ] {
        place.owned("/v1/messages", &backend, &body).await;
    }
    let said = message(json!([{ "type": "container_upload", "file_id": "file_said" }]));
    assert_eq!(place.post("one", "/v1/messages", &said).await.status, 404, "what a model says makes nobody an owner");
    let skill = inside(json!({ "skills": [{ "type": "custom", "skill_id": "skill_1" }] }));
    assert_eq!(place.post("one", "/v1/messages", &skill).await.status, 404);
}

#[tokio::test]
async fn conversations_that_a_backend_holds_are_their_owners() {
    let place = Place::of("kind = \"anthropic\"").await;
    let message = |name: &str, value: Value, stream: bool| json!({ "model": "m", "max_tokens": 9, "stream": stream, "messages": [{ "role": "user", "content": "x" }], name: value });
    for (begun, stream) in [("thread", false), ("thread", true), ("diagnostics", false), ("diagnostics", true)] {
        let first = if begun == "thread" { json!({ "type": "create" }) } else { json!({ "previous_message_id": null }) };
        let got = place.post("one", "/v1/messages", &message(begun, first, stream)).await;
        let backend = got.header("x-spillway-backend").unwrap().to_owned();
        let text = got.text();
        let at = text.find("msg_").unwrap_or_else(|| panic!("{text}"));
        let id = text[at..].split('"').next().unwrap();
        for body in [
            message("thread", json!({ "type": "continue", "previous_message_id": id }), stream),
            message("diagnostics", json!({ "previous_message_id": id }), stream),
        ] {
            place.owned("/v1/messages", &backend, &body).await;
        }
        let counted = message("thread", json!({ "type": "continue", "previous_message_id": id }), false);
        assert_eq!(place.post("two", "/v1/messages/count_tokens", &counted).await.status, 404);
    }
}

#[tokio::test]
async fn what_an_answer_is_compared_with_is_its_owners() {
    let place = Place::of("").await;
    let got = place.post("one", "/v1/responses", &json!({ "model": "m", "input": "x" })).await;
    let backend = got.header("x-spillway-backend").unwrap().to_owned();
    let compared = json!({ "model": "m", "input": "x", "prompt_cache_options": { "comparison_response_id": got.json()["id"] } });
    place.owned("/v1/responses", &backend, &compared).await;
}

/// What comes with the second turn of an agent that keeps its conversation itself.
fn second_turn(sealed: &[&str]) -> Value {
    let items: Vec<Value> =
        sealed.iter().map(|sealed| json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed })).collect();
    json!({ "model": "m", "store": false, "include": ["reasoning.encrypted_content"], "input": items })
}

#[tokio::test]
async fn what_is_sealed_goes_where_it_can_be_read() {
    let place = Place::of("").await;
    for turn in 0..16 {
        let stream = turn % 2 == 0;
        let first = place.post("one", "/v1/responses", &json!({ "model": "m", "store": false, "input": "x", "stream": stream })).await;
        let backend = first.header("x-spillway-backend").unwrap().to_owned();
        let text = first.text();
        let sealed = text.split('"').find(|text| text.starts_with(&format!("gAAA{backend}"))).unwrap().to_owned();
        let second = place.post("one", "/v1/responses", &second_turn(&[&sealed])).await;
        assert_eq!((second.status, second.header("x-spillway-backend")), (200, Some(&*backend)), "{}", second.text());
        assert_eq!(second.header("x-spillway-attempts"), Some("1"));
    }
}

#[tokio::test]
async fn where_nobody_knows_who_sealed_it_each_is_asked_once() {
    let place = Place::of("").await;
    // Made before the gateway knew: whichever is asked first, the other one reads it.
    for _ in 0..6 {
        let got = place.post("one", "/v1/responses", &second_turn(&["gAAAb-old"])).await;
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("b")), "{}", got.text());
    }
    let (a, b) = (place.a.count(), place.b.count());
    let got = place.post("one", "/v1/responses", &second_turn(&["gAAAnobody"])).await;
    assert_eq!((got.status, got.code()), (400, "invalid_encrypted_content".into()), "the last one's own words");
    assert_eq!((place.a.count() - a, place.b.count() - b), (1, 1));
    for backend in ["a", "b"] {
        assert_eq!(place.gateway.state(backend).await, "ready", "it says nothing about {backend}");
    }
}

#[tokio::test]
async fn a_reader_that_is_throttled_is_not_replaced_by_one_that_cannot_read() {
    let full = Arc::new(AtomicBool::new(false));
    let a = {
        let (full, made) = (Arc::clone(&full), AtomicUsize::new(0));
        ScriptedBackend::start(move |request| match full.load(Ordering::Relaxed) {
            true => Reply::throttled(20_000),
            false => answer_as("a", made.fetch_add(1, Ordering::Relaxed), request),
        })
        .await
    };
    let b = keeper("b").await;
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 2)], "", "")).await;
    let first = gateway.post("/v1/responses", &json!({ "model": "m", "store": false, "input": "x" })).await;
    let sealed = first.json()["output"][0]["encrypted_content"].as_str().unwrap().to_owned();
    full.store(true, Ordering::Relaxed);
    let second = gateway.post("/v1/responses", &second_turn(&[&sealed])).await;
    assert_eq!((second.status, second.code()), (429, "rate_limit_exceeded".into()), "{}", second.text());
    assert_eq!(b.count(), 0);
}
