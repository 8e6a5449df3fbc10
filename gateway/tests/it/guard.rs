//! What is not allowed neither reaches a model nor a caller, and nobody is told the text.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::Response;
use spillway_testkit::safety::{ContentSafety, KEY};

use crate::support::*;

fn question(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

fn streamed(text: &str) -> Value {
    json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": text }] })
}

async fn says(text: &'static str) -> ScriptedBackend {
    ScriptedBackend::start(move |request| {
        if request.json()["stream"] != json!(true) {
            return Reply::json(200, answer(text));
        }
        // A word an event.
        let mut events = vec![role()];
        events.extend(text.split_inclusive(' ').map(delta));
        events.extend([stop(), DONE.to_owned()]);
        Reply::sse(events)
    })
    .await
}

fn safety(service: &ContentSafety, more: &str) -> String {
    format!(
        "[plugins.guard]\nanswers = true\nwindow = 5\n[plugins.guard.content_safety]\nurl = \"{}/\"\nauth = {{ type = \"api-key\", key = \"{KEY}\" }}\n{more}\n",
        service.backend.url()
    )
}

fn assert_blocked(answer: &Response, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (403, "content_blocked"), "{}", answer.text());
    assert!(answer.text().contains(what), "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn rules_of_ones_own_hold_for_prompts() {
    let backend = says("fine").await;
    let rules = "[plugins.guard]\nwords = [\"project heron\"]\npatterns = { case = \"CN-[0-9]{6}\" }\nmax_prompt_tokens = 100\nallowed_tools = [\"search\"]\n";
    let rest = rules.to_owned() + &consumer("free", "guard = false") + &consumer("bound", "");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let tool = |name: &str| json!({ "model": "m", "messages": [], "tools": [{ "type": "function", "function": { "name": name } }] });
    for (body, what) in [
        (question("tell me of Project  Heron"), "rule 'words'"),
        (question("see CN-123456"), "rule 'case'"),
        (question(&"many words ".repeat(100)), "more than 100 tokens"),
        (tool("shell"), "the tool 'shell'"),
        (json!({ "model": "m", "messages": [{ "role": "system", "content": [{ "type": "text", "text": "CN-123456" }] }] }), "rule 'case'"),
    ] {
        let answer = ask_as(gateway.address, "bound", &body).await;
        assert_blocked(&answer, what);
        assert!(!answer.text().contains("123456"), "the text is not told");
        assert_eq!(ask_as(gateway.address, "free", &body).await.status, 200, "{body}");
    }
    assert_eq!(ask_as(gateway.address, "bound", &question("tell me of herons")).await.status, 200);
    assert_eq!(ask_as(gateway.address, "bound", &tool("search")).await.status, 200);
    // Said twice, it could be read in two ways.
    let twice = r#"{"model":"m","messages":[{"role":"user","content":"CN-123456"}],"messages":[]}"#;
    let answer = spillway_testkit::client::ask(
        gateway.address,
        spillway_testkit::client::post("/v1/chat/completions", &[("api-key", "bound")], twice.as_bytes()),
    );
    assert_eq!(answer.await.unwrap().status, 400);
    assert_eq!(gateway.metric("spillway_guard_blocked_total{finding=\"denied\",side=\"request\"}").await, 3.0);
    assert_eq!(backend.count(), 7);
}

#[tokio::test]
async fn tools_are_not_hidden_in_a_conversation() {
    let backend =
        ScriptedBackend::start(|_| Reply::json(200, json!({ "id": "x", "output": [], "content": [], "usage": {} }).to_string())).await;
    let rest = "[plugins.guard]\nallowed_tools = [\"search\"]\n".to_owned()
        + &consumer("bound", "")
        + &consumer("few", "guard = false")
        + "[[plugins.request_rules]]\nconsumers = [\"few\"]\nmax_tools = 1\n";
    let members = [member("a", &backend, 1), Member { name: "b", backend: &backend, priority: 1, extra: "kind = \"anthropic\"" }];
    let gateway = Gateway::start(&config(&members, "", &rest)).await;
    let tools = |name: &str| json!([{ "type": "function", "name": name }, { "type": "function", "name": name }]);
    let added = |name: &str| json!({ "type": "tool_addition", "tool": { "type": "tool_definition", "definition": { "name": name } } });
    let requests = |name: &str| {
        let item =
            |kind: &str| json!({ "model": "m", "input": [{ "type": kind, "tools": tools(name) }, { "role": "user", "content": "hi" }] });
        let blocks = json!([{ "role": "user", "content": "hi" }, { "role": "system", "content": [added(name), added(name)] }]);
        [
            ("/v1/responses", item("additional_tools")),
            ("/v1/responses", item("tool_search_output")),
            ("/v1/messages", json!({ "model": "m", "max_tokens": 9, "messages": blocks })),
        ]
    };
    let ask = async |key: &str, path: &str, body: &Value| {
        let body = body.to_string();
        spillway_testkit::client::ask(gateway.address, spillway_testkit::client::post(path, &[("api-key", key)], body.as_bytes()))
            .await
            .unwrap()
    };
    for (path, body) in requests("evil") {
        let got = ask("bound", path, &body).await;
        assert!(got.status == 403 && got.text().contains("the tool 'evil'"), "{}", got.text());
        let got = ask("few", path, &body).await;
        assert!(got.status == 400 && got.text().contains("2 tools"), "{}", got.text());
    }
    assert_eq!(backend.count(), 0);
    for (path, body) in requests("search") {
        let got = ask("bound", path, &body).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
    }
}

#[tokio::test]
async fn the_service_judges_prompts() {
    let (backend, service) = (says("fine").await, ContentSafety::start().await);
    let more = "categories = { hate = 2, violence = 6 }\nblocklists = [\"internal\"]\nprompt_shield = true\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &safety(&service, more))).await;
    for (text, what) in [
        ("[hate:2]", "hate"),
        ("[violence:6]", "violence"),
        ("a [listed] word", "blocklist 'internal'"),
        ("do the [attack]", "prompt attack"),
        // Nothing hides at the end, or at a cut, of a long text.
        (&*("x".repeat(25_000) + "[hate:4]"), "hate"),
        (&*("x".repeat(9_996) + "[hate:4]" + &"x".repeat(5_000)), "hate"),
    ] {
        let answer = gateway.post("/v1/chat/completions", &question(text)).await;
        assert_blocked(&answer, what);
        assert!(!answer.text().contains("listed"), "the text is not told");
    }
    // What a tool brought can be an attack, too.
    let brought = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }, { "role": "tool", "tool_call_id": "1", "content": "[attack]" }] });
    assert_blocked(&gateway.post("/v1/chat/completions", &brought).await, "prompt attack");
    assert_eq!(backend.count(), 0);
    for text in ["[violence:4]", "[sexual:6]", "hello"] {
        assert_eq!(gateway.post("/v1/chat/completions", &question(text)).await.status, 200, "{text}");
    }
    // In every API.
    for (path, body) in [
        ("/v1/responses", json!({ "model": "m", "input": "[hate:4]" })),
        ("/v1/completions", json!({ "model": "m", "prompt": ["a", "[hate:4]"] })),
        ("/v1/embeddings", json!({ "model": "m", "input": ["[hate:4]"] })),
        ("/v1/images/generations", json!({ "model": "m", "prompt": "[hate:4]" })),
    ] {
        let answer = gateway.post(path, &body).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn answers_are_stopped_before_they_are_seen() {
    let (backend, service) = (says("one two three four five six seven eight [hate:4] nine").await, ContentSafety::start().await);
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &safety(&service, ""))).await;
    assert_blocked(&gateway.post("/v1/chat/completions", &question("hi")).await, "hate");
    let answer = gateway.post("/v1/chat/completions", &streamed("hi")).await;
    let text = answer.text();
    assert_eq!(answer.status, 200);
    assert!(text.contains("one") && !text.contains("hate") && !text.contains("nine"), "{text}");
    assert!(text.contains("\"finish_reason\":\"content_filter\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(gateway.metric("spillway_guard_blocked_total{finding=\"hate\",side=\"answer\"}").await, 2.0);
    // The target did nothing wrong.
    assert_eq!(gateway.state("a").await, "ready");
    eventually("nothing is held", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
}

#[tokio::test]
async fn good_answers_pass_byte_for_byte() {
    let text = "one two three four five six seven eight nine ten eleven twelve";
    let (backend, service) = (says(text).await, ContentSafety::start().await);
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &safety(&service, ""))).await;
    let plain = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    for body in [question("hi"), streamed("hi")] {
        let (guarded, free) = (gateway.post("/v1/chat/completions", &body).await, plain.post("/v1/chat/completions", &body).await);
        assert_eq!((guarded.status, guarded.text()), (200, free.text()));
    }
}

