//! Limits while another process takes over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, post};
use tokio::sync::Notify;

use crate::nodes::redis;
use crate::support::*;

/// Asks once, and again while Redis takes longer to say whether a quota is used up than a request waits for it: on a busy machine
/// it does, with upgrades and without.
async fn status_of_one(address: SocketAddr) -> u16 {
    for _ in 0..200 {
        let status = ask_as(address, "crm", &chat(false)).await.status;
        if status != 503 {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    503
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_counted_once_though_the_node_has_no_lasting_name() {
    let server = RedisServer::start(None);
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let limits = "[consumers.limits]\nrequest_quota = { requests = 60, period = \"year\" }\n";
    let text =
        config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(server.port))).replace("#server", "watch = false");
    let process = Process::launch(&text, &[]).await;
    let ask = async || status_of_one(process.address).await;
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

/// Requests on old and new connections, while one process after the other takes over: together they get what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_used_up_exactly_while_processes_take_over_from_each_other() {
    for server in [None, Some(RedisServer::start(None))] {
        let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let limits = "[consumers.limits]\nrequest_quota = { requests = 600, period = \"year\" }\n";
        let rest = consumer("crm", limits) + &server.as_ref().map_or_else(String::new, |server| redis(server.port));
        let process = Process::launch(&config(&[member("a", &backend, 1)], "", &rest).replace("#server", "watch = false"), &[]).await;
        let address = process.address;
        let callers: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn(async move {
                    let (mut admitted, mut last) = (0, 200);
                    while last == 200 {
                        last = status_of_one(address).await;
                        admitted += usize::from(last == 200);
                    }
                    (admitted, last)
                })
            })
            .collect();
        while !callers.iter().all(|caller| caller.is_finished()) {
            process.upgrade().await;
        }
        let mut all = 0;
        for caller in callers {
            let (admitted, last) = caller.await.unwrap();
            assert_eq!(last, 403, "{}", process.log());
            all += admitted;
        }
        assert_eq!((all, backend.count()), (600, 600));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_process_that_runs_beside_another_one_has_its_name() {
    const WARNING: &str = "another process has this node's name";
    let server = RedisServer::start(None);
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let node = |name: &str| {
        let redis = redis(server.port) + &format!("node = \"{name}\"\n");
        config(&[member("a", &backend, 1)], "", &redis).replace("#server", "watch = false")
    };
    let first = Process::launch(&node("one"), &[]).await;
    for _ in 0..2 {
        first.upgrade().await;
    }
    let log = first.log();
    // It is killed.
    drop(first);
    let again = Process::launch(&node("one"), &[]).await;
    // This takes longer than it takes the other one to report a few times.
    let _other = Process::launch(&node("two"), &[]).await;
    assert!(!log.contains(WARNING) && !again.log().contains(WARNING), "{log}\n{}", again.log());
    let twin = Process::launch(&node("one"), &[]).await;
    eventually("both say so", async || again.log().contains(WARNING) && twin.log().contains(WARNING)).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_was_stopped_decides_again_when_it_goes_on() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let limits = "[consumers.limits]\nrequest_quota = { requests = 20, period = \"year\" }\n";
    let text = config(&[member("a", &backend, 1)], "", &consumer("crm", limits)).replace("#server", "watch = false");
    let process = Process::launch(&text, &[]).await;
    let mut old = Vec::new();
    for _ in 0..40 {
        old.push(Connection::open(process.address).await.unwrap());
    }
    let mut on_an_old_one = async || {
        let mut connection = old.pop().unwrap();
        connection.send(post("/v1/chat/completions", &[("api-key", "crm")], chat(false).to_string().as_bytes())).await.unwrap();
        connection.answer().await.unwrap().status
    };
    process.upgrade().await;
    process.signal_successor("-STOP");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(on_an_old_one().await);
    }
    process.signal_successor("-CONT");
    assert_eq!(statuses, [200; 3], "the old one decides alone");
    eventually("the new one decides again", async || process.log().contains("the new process answers again")).await;
    let mut admitted = 3;
    loop {
        let both = [on_an_old_one().await, status_of_one(process.address).await];
        let more = both.iter().filter(|status| **status == 200).count();
        admitted += more;
        if more == 0 {
            assert_eq!(both, [403; 2]);
            break;
        }
    }
    assert_eq!(admitted, 20, "together they know all that was admitted\n{}", process.log());
}
