//! Limits while another process takes over.

use std::sync::Arc;

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, post};
use tokio::sync::Notify;

use crate::nodes::redis;
use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_counted_once_though_the_node_has_no_lasting_name() {
    let server = RedisServer::start(None);
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let limits = "[consumers.limits]\nrequest_quota = { requests = 60, period = \"year\" }\n";
    let text =
        config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(server.port))).replace("#server", "watch = false");
    let process = Process::launch(&text, &[]).await;
    let ask = async || ask_as(process.address, "crm", &chat(false)).await.status;
    for _ in 0..40 {
        assert_eq!(ask().await, 200);
    }
    for _ in 0..2 {
        process.upgrade().await;
        for _ in 0..5 {
            assert_eq!(ask().await, 200);
        }
    }
    let mut admitted = 50;
    let refused = loop {
        match ask().await {
            200 => admitted += 1,
            other => break other,
        }
    };
    assert_eq!((admitted, refused), (60, 403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_process_knows_what_the_new_one_admits() {
    let hold = Arc::new(Notify::new());
    let held = Arc::clone(&hold);
    let backend = ScriptedBackend::start(move |request| match request.json()["stream"] == true {
        true => Reply::sse([role(), delta("a")]).then(Step::Until(held.clone())).then(Step::Write((stop() + DONE).into_bytes())),
        false => Reply::json(200, answer("x")),
    })
    .await;
    let limits = "[consumers.limits]\nconcurrent_requests = 1\n";
    let text = config(&[member("a", &backend, 1)], "", &consumer("crm", limits)).replace("#server", "watch = false");
    let process = Process::launch(&text, &[]).await;
    let mut old = Vec::new();
    for _ in 0..400 {
        old.push(Connection::open(process.address).await.unwrap());
    }
    let request = |stream: bool| {
        let body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "hi" }] });
        post("/v1/chat/completions", &[("api-key", "crm")], body.to_string().as_bytes())
    };
    process.upgrade().await;
    let mut stream = Connection::open(process.address).await.unwrap();
    stream.send(request(true)).await.unwrap();
    stream.until("\"a\"").await.unwrap();
    let mut on_an_old_one = async |status: u16| {
        let mut connection = old.pop().unwrap();
        connection.send(request(false)).await.unwrap();
        connection.answer().await.unwrap().status == status
    };
    eventually("the old process knows of the stream", async || on_an_old_one(429).await).await;
    hold.notify_waiters();
    while stream.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    eventually("and that it has ended", async || on_an_old_one(200).await).await;
}