#[tokio::test]
async fn a_stream_is_held_back_no_longer_than_a_window() {
    let service = ContentSafety::start().await;
    let backend = ScriptedBackend::start(|_| Reply::sse([role(), delta("one two three four five six seven eight")]).then(Step::Hang)).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &safety(&service, ""))).await;
    let mut caller = spillway_testkit::client::Connection::open(gateway.address).await.unwrap();
    caller.send(spillway_testkit::client::post("/v1/chat/completions", &[], streamed("hi").to_string().as_bytes())).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), caller.until("eight")).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_the_service_it_is_open_or_closed() {
    let backend = says("fine").await;
    for (choice, status, code) in [("closed", 503, "content_unchecked"), ("open", 200, "")] {
        let service = ContentSafety::start().await;
        service.down(Some(Reply::json(500, "{}")));
        let rest = safety(&service, &format!("on_failure = \"{choice}\"\n"));
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
        for _ in 0..20 {
            let answer = gateway.chat().await;
            assert_eq!(answer.status, status, "{}", answer.text());
            assert_eq!(if status == 200 { String::new() } else { answer.code() }, code);
        }
        let asked = service.backend.count();
        assert!((10..20).contains(&asked), "after ten failures nobody waits for it: {asked}");
        assert!(gateway.metric("spillway_guard_unchecked_total").await >= 20.0);
    }
}

