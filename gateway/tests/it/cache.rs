//! Equal requests are answered once: who gets whose answers, in which form, and which are kept.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, Response, ask, post};
use tokio::sync::Notify;

use crate::support::*;

const CACHE: &str = "[plugins.cache]\nexact = { ttl = \"10m\" }\n";

/// Answers in the form that is asked for, and says how many requests it has had.
fn numbered(requests: &std::sync::atomic::AtomicUsize, request: &Received) -> Reply {
    let number = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
    let text = format!("answer {number}");
    let usage = json!({ "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 });
    if request.json()["stream"] == json!(true) {
        let usage = format!("data: {}\n\n", json!({ "id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage }));
        let mut events = whole_stream(&text);
        events.insert(3, usage);
        return Reply::sse(events);
    }
    Reply::json(
        200,
        json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
            "usage": usage,
        })
        .to_string(),
    )
}

async fn numbering() -> ScriptedBackend {
    let requests = std::sync::atomic::AtomicUsize::new(0);
    ScriptedBackend::start(move |request| numbered(&requests, request)).await
}

fn question(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

async fn send(gateway: &Gateway, headers: &[(&str, &str)], body: &str) -> Response {
    ask(gateway.address, post("/v1/chat/completions", headers, body.as_bytes())).await.unwrap()
}

fn result(answer: &Response) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-spillway-cache").unwrap_or("none")
}

/// The text of a streamed chat answer.
fn streamed_text(answer: &Response) -> String {
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let chunks = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    chunks
        .filter_map(|data| serde_json::from_str::<Value>(data).unwrap()["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn an_equal_request_is_answered_at_once_and_costs_nothing() {
    let backend = numbering().await;
    let folder = tempfile::tempdir().unwrap();
    let prices = "prices = { m = { input = 1.0, output = 10.0 } }";
    let limits = "[consumers.limits]\ntokens_per_minute = 100_000\n";
    let rest = consumer("crm", limits) + "[ledger]\ndurability = \"strict\"\n" + CACHE;
    let member = Member { name: "a", backend: &backend, priority: 1, extra: prices };
    let gateway = Gateway::start(&config(&[member], "", &rest).replace("#server", &state_dir(folder.path()))).await;
    let first = send(&gateway, &[("api-key", "crm")], &question("hi").to_string()).await;
    assert_eq!(result(&first), "miss");
    // The same in other words of JSON, and with what doesn't change the answer.
    let other =
        "{ \"user\":\"u1\", \"messages\" : [ {\"content\":\"h\\u0069\",\"role\":\"user\"} ],\n\"model\":\"m\", \"temperature\":null}";
    let second = send(&gateway, &[("api-key", "crm")], other).await;
    assert_eq!((result(&second), second.text()), ("hit", first.text()));
    assert_eq!(second.header("age"), Some("0"));
    assert_eq!((second.header("x-spillway-backend"), second.header("x-spillway-attempts")), (Some("a"), Some("0")));
    assert_eq!(first.header("content-type"), second.header("content-type"));
    assert_eq!(backend.count(), 1);
    let rows = ledger_rows(folder.path());
    let hit = &rows[1];
    for (name, expected) in [("cache", json!("exact")), ("cost_usd", json!(0.0)), ("input_tokens", json!(0)), ("backend", json!("cache"))] {
        assert_eq!(hit[name], expected, "{name} in {hit:#}");
    }
    assert_eq!((&rows[0]["cache"], &rows[0]["input_tokens"]), (&Value::Null, &json!(11)));
    // Only what was used counts against the limit.
    let left = |answer: &Response| answer.header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
    let third = send(&gateway, &[("api-key", "crm")], &question("other").to_string()).await;
    assert!(left(&third) >= 100_000 - 18 - 1200, "{}", left(&third));
    for (name, value) in [
        ("spillway_cache_requests_total{result=\"hit\"}", 1.0),
        ("spillway_cache_requests_total{result=\"miss\"}", 2.0),
        ("spillway_cache_saved_tokens_total{kind=\"input\"}", 11.0),
        ("spillway_cache_saved_tokens_total{kind=\"output\"}", 7.0),
    ] {
        assert_eq!(gateway.metric(name).await, value, "{name}");
    }
}

#[tokio::test]
async fn what_differs_in_meaning_is_asked() {
    let backend = numbering().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", CACHE)).await;
    let base = question("hi");
    let mut asked = 0;
    for (name, value) in [
        ("temperature", json!(0.5)),
        ("temperature", json!(0.6)),
        ("seed", json!(1)),
        ("max_tokens", json!(5)),
        ("tools", json!([{ "type": "function", "function": { "name": "f" } }])),
        ("response_format", json!({ "type": "json_object" })),
        ("model", json!("gpt-4o")),
        ("messages", json!([{ "role": "system", "content": "hi" }])),
        ("unheard_of", json!(true)),
    ] {
        let mut body = base.clone();
        body[name] = value;
        assert_eq!(result(&send(&gateway, &[], &body.to_string()).await), "miss", "{name}");
        asked += 1;
        assert_eq!(backend.count(), asked);
    }
    // Two readers could read it differently.
    let twice = r#"{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}"#;
    assert_eq!(send(&gateway, &[], twice).await.status, 400);
    assert_eq!(backend.count(), asked);
}

#[tokio::test]
async fn an_answer_is_given_in_the_form_that_is_asked_for() {
    let stream = |body: &Value, usage: bool| {
        let mut body = body.clone();
        body["stream"] = json!(true);
        if usage {
            body["stream_options"] = json!({ "include_usage": true });
        }
        body.to_string()
    };
    let backend = numbering().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", CACHE)).await;
    // Asked for plainly first.
    let body = question("plain first");
    let plain = send(&gateway, &[], &body.to_string()).await;
    let streamed = send(&gateway, &[], &stream(&body, false)).await;
    assert_eq!((result(&streamed), streamed_text(&streamed)), ("hit", "answer 1".to_owned()));
    assert!(!streamed.text().contains("prompt_tokens"));
    let told = send(&gateway, &[], &stream(&body, true)).await;
    assert_eq!((result(&told), streamed_text(&told)), ("hit", "answer 1".to_owned()));
    assert!(told.text().contains("\"prompt_tokens\":11"), "{}", told.text());
    assert_eq!(plain.json()["choices"][0]["message"]["content"], "answer 1");
    // As a stream first, with its usage.
    let body = question("stream first");
    let first = send(&gateway, &[], &stream(&body, true)).await;
    assert_eq!(result(&first), "miss");
    let again = send(&gateway, &[], &stream(&body, true)).await;
    assert_eq!((result(&again), again.text()), ("hit", first.text()));
    let untold = send(&gateway, &[], &stream(&body, false)).await;
    assert_eq!((result(&untold), streamed_text(&untold)), ("hit", "answer 2".to_owned()));
    assert!(!untold.text().contains("prompt_tokens"));
    let plain = send(&gateway, &[], &body.to_string()).await;
    assert_eq!(result(&plain), "hit");
    let plain = plain.json();
    assert_eq!(plain["object"], "chat.completion");
    assert_eq!(plain["choices"][0]["message"]["content"], "answer 2");
    assert_eq!(plain["usage"]["prompt_tokens"], 11);
    assert_eq!(backend.count(), 2);
    // As a stream whose usage nobody asked for: whoever wants it is told all the same.
    let body = question("stream without usage");
    let first = send(&gateway, &[], &stream(&body, false)).await;
    assert!(result(&first) == "miss" && !first.text().contains("prompt_tokens"));
    let plain = send(&gateway, &[], &body.to_string()).await;
    assert_eq!((result(&plain), &plain.json()["usage"]["prompt_tokens"]), ("hit", &json!(11)));
    let told = send(&gateway, &[], &stream(&body, true)).await;
    assert!(result(&told) == "hit" && told.text().contains("\"prompt_tokens\":11"));
    let again = send(&gateway, &[], &stream(&body, false)).await;
    assert_eq!((result(&again), again.text()), ("hit", first.text()));
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn consumers_never_see_each_others_answers_unless_they_share() {
    let backend = numbering().await;
    let team = "cache = { namespace = \"team\" }";
    let rest = CACHE.to_owned()
        + &consumer("a", "")
        + &consumer("b", "")
        + &consumer("c", team)
        + &consumer("d", team)
        + &consumer("e", "cache = { enabled = false }")
        // Its name is no way into the others' space.
        + &consumer("shared:team", "");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let body = question("hi");
    let mut answers = Vec::new();
    for (caller, expected) in [
        ("a", "miss"),
        ("b", "miss"),
        ("a", "hit"),
        ("b", "hit"),
        ("c", "miss"),
        ("d", "hit"),
        ("shared:team", "miss"),
        ("e", "none"),
        ("e", "none"),
    ] {
        let answer = ask_as(gateway.address, caller, &body).await;
        assert_eq!(result(&answer), expected, "{caller}");
        answers.push(answer.text());
    }
    assert!(answers[0] != answers[1] && answers[0] == answers[2] && answers[1] == answers[3] && answers[4] == answers[5]);
    assert_eq!(backend.count(), 6);
}

#[tokio::test]
async fn an_answer_from_beyond_the_fence_is_not_given_inside() {
    let (far, near) = (numbering().await, numbering().await);
    let members = [
        Member { name: "far", backend: &far, priority: 1, extra: "location = \"eastus\"" },
        Member { name: "near", backend: &near, priority: 2, extra: "location = \"swedencentral\"" },
    ];
    let team = "cache = { namespace = \"team\" }\n";
    let fence = format!("{team}locations = [\"swedencentral\"]\n");
    let rest = CACHE.to_owned() + &consumer("free", team) + &consumer("fenced", &fence);
    let gateway = Gateway::start(&config(&members, "", &rest)).await;
    let body = question("hi");
    let from = |answer: &Response| (result(answer).to_owned(), answer.header("x-spillway-backend").unwrap().to_owned());
    let pair = |result: &str, backend: &str| (result.to_owned(), backend.to_owned());
    assert_eq!(from(&ask_as(gateway.address, "free", &body).await), pair("miss", "far"));
    assert_eq!(from(&ask_as(gateway.address, "fenced", &body).await), pair("miss", "near"), "it is asked inside");
    // What comes from inside may go anywhere.
    assert_eq!(from(&ask_as(gateway.address, "fenced", &body).await), pair("hit", "near"));
    assert_eq!(from(&ask_as(gateway.address, "free", &body).await), pair("hit", "near"));
}

#[tokio::test]
async fn a_caller_can_go_past_the_cache() {
    let backend = numbering().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", CACHE)).await;
    let body = question("hi").to_string();
    let text = |answer: &Response| answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    for (headers, expected, answer) in [
        (&[("x-spillway-cache-bypass", "1")][..], "bypass", "answer 1"),
        (&[("cache-control", "no-store")], "bypass", "answer 2"),
        (&[], "miss", "answer 3"),
        (&[("cache-control", "no-cache")], "miss", "answer 4"),
        (&[], "hit", "answer 4"),
        (&[("x-spillway-cache-bypass", "1")], "bypass", "answer 5"),
        (&[], "hit", "answer 4"),
    ] {
        let got = send(&gateway, headers, &body).await;
        assert_eq!((result(&got), text(&got)), (expected, answer.to_owned()), "{headers:?}");
    }
    // The header is ours.
    assert!(backend.received().iter().all(|request| request.header("x-spillway-cache-bypass").is_none()));
}

#[tokio::test]
async fn only_whole_good_answers_are_kept() {
    let chat = |choice: Value| json!({ "id": "c", "object": "chat.completion", "choices": [choice] }).to_string();
    let tools = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
    let marked = json!({ "hate": { "filtered": true, "severity": "high" } });
    let message = json!({ "role": "assistant", "content": "x" });
    for (what, reply) in [
        ("a refusal", Reply::json(400, r#"{"error":{"message":"no"}}"#)),
        ("a call", Reply::json(200, chat(json!({ "index": 0, "message": tools, "finish_reason": "tool_calls" })))),
        ("a filter's end", Reply::json(200, chat(json!({ "index": 0, "message": message, "finish_reason": "content_filter" })))),
        (
            "a filter's mark",
            Reply::json(200, chat(json!({ "index": 0, "message": message, "finish_reason": "stop", "content_filter_results": marked }))),
        ),
        ("no end", Reply::json(200, chat(json!({ "index": 0, "message": message, "finish_reason": null })))),
        ("too long", Reply::json(200, answer(&"x".repeat(5000)))),
        ("cut", Reply::sse([role(), delta("x")])),
        ("an error", Reply::json(200, r#"{"error":{"message":"x","code":"odd"}}"#)),
        ("an error within", Reply::sse([role(), delta("x"), "data: {\"error\":{\"message\":\"x\"}}\n\n".to_owned(), DONE.to_owned()])),
    ] {
        let backend = ScriptedBackend::start(move |_| reply.clone()).await;
        let rules = "[plugins.cache]\nexact = { max_answer = \"4KiB\" }\n";
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", rules)).await;
        for asked in 1..=2 {
            // A cut answer is none; whatever becomes of it, the next one is asked.
            let _ = ask(gateway.address, post("/v1/chat/completions", &[], question("hi").to_string().as_bytes())).await;
            assert_eq!(backend.count(), asked, "{what}");
        }
    }
}

#[tokio::test]
async fn calls_and_marked_answers_are_kept_where_that_is_wanted() {
    let calls = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
    let body = json!({ "id": "c", "choices": [{ "index": 0, "message": calls, "finish_reason": "tool_calls" }] }).to_string();
    let backend = ScriptedBackend::start(move |_| Reply::json(200, body.clone())).await;
    let rules = "[plugins.cache]\nexact = { tool_calls = true }\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", rules)).await;
    let first = gateway.post("/v1/chat/completions", &question("hi")).await;
    let second = gateway.post("/v1/chat/completions", &question("hi")).await;
    assert_eq!((result(&first), result(&second)), ("miss", "hit"));
    let mut stream = question("hi");
    stream["stream"] = json!(true);
    let streamed = gateway.post("/v1/chat/completions", &stream).await;
    assert_eq!(result(&streamed), "hit");
    assert!(streamed.text().contains("\"name\":\"f\""), "{}", streamed.text());
}

#[tokio::test]
async fn equal_requests_at_once_are_one() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let backend = ScriptedBackend::start(move |request| {
        let steps = whole_stream("together").into_iter().map(|event| Step::Write(event.into_bytes()));
        let mut reply = Reply::sse(Vec::<String>::new()).then(Step::Until(Arc::clone(&gate)));
        if request.json()["stream"] == json!(true) {
            reply = steps.fold(reply, Reply::then);
            return reply;
        }
        let body = answer("together");
        Reply::json(200, " ").then(Step::Until(Arc::clone(&gate))).then(Step::Write(body.into_bytes())).chunked()
    })
    .await;
    let gateway = Arc::new(Gateway::start(&config(&[member("a", &backend, 1)], "", CACHE)).await);
    let requests: Vec<_> = (0..20)
        .map(|number| {
            let gateway = Arc::clone(&gateway);
            let mut body = question("hi");
            if number % 2 == 1 {
                body["stream"] = json!(true);
            }
            tokio::spawn(async move { gateway.post("/v1/chat/completions", &body).await })
        })
        .collect();
    eventually("all are there", async || gateway.metric("spillway_in_flight_requests").await >= 20.0).await;
    assert_eq!(backend.count(), 1);
    go.notify_waiters();
    go.notify_one();
    let mut hits = 0;
    for request in requests {
        let answer = request.await.unwrap();
        assert!(answer.text().contains("together"), "{}", answer.text());
        hits += usize::from(result(&answer) == "hit");
    }
    assert_eq!((backend.count(), hits), (1, 19));
}

#[tokio::test]
async fn when_the_one_who_asks_leaves_another_one_asks() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let backend = ScriptedBackend::start(move |_| {
        Reply::json(200, " ").then(Step::Until(Arc::clone(&gate))).then(Step::Write(answer("late").into_bytes())).chunked()
    })
    .await;
    let gateway = Arc::new(Gateway::start(&config(&[member("a", &backend, 1)], "", CACHE)).await);
    let mut first = Connection::open(gateway.address).await.unwrap();
    first.send(post("/v1/chat/completions", &[], question("hi").to_string().as_bytes())).await.unwrap();
    eventually("the first is asked", async || backend.count() == 1).await;
    let second = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.post("/v1/chat/completions", &question("hi")).await })
    };
    eventually("the second waits", async || gateway.metric("spillway_in_flight_requests").await >= 2.0).await;
    drop(first);
    eventually("the second is asked", async || backend.count() == 2).await;
    go.notify_waiters();
    go.notify_one();
    let answer = second.await.unwrap();
    assert_eq!(result(&answer), "miss");
}

#[tokio::test]
async fn requests_wait_no_longer_than_they_should() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, " ").then(Step::Hang).chunked()).await;
    let rules = "[plugins.cache]\nexact = { wait = \"50ms\" }\n";
    let gateway = Arc::new(Gateway::start(&config(&[member("a", &backend, 1)], "", rules)).await);
    for _ in 0..2 {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.post("/v1/chat/completions", &question("hi")).await });
    }
    eventually("both are asked", async || backend.count() == 2).await;
}

