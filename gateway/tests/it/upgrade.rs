//! Another process takes over.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{self, Connection, post};

use crate::failover::checked_backend;
use crate::support::*;
use crate::traffic::Traffic;

/// Twenty upgrades under 500 streams and steady requests: nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_break_nothing() {
    let traffic = Traffic::start(500).await;
    for _ in 0..20 {
        traffic.process.upgrade().await;
    }
    traffic.end().await;
}

#[tokio::test]
async fn who_takes_over_knows_limits_throttles_drains_and_answers() {
    let hold = Arc::new(tokio::sync::Notify::new());
    let ptu = ScriptedBackend::start(|_| Reply::json(429, "{}").header("retry-after", "60")).await;
    let payg = ScriptedBackend::start({
        let hold = hold.clone();
        move |request| match request.json()["stream"] == true {
            true => Reply::sse([role(), delta("a")]).then(Step::Until(hold.clone())).then(Step::Write((stop() + DONE).into_bytes())),
            false => Reply::json(200, answer("kept")),
        }
    })
    .await;
    let rest = consumer(
        "crm",
        "[consumers.limits]\nrequests_per_minute = 4\nconcurrent_requests = 2\ntoken_quota = { tokens = 1_000_000, period = \"day\" }\n",
    ) + "[plugins.auth]\nrequired = true\n[plugins.cache]\nexact = { ttl = \"1h\" }\n";
    let text = config(&[member("ptu", &ptu, 1), member("payg", &payg, 2), member("spare", &payg, 3)], "", &rest);
    let process = Process::launch(&text.replace("#server", "state_dir = \"STATE\""), &[]).await;
    let ask = async |stream: bool| {
        let mut connection = Connection::open(process.address).await.unwrap();
        let content = if stream { "tell" } else { "hi" };
        let body = serde_json::json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": content }] });
        connection.send(post("/v1/chat/completions", &[("api-key", "crm")], body.to_string().as_bytes())).await.unwrap();
        connection
    };
    assert_eq!(ask(false).await.answer().await.unwrap().status, 200);
    let mut stream = ask(true).await;
    stream.until("\"a\"").await.unwrap();
    client::ask(process.admin, post("/api/drain?backend=spare", &[], b"")).await.unwrap();
    process.upgrade().await;
    let states = [process.state("ptu").await, process.state("payg").await, process.state("spare").await];
    assert_eq!(states, ["throttled", "ready", "drained"]);
    eventually("the kept answer has arrived", async || process.metric("spillway_cache_entries").await == 1.0).await;
    let kept = ask(false).await.answer().await.unwrap();
    assert_eq!((kept.status, kept.header("x-spillway-cache")), (200, Some("hit")));
    // The stream in the old process holds one of the two places, and four requests a minute are used with this one.
    let mut second = ask(true).await;
    second.until("\"a\"").await.unwrap();
    let third = ask(true).await.answer().await.unwrap();
    assert_eq!(third.status, 429, "{}", third.text());
    hold.notify_waiters();
    while stream.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    while second.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    let limits = async || {
        let all = client::get(process.admin, "/api/limits").await.unwrap().json();
        all["scopes"][0]["limits"]["concurrent_requests"]["used"].as_u64()
    };
    eventually("the old process has told of its end", async || limits().await == Some(0)).await;
    // The two streams have reserved 1,024 tokens each, and used few.
    let quota = async || {
        let all = client::get(process.admin, "/api/limits").await.unwrap().json();
        all["scopes"][0]["limits"]["token_quota"]["used"].as_u64().unwrap()
    };
    eventually("what they used is settled where it counts now", async || (1..200).contains(&quota().await)).await;
    assert_eq!(ask(false).await.answer().await.unwrap().status, 429, "four requests were made");
    assert_eq!(ptu.count(), 1);
}