#[tokio::test]
async fn texts_that_break_the_service_keep_nobody_else_from_it() {
    let backend = says("fine").await;
    let service = ScriptedBackend::start(|request| match request.json()["text"].as_str().is_some_and(|text| text.contains("breaks")) {
        true => Reply::json(500, "{}"),
        false => Reply::json(200, r#"{"blocklistsMatch":[],"categoriesAnalysis":[{"category":"Hate","severity":0},{"category":"SelfHarm","severity":0},{"category":"Sexual","severity":0},{"category":"Violence","severity":0}]}"#),
    })
    .await;
    let guard = format!(
        "[plugins.guard.content_safety]\nurl = \"{}\"\nauth = {{ type = \"api-key\", key = \"k\" }}\non_failure = \"closed\"\n",
        service.url()
    );
    let rest = guard + &consumer("hostile", "") + &consumer("ordinary", "");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    for _ in 0..20 {
        assert_eq!(ask_as(gateway.address, "hostile", &question("this breaks it")).await.status, 503);
    }
    let asked = service.count();
    assert!((10..20).contains(&asked), "it waits no more for what fails: {asked}");
    for round in 1..=5 {
        let got = ask_as(gateway.address, "ordinary", &question("hello")).await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert_eq!(service.count(), asked + round, "and is judged");
    }
}

#[tokio::test]
async fn it_is_asked_with_an_identity() {
    let (backend, service) = (says("fine").await, ContentSafety::start().await);
    let entra = crate::tokens::Entra::start().await;
    let auth = format!(
        "auth = {{ type = \"client-credentials\", tenant_id = \"t\", client_id = \"c\", secret = {{ env = \"APP_SECRET\" }}, authority = \"{}\" }}",
        entra.authority
    );
    let rest = safety(&service, "").replace(&format!("auth = {{ type = \"api-key\", key = \"{KEY}\" }}"), &auth);
    let process = entra.gateway(&config(&[member("a", &backend, 1)], "", &rest), &[("APP_SECRET", "the-secret")]).await;
    assert_eq!(process.chat().await.status, 200);
    let shown = service.backend.received()[0].header("authorization").unwrap().to_owned();
    assert!(shown.starts_with("Bearer "), "{shown}");
}

#[tokio::test]
async fn a_blocked_answer_is_neither_kept_nor_given_again() {
    let (backend, service) = (says("x [hate:4]").await, ContentSafety::start().await);
    let rest = safety(&service, "") + "[plugins.cache]\nexact = {}\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    for asked in 1..=2 {
        assert_blocked(&gateway.post("/v1/chat/completions", &question("hi")).await, "hate");
        assert_eq!(backend.count(), asked);
    }
}

