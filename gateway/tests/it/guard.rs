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