#[tokio::test]
async fn what_one_consumer_met_is_its_own_in_the_next_process_too() {
    let reply = |request: &spillway_testkit::backend::Received| {
        let hostile = String::from_utf8_lossy(&request.body).contains("hostile");
        if hostile { Reply::json(500, "{}") } else { Reply::json(200, answer("x")) }
    };
    let one = ScriptedBackend::start(reply).await;
    let other = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let rest = consumer("hostile", "") + &consumer("ordinary", "");
    let text = config(&[member("one", &one, 1), member("other", &other, 2)], "", &rest);
    let process = Process::launch(&text.replace("#server", "state_dir = \"STATE\""), &[]).await;
    let ask = async |who: &str| {
        let body = serde_json::json!({ "model": "m", "messages": [{ "role": "user", "content": who }] });
        let got = ask_as(process.address, who, &body).await;
        let header = |name: &str| got.header(name).unwrap_or("").to_owned();
        (got.status, header("x-spillway-backend"), header("x-spillway-attempts"))
    };
    let at = |backend: &str, attempts: &str| (200, backend.to_owned(), attempts.to_owned());
    for _ in 0..5 {
        assert_eq!(ask("hostile").await, at("other", "2"));
    }
    for _ in 0..2 {
        assert_eq!((ask("hostile").await, ask("ordinary").await), (at("other", "1"), at("one", "1")));
        process.upgrade().await;
    }
    assert_eq!((ask("hostile").await, ask("ordinary").await), (at("other", "1"), at("one", "1")));
    assert_eq!(process.metric("spillway_upgrades_total{result=\"done\"}").await, 2.0, "it goes on counting");
}

#[tokio::test]
async fn a_binary_that_cannot_start_leaves_the_old_one_serving() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "watch = false");
    let process = Process::launch(&text, &[]).await;
    process.write_config(&text.replace("backend = \"a\"", "backend = \"gone\""));
    let answer = client::ask(process.admin, post("/api/upgrade", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("unknown backend 'gone'"), "{}", answer.text());
    assert_eq!(process.chat().await.status, 200);
    assert_eq!(process.metric("spillway_upgrades_total{result=\"failed\"}").await, 1.0);
    // A port that somebody else has: the new process says so, and the old one goes on.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("listen = [\"127.0.0.1:0\", \"{}\"]", taken.local_addr().unwrap());
    process.write_config(&text.replace("listen = [\"127.0.0.1:0\"]", &busy));
    let answer = client::ask(process.admin, post("/api/upgrade", &[], b"")).await.unwrap();
    assert!(answer.status == 422 && answer.text().contains("can't listen on"), "{}", answer.text());
    assert_eq!(process.chat().await.status, 200);
    process.write_config(&text);
    process.upgrade().await;
    assert_eq!(process.chat().await.status, 200);
}

/// What a service manager hears, as systemd would.
#[tokio::test]
async fn a_service_manager_hears_the_truth() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let hear = || {
        let mut text = [0; 4096];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "watch = false");
    let process = Process::launch(&text, &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "200000".as_ref())]).await;
    // Nothing is said before it serves; then that it lives, again and again.
    let mut heard = vec![hear(), hear(), hear(), hear()];
    assert!(heard.iter().any(|said| said.contains("READY=1") && said.contains("STATUS=serving 3 models")), "{heard:?}");
    assert!(heard.iter().filter(|said| said.contains("WATCHDOG=1")).count() >= 2, "{heard:?}");
    process.write_config(&text.replace("backend = \"a\"", "backend = \"gone\""));
    let answer = client::ask(process.admin, post("/api/upgrade", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 422);
    process.write_config(&text);
    process.upgrade().await;
    heard.clear();
    let main = format!("MAINPID={}", process.successor());
    while !heard.iter().any(|said| said.contains(&main)) {
        heard.push(hear());
        assert!(!heard.last().unwrap().contains("STOPPING"), "one that hands over doesn't stop: {heard:?}");
    }
    // From now on only the new one speaks: it lives, and says when it stops.
    process.signal_successor("-TERM");
    while !hear().contains("STOPPING=1") {}
}