#[tokio::test]
async fn strangers_with_their_own_credentials_share_nothing() {
    let backend = numbering().await;
    let extra = "auth = { type = \"passthrough\" }";
    let text = config(&[Member { name: "a", backend: &backend, priority: 1, extra }], "", CACHE);
    let gateway = Gateway::start(&text).await;
    for key in ["one", "two", "one"] {
        assert_eq!(result(&send(&gateway, &[("authorization", &format!("Bearer {key}"))], &question("hi").to_string()).await), "none");
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn nodes_share_what_they_keep() {
    let redis = RedisServer::start(None);
    let backend = numbering().await;
    let rest = format!("{CACHE}[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{}\"\n", redis.port);
    let text = config(&[member("a", &backend, 1)], "", &rest);
    let (one, two) = (Gateway::start(&text).await, Gateway::start(&text).await);
    let body = question("hi");
    let first = one.post("/v1/chat/completions", &body).await;
    assert_eq!(result(&first), "miss");
    eventually("the other node has it", async || {
        let answer = two.post("/v1/chat/completions", &body).await;
        assert!(matches!(result(&answer), "hit" | "miss"));
        result(&answer) == "hit" && backend.count() <= 2
    })
    .await;
    // Without Redis, each by itself; nobody waits long.
    drop(redis);
    let other = question("other");
    for expected in ["miss", "hit"] {
        assert_eq!(result(&one.post("/v1/chat/completions", &other).await), expected);
    }
    let _ = Duration::ZERO;
}

/// Says with which filter policy and in which tier it was asked.
async fn with_policies() -> ScriptedBackend {
    ScriptedBackend::start(|request| {
        let text = ["x-policy-id", "x-ms-service-tier"].map(|name| request.header(name).unwrap_or("none").to_owned()).join(" ");
        let answer = json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        });
        Reply::json(200, answer.to_string())
    })
    .await
}

