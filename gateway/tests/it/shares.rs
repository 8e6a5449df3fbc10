//! What all consumers use together has a share for each: whatever one does, the others keep theirs.

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, get, post};

use crate::support::*;

async fn one_that_stores() -> ScriptedBackend {
    let made = std::sync::atomic::AtomicUsize::new(0);
    ScriptedBackend::start(move |_| {
        let id = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::json(200, json!({ "id": format!("resp_{id}"), "object": "response", "output": [] }).to_string())
    })
    .await
}

#[tokio::test]
async fn a_flood_of_stored_things_makes_nobody_elses_unknown() {
    let backend = one_that_stores().await;
    let rest = "[objects]\nmax = 20\n".to_owned() + &consumer("a", "") + &consumer("b", "");
    let gateway = Gateway::start(&config(&[member("x", &backend, 1)], "", &rest)).await;
    let respond = async |key: &str, previous: Option<&str>| {
        let body = json!({ "model": "m", "input": "x", "previous_response_id": previous });
        ask(gateway.address, post("/v1/responses", &[("api-key", key)], body.to_string().as_bytes())).await.unwrap()
    };
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(respond("b", None).await.json()["id"].as_str().unwrap().to_owned());
    }
    let first = respond("a", None).await.json()["id"].as_str().unwrap().to_owned();
    for _ in 0..60 {
        assert_eq!(respond("a", None).await.status, 200);
    }
    assert_eq!(respond("a", Some(&first)).await.status, 404, "a has pushed out its own");
    for id in &kept {
        assert_eq!(respond("b", Some(id)).await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn a_flood_of_requests_leaves_everybodys_latest_to_be_asked_for() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let rest = consumer("a", "") + &consumer("b", "");
    let gateway = Gateway::start(&config(&[member("x", &backend, 1)], "", &rest)).await;
    let chat = chat(false).to_string();
    let ask_with = async |key: &str, id: &str| {
        let request = post("/v1/chat/completions", &[("api-key", key), ("x-request-id", id)], chat.as_bytes());
        assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    };
    ask_with("b", "wanted").await;
    // Ids that a caller chooses.
    for _ in 0..1100 {
        ask_with("a", "flood").await;
    }
    eventually("b's request can be asked for", async || get(gateway.running.admin, "/api/requests/wanted").await.unwrap().status == 200)
        .await;
    assert_eq!(get(gateway.running.admin, "/api/requests/flood").await.unwrap().status, 200);
}

/// A content safety service that never judges what is called slow.
async fn safety() -> ScriptedBackend {
    ScriptedBackend::start(|request| match request.json()["text"].as_str().is_some_and(|text| text.contains("slow")) {
        true => Reply::raw([Step::Hang]),
        false => Reply::json(200, r#"{"blocklistsMatch":[],"categoriesAnalysis":[{"category":"Hate","severity":0},{"category":"SelfHarm","severity":0},{"category":"Sexual","severity":0},{"category":"Violence","severity":0}]}"#),
    })
    .await
}

fn guarded(service: &ScriptedBackend) -> String {
    format!(
        "[plugins.guard.content_safety]\nurl = \"{}\"\nauth = {{ type = \"api-key\", key = \"k\" }}\ntimeout = \"30s\"\non_failure = \"closed\"\n",
        service.url()
    )
}

fn long(words: usize) -> Vec<u8> {
    json!({ "model": "m", "messages": [{ "role": "user", "content": "slow ".repeat(words) }] }).to_string().into_bytes()
}

#[tokio::test]
async fn long_prompts_of_one_leave_room_to_judge_anothers() {
    let (backend, service) = (ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await, safety().await);
    let rest = guarded(&service) + &consumer("a", "") + &consumer("b", "");
    let gateway = Gateway::start(&config(&[member("x", &backend, 1)], "", &rest)).await;
    let mut flood = Vec::new();
    for _ in 0..12 {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(post("/v1/chat/completions", &[("api-key", "a")], &long(40_000))).await.unwrap();
        flood.push(connection);
    }
    eventually("a has all that it may have", async || service.count() == 48).await;
    let got = ask_as(gateway.address, "b", &chat(false)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(service.count(), 49, "48 pieces of a's at once, and no more");
    drop(flood);
}

#[tokio::test]
async fn nothing_is_judged_for_a_caller_that_has_left() {
    let (backend, service) = (ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await, safety().await);
    let gateway = Gateway::start(&config(&[member("x", &backend, 1)], "", &guarded(&service))).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(post("/v1/chat/completions", &[], &long(40_000))).await.unwrap();
    eventually("its first pieces are being judged", async || service.count() == 8).await;
    drop(caller);
    eventually("they are given up", async || service.hung_up() == 8).await;
    eventually("it is over", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    assert_eq!((service.count(), backend.count()), (8, 0), "and the rest was never asked");
}

#[tokio::test]
async fn requests_of_one_in_flight_leave_room_for_anothers() {
    let backend = ScriptedBackend::start(|request| match request.json()["user"] == "slow" {
        true => Reply::raw([Step::Hang]),
        false => Reply::json(200, answer("x")),
    })
    .await;
    let rest = consumer("a", "") + &consumer("b", "");
    let text = config(&[member("x", &backend, 1)], "", &rest).replace("#server", "max_in_flight = 8");
    let gateway = Gateway::start(&text).await;
    let mut slow = chat(false);
    slow["user"] = json!("slow");
    let mut flood = Vec::new();
    for number in 1..=6 {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(post("/v1/chat/completions", &[("api-key", "a")], slow.to_string().as_bytes())).await.unwrap();
        flood.push(connection);
        eventually("it is in flight", async || backend.count() == number).await;
    }
    let refused = ask_as(gateway.address, "a", &chat(false)).await;
    assert_eq!((refused.status, refused.code()), (503, "overloaded".into()));
    assert_eq!(ask_as(gateway.address, "b", &chat(false)).await.status, 200);
    flood.pop();
    eventually("a has one less", async || gateway.metric("spillway_in_flight_requests").await == 5.0).await;
    assert_eq!(ask_as(gateway.address, "a", &chat(false)).await.status, 200);
}