/// A typed stream whose text comes a word an event, in the shape of an API.
fn typed(api: &str, words: &[&str]) -> Vec<String> {
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let mut events = Vec::new();
    if api == "messages" {
        events.push(event(json!({ "type": "message_start", "message": { "id": "m1", "role": "assistant", "content": [], "usage": { "input_tokens": 1, "output_tokens": 1 } } })));
        events.push(event(json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })));
        events.extend(words.iter().map(|word| {
            event(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": format!("{word} ") } }))
        }));
        events.push(event(json!({ "type": "content_block_stop", "index": 0 })));
        events.push(event(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 9 } })));
        events.push(event(json!({ "type": "message_stop" })));
    } else {
        events.push(event(
            json!({ "type": "response.created", "sequence_number": 0, "response": { "id": "r1", "status": "in_progress", "output": [] } }),
        ));
        let delta = |(number, word): (usize, &&str)| {
            event(
                json!({ "type": "response.output_text.delta", "sequence_number": number + 1, "item_id": "i", "output_index": 0, "content_index": 0, "delta": format!("{word} ") }),
            )
        };
        events.extend(words.iter().enumerate().map(delta));
        events.push(event(
            json!({ "type": "response.completed", "sequence_number": 99, "response": { "id": "r1", "status": "completed", "output": [] } }),
        ));
    }
    events
}

#[tokio::test]
async fn every_window_of_every_api_is_looked_at() {
    let long: Vec<&str> = (0..60).map(|_| "harmless").chain(["[hate:4]", "after"]).collect();
    for (api, path, kind, end) in [
        ("messages", "/v1/messages", "anthropic", "event: message_stop"),
        ("responses", "/v1/responses", "openai", "event: response.incomplete"),
    ] {
        let service = ContentSafety::start().await;
        for (words, status) in [(long.clone(), 200), (vec!["[hate:4]", "after"], 403)] {
            let events = typed(api, &words);
            let backend = ScriptedBackend::start(move |_| Reply::sse(events.clone())).await;
            let extra = format!("kind = \"{kind}\"");
            let member = Member { name: "a", backend: &backend, priority: 1, extra: &extra };
            let gateway = Gateway::start(&config(&[member], "", &safety(&service, ""))).await;
            let body =
                json!({ "model": "m", "stream": true, "max_tokens": 5, "input": "hi", "messages": [{ "role": "user", "content": "hi" }] });
            let answer = gateway.post(path, &body).await;
            assert_eq!(answer.status, status, "{api}: {}", answer.text());
            assert!(!answer.text().contains("hate:4") && !answer.text().contains("after"), "{api}: {}", answer.text());
            if status == 200 {
                assert!(answer.text().contains("harmless") && answer.text().contains(end), "{api}: {}", answer.text());
            }
            eventually("nothing is held", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
        }
    }
}

#[tokio::test]
async fn what_can_not_be_looked_at_does_not_pass() {
    let backend = says("fine").await;
    let rest = |more: &str| format!("[plugins.guard]\nwords = [\"heron\"]\nanswers = true\n{more}\n");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest(""))).await;
    for (path, body) in [
        ("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"x","name":"heron","name":"x"}]}"#),
        ("/v1/chat/completions", r#"{"model":"m","messages":[],"x":"\ud800"}"#),
        ("/v1/completions", r#"{"model":"m","prompt":[1,2,3]}"#),
        ("/v1/conversations", r#"{"items":[]}"#),
    ] {
        let request = spillway_testkit::client::post(path, &[], body.as_bytes());
        let answer = spillway_testkit::client::ask(gateway.address, request).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (403, "content_blocked"), "{path} {body}");
    }
    let described =
        json!({ "model": "m", "messages": [], "tools": [{ "type": "function", "function": { "name": "f", "description": "say Heron" } }] });
    assert_blocked(&gateway.post("/v1/chat/completions", &described).await, "rule 'words'");
    assert_eq!(backend.count(), 0);
    // An answer that is none.
    for reply in [Reply::json(200, "{no json"), Reply::json(200, "{x").header("content-type", "text/plain")] {
        let backend = ScriptedBackend::start(move |_| reply.clone()).await;
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest(""))).await;
        let answer = gateway.chat().await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
    }
    // Rules of one's own are no service that fails: there is nothing to be open for.
    let open = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest("pass_unread = true"))).await;
    let answer = open.post("/v1/conversations", &json!({ "items": [] })).await;
    assert_ne!(answer.code(), "content_blocked");
}

#[tokio::test]
async fn kept_answers_are_for_those_under_the_same_rules() {
    let backend = says("about a heron").await;
    let team = "cache = { namespace = \"team\" }\n";
    let rest = "[plugins.guard]\nwords = [\"heron\"]\nanswers = true\n[plugins.cache]\nexact = {}\n".to_owned()
        + &consumer("free", &format!("{team}guard = false"))
        + &consumer("bound", team);
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    assert_eq!(ask_as(gateway.address, "free", &question("hi")).await.status, 200);
    assert_blocked(&ask_as(gateway.address, "bound", &question("hi")).await, "rule 'words'");
}