#[tokio::test]
async fn an_answer_under_one_filter_policy_is_none_under_another() {
    let backend = with_policies().await;
    let team = "cache = { namespace = \"team\" }\n";
    let free = format!("{team}headers = [\"x-policy-id\", \"x-ms-service-tier\"]\n");
    let strict = format!("{team}transform = {{ request_headers = {{ set = {{ x-policy-id = \"strict\" }} }} }}\n");
    let rest = consumer("free", &free) + &consumer("strict", &strict) + &consumer("plain", team) + CACHE;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let body = question("hi").to_string();
    let told = async |name: &str, headers: &[(&str, &str)]| {
        let answer = send(&gateway, &[&[("api-key", name)], headers].concat(), &body).await;
        let text = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        (text, result(&answer) == "hit")
    };
    for hit in [false, true] {
        for (name, headers, expected) in [
            ("free", &[("x-policy-id", "lax")][..], "lax none"),
            ("free", &[("x-policy-id", "strict")], "strict none"),
            ("free", &[("x-ms-service-tier", "priority")], "none priority"),
            ("strict", &[], "strict none"),
            ("plain", &[], "none none"),
        ] {
            assert_eq!(told(name, headers).await, (expected.to_owned(), hit), "{name} {headers:?}");
        }
        // Withheld, so it changes nothing; and one that stays here leaves no answer under its name.
        assert_eq!(told("plain", &[("x-policy-id", "lax")]).await, ("none none".to_owned(), true));
        let kept_back = [("x-policy-id", "strict"), ("connection", "x-policy-id")];
        assert_eq!(told("free", &kept_back).await, ("none none".to_owned(), true));
    }
    assert_eq!(backend.count(), 5);
}