/// With a memory that is shared, what the old process used counts once: the new one goes on under its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_nothing_is_counted_twice() {
    let server = RedisServer::start(None);
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let rest = consumer("crm", "[consumers.limits]\nrequests_per_minute = 20\n")
        + &format!("[plugins.auth]\nrequired = true\n[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{}\"\n", server.port);
    let text = config(&[member("a", &backend, 1)], "", &rest).replace("#server", "state_dir = \"STATE\"\nwatch = false");
    let process = Process::launch(&text, &[]).await;
    let chat = async || {
        client::ask(process.address, post("/v1/chat/completions", &[("api-key", "crm")], chat(false).to_string().as_bytes()))
            .await
            .unwrap()
            .status
    };
    for _ in 0..12 {
        assert_eq!(chat().await, 200);
    }
    process.upgrade().await;
    // Of the twenty a minute twelve were used before. Until the new process has agreed on its share it may refuse.
    let mut served = 0;
    eventually("the other eight are served", async || {
        served += usize::from(chat().await == 200);
        served == 8
    })
    .await;
    assert_eq!(chat().await, 429);
}

/// A connection to the old process's admin listener outlives the hand-over. What is done there would be lost.
#[tokio::test]
async fn acts_on_the_old_process_are_refused_once_another_one_takes_over() {
    let hold = Arc::new(tokio::sync::Notify::new());
    let backend = ScriptedBackend::start({
        let hold = hold.clone();
        move |_| Reply::sse([role(), delta("a")]).then(Step::Until(hold.clone())).then(Step::Write((stop() + DONE).into_bytes()))
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", "");
    let process = Process::launch(&text, &[]).await;
    // A request in flight, so that the old process goes on.
    let mut stream = Connection::open(process.address).await.unwrap();
    stream.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    stream.until("\"a\"").await.unwrap();
    let acts = ["/api/drain?backend=a", "/api/undrain?backend=a", "/api/reset?backend=a", "/api/log?level=debug", "/api/reload"];
    let mut connections = Vec::new();
    for _ in acts {
        let mut admin = Connection::open(process.admin).await.unwrap();
        admin.send("GET /api/pools HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
        assert_eq!(admin.answer().await.unwrap().status, 200);
        connections.push(admin);
    }
    process.upgrade().await;
    for (act, mut admin) in acts.into_iter().zip(connections) {
        admin.send(post(act, &[], b"")).await.unwrap();
        let got = admin.answer().await.unwrap();
        assert_eq!((got.status, got.header("connection")), (503, Some("close")), "{act}: {}", got.text());
        assert!(got.text().contains("another process is taking over"), "{}", got.text());
    }
    assert_eq!(process.state("a").await, "ready");
    assert_eq!(client::ask(process.admin, post("/api/drain?backend=a", &[], b"")).await.unwrap().status, 200);
    assert_eq!(process.state("a").await, "drained");
    hold.notify_waiters();
}

#[tokio::test]
async fn a_member_whose_health_check_fails_gets_nothing_from_the_next_process_either() {
    let (a, healthy) = checked_backend().await;
    let b = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let pool = "[pools.health]\npath = \"/health\"\ninterval = \"200ms\"\nunhealthy_after = 3\nhealthy_after = 2";
    let process = Process::launch(&config(&[member("a", &a, 1), member("b", &b, 2)], pool, ""), &[]).await;
    eventually("unhealthy", async || process.state("a").await == "unhealthy").await;
    process.upgrade().await;
    let checks = || a.received().iter().filter(|request| request.path() == "/health").count();
    let before = checks();
    eventually("it was checked a few times", async || {
        assert_eq!(process.state("a").await, "unhealthy");
        checks() >= before + 4
    })
    .await;
    assert_eq!(process.chat().await.header("x-spillway-backend"), Some("b"));
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("healthy again", async || process.state("a").await == "ready").await;
}
