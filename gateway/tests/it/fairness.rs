//! Places that all consumers use: whoever has most gives way, and nothing that was used is lost with a place.

use std::sync::Arc;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, post};
use tokio::sync::Notify;

use crate::support::*;

/// A chat stream of a consumer's that has begun.
async fn begun(gateway: &Gateway, who: &str) -> Connection {
    let mut caller = Connection::open(gateway.address).await.unwrap();
    let mut body = chat(true);
    body["user"] = json!(who);
    body["max_tokens"] = json!(100);
    caller.send(post("/v1/chat/completions", &[("api-key", who)], body.to_string().as_bytes())).await.unwrap();
    caller.until("world").await.unwrap();
    caller
}

/// Answers that are read on for callers that left: the places are taken, and more of one consumer leave.
#[tokio::test]
async fn where_all_places_are_taken_nothing_goes_uncounted_and_another_consumer_has_its_own() {
    const PLACES: usize = 256;
    let go_on = Arc::new(Notify::new());
    let backend = ScriptedBackend::start({
        let go_on = go_on.clone();
        move |request| {
            let begins = Reply::sse([role(), delta("hello world")]);
            let usage = json!({ "id": "c", "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 } });
            match request.json()["user"] == "b" {
                true => {
                    begins.then(Step::Until(go_on.clone())).then(Step::Write(format!("{}data: {usage}\n\n{DONE}", stop()).into_bytes()))
                }
                false => begins.then(Step::Hang),
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("a", "[consumers.limits]\ntoken_quota = { tokens = 10_000_000, period = \"day\" }\n")
        + &consumer("b", "")
        + "[usage]\non_disconnect = \"drain\"\ndrain_timeout = \"10m\"\n";
    let text = config(&[member("x", &backend, 1)], "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let mut callers = Vec::new();
    for _ in 0..PLACES + 20 {
        callers.push(begun(&gateway, "a").await);
    }
    drop(callers);
    // Those for whom there is no place count at what was reserved for them, at once.
    ledger_of(folder.path(), 20).await;
    drop(begun(&gateway, "b").await);
    let before = ledger_of(folder.path(), 21).await;
    assert!(before.iter().all(|row| row["consumer"] == "a"), "one of a's gave way");
    go_on.notify_one();
    let row = ledger_of(folder.path(), 22).await.pop().unwrap();
    assert_eq!((&row["consumer"], &row["source"], &row["output_tokens"]), (&json!("b"), &json!("reported"), &json!(7)));
    gateway.running.stop(std::future::pending()).await;
    let rows = ledger_rows(folder.path());
    let of_a: Vec<&Value> = rows.iter().filter(|row| row["consumer"] == "a").collect();
    assert_eq!((rows.len(), of_a.len()), (PLACES + 21, PLACES + 20), "each exactly once");
    assert!(of_a.iter().all(|row| (&row["source"], &row["output_tokens"]) == (&json!("estimated"), &json!(100))));
}

#[tokio::test]
async fn requests_of_one_that_wait_for_a_pool_leave_room_for_anothers() {
    let backend = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let rest = consumer("a", "") + &consumer("b", "");
    let pool = "[pools.retry]\nwait = \"2m\"\nqueue = 4\n";
    let text = config(&[member("x", &backend, 1)], pool, &rest);
    let gateway = Gateway::start(&text).await;
    let waits = async |who: &str| {
        let mut caller = Connection::open(gateway.address).await.unwrap();
        caller.send(post("/v1/chat/completions", &[("api-key", who)], chat(false).to_string().as_bytes())).await.unwrap();
        caller
    };
    let mut of_a = Vec::new();
    for _ in 0..6 {
        of_a.push(waits("a").await);
    }
    let in_flight = async || gateway.metric("spillway_in_flight_requests").await;
    eventually("a has all four places", async || in_flight().await == 4.0).await;
    let of_b = (waits("b").await, waits("b").await);
    eventually("and gives two to b", async || gateway.metric("spillway_rejections_total{code=\"rate_limit_exceeded\"}").await == 4.0).await;
    assert_eq!(in_flight().await, 4.0);
    let third = waits("b").await.answer().await.unwrap();
    assert_eq!(third.status, 429, "half is its share");
    drop((of_a, of_b));
}

#[tokio::test]
async fn bodies_of_one_leave_room_for_anothers() {
    let backend = ScriptedBackend::start(|request| match request.json()["user"] == "a" {
        true => Reply::raw([Step::Hang]),
        false => Reply::json(200, answer("x")),
    })
    .await;
    let rest = consumer("a", "") + &consumer("b", "");
    let server = "max_body = \"64KiB\"\nmax_buffered = \"256KiB\"";
    let gateway = Gateway::start(&config(&[member("x", &backend, 1)], "", &rest).replace("#server", server)).await;
    let large = |who: &str| {
        let mut body = chat(false);
        body["user"] = json!(who);
        body["messages"][0]["content"] = json!("x".repeat(60_000));
        body
    };
    let mut held = Vec::new();
    for number in 1..=3 {
        let mut caller = Connection::open(gateway.address).await.unwrap();
        caller.send(post("/v1/chat/completions", &[("api-key", "a")], large("a").to_string().as_bytes())).await.unwrap();
        held.push(caller);
        eventually("it is held", async || backend.count() == number).await;
    }
    let refused = ask_as(gateway.address, "a", &large("a")).await;
    assert_eq!((refused.status, refused.code()), (503, "overloaded".into()));
    assert_eq!(ask_as(gateway.address, "b", &large("b")).await.status, 200);
    drop(held);
    eventually("all is given back", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
}
