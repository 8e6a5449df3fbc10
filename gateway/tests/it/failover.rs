//! Where requests go when targets refuse, fail or can't be reached.

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};

use crate::support::*;

#[tokio::test]
async fn a_429_moves_the_very_request_and_throttles_the_target() {
    let ptu = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let payg = ScriptedBackend::start(|_| Reply::json(200, answer("from payg"))).await;
    let gateway = Gateway::start(&config(&[member("ptu", &ptu, 1), member("payg", &payg, 2)], "", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.json()["choices"][0]["message"]["content"].as_str()), (200, Some("from payg")));
    assert_eq!(got.header("x-spillway-backend"), Some("payg"));
    assert_eq!(got.header("x-spillway-attempts"), Some("2"));
    assert!(got.header("x-spillway-overhead-us").unwrap().parse::<u64>().unwrap() > 0);
    for _ in 0..20 {
        assert_eq!(gateway.chat().await.status, 200);
    }
    assert_eq!((ptu.count(), payg.count()), (1, 21), "a throttled target gets nothing");
    assert_eq!(gateway.state("ptu").await, "throttled");
    assert_eq!(gateway.metric("spillway_attempts_total{backend=\"ptu\",deployment=\"m\",outcome=\"throttled\",pool=\"pool\"}").await, 1.0);
    assert_eq!(gateway.metric("spillway_tier_served_total{pool=\"pool\",priority=\"2\"}").await, 21.0);
    assert_eq!(gateway.metric("spillway_requests_total{api=\"chat\",pool=\"pool\",status=\"200\"}").await, 21.0);
}

#[tokio::test]
async fn traffic_returns_when_the_throttle_ends() {
    let ptu = ScriptedBackend::start({
        let first = std::sync::atomic::AtomicBool::new(true);
        move |_| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) { Reply::throttled(300) } else { Reply::json(200, answer("ptu")) }
        }
    })
    .await;
    let payg = ScriptedBackend::start(|_| Reply::json(200, answer("payg"))).await;
    let gateway = Gateway::start(&config(&[member("ptu", &ptu, 1), member("payg", &payg, 2)], "", "")).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("payg"));
    eventually("back to the PTU", async || gateway.chat().await.header("x-spillway-backend") == Some("ptu")).await;
    assert_eq!(ptu.connections(), 1, "the 429's connection was kept and used again");
}

#[tokio::test]
async fn a_throttle_is_the_deployments_not_the_backends() {
    let ptu = ScriptedBackend::start(
        |request| if request.json()["model"] == "m" { Reply::throttled(60_000) } else { Reply::json(200, answer("x")) },
    )
    .await;
    let payg = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("ptu", &ptu, 1), member("payg", &payg, 2)], "", "")).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("payg"));
    let other = gateway.post("/v1/chat/completions", &serde_json::json!({ "model": "gpt-4o", "messages": [] })).await;
    assert_eq!(other.header("x-spillway-backend"), Some("ptu"));
}

#[tokio::test]
async fn everything_throttled_is_a_429_that_says_when() {
    let a = ScriptedBackend::start(|_| Reply::throttled(40_000)).await;
    let b = ScriptedBackend::start(|_| Reply::throttled(20_500)).await;
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 2)], "", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(got.header("retry-after"), Some("21"));
    let millis: u64 = got.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((15_000..=20_500).contains(&millis), "{millis}");
    assert!(got.header("x-request-id").is_some());
    let again = gateway.chat().await;
    assert_eq!((again.status, a.count(), b.count()), (429, 1, 1));
}

#[tokio::test]
async fn a_wait_is_waited_out() {
    let only = ScriptedBackend::start({
        let first = std::sync::atomic::AtomicBool::new(true);
        move |_| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) { Reply::throttled(200) } else { Reply::json(200, answer("later")) }
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &only, 1)], "[pools.retry]\nwait = \"5s\"", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.header("x-spillway-attempts")), (200, Some("2")));
    let long = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let gateway = Gateway::start(&config(&[member("a", &long, 1)], "[pools.retry]\nwait = \"1s\"", "")).await;
    assert_eq!(gateway.chat().await.status, 429, "a minute is longer than the wait");
}

#[tokio::test]
async fn the_last_resort_answers_when_nobody_can() {
    let a = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let sorry = "[[backends]]\nname = \"sorry\"\nkind = \"mock\"\nreply = \"Back soon.\"";
    let gateway = Gateway::start(&config(&[member("a", &a, 1)], "", sorry)).await;
    let plain = gateway.chat().await;
    assert_eq!((plain.status, plain.json()["choices"][0]["message"]["content"].as_str()), (200, Some("Back soon.")));
    assert_eq!((plain.header("x-spillway-backend"), plain.header("x-spillway-attempts")), (Some("sorry"), Some("1")));
    let streamed = gateway.stream().await;
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    assert!(streamed.text().contains("Back ") && streamed.text().ends_with(DONE), "{}", streamed.text());
    let body = serde_json::json!({ "model": "m", "input": "x", "prompt": "x" });
    for (path, object) in [("/v1/responses", "response"), ("/v1/completions", "text_completion")] {
        let got = gateway.post(path, &body).await;
        assert_eq!((got.status, got.json()["object"].as_str()), (200, Some(object)), "{path}");
    }
    assert_eq!(gateway.post("/v1/embeddings", &body).await.status, 429, "made-up vectors would be kept");
    assert_eq!(a.count(), 1);
}

#[tokio::test]
async fn errors_go_elsewhere_and_trip_the_circuit() {
    let bad = ScriptedBackend::start(|_| Reply::json(503, "<html>busy</html>").header("content-type", "text/html")).await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway =
        Gateway::start(&config(&[member("bad", &bad, 1), member("good", &good, 2)], "[pools.circuit]\nfailures = 3\ntrip = \"1m\"", ""))
            .await;
    for _ in 0..10 {
        assert_eq!(gateway.chat().await.status, 200);
    }
    assert_eq!((bad.count(), good.count()), (3, 10));
    assert_eq!(gateway.state("bad").await, "tripped");
}

#[tokio::test]
async fn a_half_open_circuit_sends_one_probe() {
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let bad = ScriptedBackend::start({
        let failing = failing.clone();
        move |_| if failing.load(std::sync::atomic::Ordering::SeqCst) { Reply::json(500, "{}") } else { Reply::json(200, answer("x")) }
    })
    .await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway =
        Gateway::start(&config(&[member("bad", &bad, 1), member("good", &good, 2)], "[pools.circuit]\nfailures = 1\ntrip = \"200ms\"", ""))
            .await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("good"));
    assert_eq!(gateway.state("bad").await, "tripped");
    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("half-open", async || gateway.state("bad").await == "half-open").await;
    assert_eq!(bad.count(), 1, "nothing but requests probes it");
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("bad"));
    assert_eq!(gateway.state("bad").await, "ready");
}

#[tokio::test]
async fn the_last_failure_decides_between_502_and_504() {
    let refusing = ScriptedBackend::start(|_| Reply::raw([Step::Reset])).await;
    let gateway = Gateway::start(&config(&[member("a", &refusing, 1)], "", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str(), got.header("x-should-retry")), (502, "upstream_error", Some("false")));
    let silent = ScriptedBackend::start(|_| Reply::raw([Step::Hang])).await;
    let gateway = Gateway::start(&config(&[member("a", &silent, 1)], "[pools.timeouts]\nanswer = \"100ms\"", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str()), (504, "upstream_timeout"));
    eventually("the upstream is let go", async || silent.hung_up() == 1).await;
}

#[tokio::test]
async fn an_unreachable_backend_is_passed_over() {
    let gone = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("gone", &gone, 1), member("good", &good, 2)], "", "");
    drop(gone);
    let gateway = Gateway::start(&text).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("good"));
    let broken_name = text.replacen("http://127.0.0.1", "http://no-such-host.invalid", 1);
    let gateway = Gateway::start(&broken_name).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("good"));
    assert_eq!(gateway.state("gone").await, "unresolved");
}

/// Connections fail from time to time, more often in a minute than `failures` says. Then the backend is really down.
#[tokio::test]
async fn a_lone_member_stays_open_while_connections_come_about_and_trips_at_once_when_none_does() {
    let serve =
        async |address: &str| ScriptedBackend::start_at(address, |_| Reply::json(200, answer("x")).header("connection", "close")).await;
    let mut backend = serve("127.0.0.1:0").await;
    let address = backend.address();
    let gateway = Gateway::start(&config(&[member("only", &backend, 1)], "[pools.circuit]\nfailures = 5\n", "")).await;
    for _ in 0..6 {
        drop(backend);
        eventually("nobody listens", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
        assert_eq!(gateway.chat().await.status, 502);
        backend = serve(&address.to_string()).await;
        assert_eq!((gateway.chat().await.status, gateway.state("only").await.as_str()), (200, "ready"));
    }
    let refused = "spillway_attempts_total{backend=\"only\",deployment=\"m\",outcome=\"connect\",pool=\"pool\"}";
    let before = gateway.metric(refused).await;
    assert!(before >= 6.0, "{before}");
    drop(backend);
    eventually("nobody listens", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    eventually("tripped", async || gateway.chat().await.status == 503).await;
    assert_eq!((gateway.state("only").await.as_str(), gateway.metric(refused).await - before), ("tripped", 5.0));
}

#[tokio::test]
async fn a_stale_pooled_connection_is_replaced_and_counts_for_nothing() {
    let dropping = ScriptedBackend::start({
        let count = std::sync::atomic::AtomicUsize::new(0);
        // Answers, says it keeps the connection, and hangs up on the next request.
        move |request| match (count.fetch_add(1, std::sync::atomic::Ordering::SeqCst), request.connection) {
            (1, 0) => Reply::raw([Step::Close]),
            _ => Reply::json(200, answer("x")),
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &dropping, 1)], "", "")).await;
    assert_eq!(gateway.chat().await.status, 200);
    let second = gateway.chat().await;
    assert_eq!((second.status, second.header("x-spillway-attempts")), (200, Some("2")));
    let told = gateway.admin(&format!("/api/requests/{}", second.header("x-request-id").unwrap())).await.json();
    let attempts = told["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["stale"], &attempts[0]["outcome"]), (2, &true.into(), &"reset".into()), "{told}");
    assert_eq!((&attempts[1]["stale"], &attempts[1]["outcome"]), (&serde_json::Value::Null, &"ok".into()));
    assert_eq!(gateway.metric("spillway_attempts_total{backend=\"a\",deployment=\"m\",outcome=\"reset\",pool=\"pool\"}").await, 0.0);
    assert_eq!(dropping.connections(), 2);
    assert_eq!(gateway.metric("spillway_stale_connections_total").await, 1.0);
}

#[tokio::test]
async fn the_callers_own_faults_are_delivered_and_never_counted() {
    let filter = r#"{"error":{"message":"The response was filtered","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    let a = ScriptedBackend::start(move |_| Reply::json(400, filter)).await;
    let b = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(
        &[member("a", &a, 1), member("b", &b, 2)],
        "[pools.circuit]\nfailures = 1\nstatuses = [\"400-599\"]\n[pools.retry]\nstatuses = [\"400-599\"]",
        "",
    ))
    .await;
    for _ in 0..3 {
        let got = gateway.chat().await;
        assert_eq!((got.status, got.text().as_str()), (400, filter));
    }
    assert_eq!((a.count(), b.count()), (3, 0));
}

#[tokio::test]
async fn a_misconfigured_member_is_taken_out() {
    let unauthorised = ScriptedBackend::start(|_| Reply::json(401, r#"{"statusCode":401,"message":"Unauthorized."}"#)).await;
    let unknown = ScriptedBackend::start(|_| {
        Reply::json(404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#)
    })
    .await;
    let broke = ScriptedBackend::start(|_| {
        Reply::json(429, r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#)
    })
    .await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let members =
        [member("unauthorised", &unauthorised, 1), member("unknown", &unknown, 2), member("broke", &broke, 3), member("good", &good, 4)];
    let gateway = Gateway::start(&config(&members, "[pools.retry]\nmax_attempts = 1", "")).await;
    for _ in 0..5 {
        assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("good"));
    }
    assert_eq!((unauthorised.count(), unknown.count(), broke.count()), (1, 1, 1));
    for (name, state) in [("unauthorised", "misconfigured"), ("unknown", "misconfigured"), ("broke", "out-of-quota")] {
        assert_eq!(gateway.state(name).await, state);
    }
}

#[tokio::test]
async fn failures_are_bounded_but_throttled_targets_are_not_counted() {
    let throttled: Vec<ScriptedBackend> = futures(5, |_| Reply::throttled(60_000)).await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let names = ["a", "b", "c", "d", "e"];
    let mut members: Vec<Member> = throttled.iter().zip(names).map(|(backend, name)| member(name, backend, 1)).collect();
    members.push(member("good", &good, 2));
    let gateway = Gateway::start(&config(&members, "[pools.retry]\nmax_attempts = 2", "")).await;
    assert_eq!(gateway.chat().await.header("x-spillway-attempts"), Some("6"), "no visible 429 while there is room");
    let failing: Vec<ScriptedBackend> = futures(5, |_| Reply::json(500, "{}")).await;
    let mut members: Vec<Member> = failing.iter().zip(names).map(|(backend, name)| member(name, backend, 1)).collect();
    members.push(member("good", &good, 2));
    let gateway = Gateway::start(&config(&members, "[pools.retry]\nmax_attempts = 2", "")).await;
    assert_eq!(gateway.chat().await.status, 502);
    assert_eq!(failing.iter().map(ScriptedBackend::count).sum::<usize>(), 2);
}

async fn futures(n: usize, handler: fn(&spillway_testkit::backend::Received) -> Reply) -> Vec<ScriptedBackend> {
    let mut backends = Vec::new();
    for _ in 0..n {
        backends.push(ScriptedBackend::start(handler).await);
    }
    backends
}

#[tokio::test]
async fn slots_bound_what_a_target_gets_at_once() {
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let small = ScriptedBackend::start({
        let release = release.clone();
        let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", answer("x").len(), answer("x"));
        move |_| Reply::raw([Step::Until(release.clone()), Step::Write(whole.clone().into_bytes())])
    })
    .await;
    let big = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let members = [Member { name: "small", backend: &small, priority: 1, extra: "max_concurrent = 1" }, member("big", &big, 2)];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    let (first, second) = tokio::join!(gateway.chat(), async {
        eventually("the slot is taken", async || small.count() == 1).await;
        assert_eq!(gateway.state("small").await, "busy");
        let second = gateway.chat().await;
        release.notify_one();
        second
    });
    assert_eq!((first.header("x-spillway-backend"), second.header("x-spillway-backend")), (Some("small"), Some("big")));
}

#[tokio::test]
async fn a_drained_backend_gets_nothing_until_it_is_back() {
    let a = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let b = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 2)], "", "")).await;
    let admin = |path: &str| {
        spillway_testkit::client::ask(
            gateway.running.admin,
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        )
    };
    assert_eq!(admin("/api/drain?backend=a").await.unwrap().status, 200);
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("b"));
    assert_eq!(gateway.state("a").await, "drained");
    assert_eq!(admin("/api/undrain?backend=a").await.unwrap().status, 200);
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("a"));
    assert_eq!(admin("/api/drain?backend=nobody").await.unwrap().status, 404);
}

#[tokio::test]
async fn a_consumer_stays_inside_its_fence() {
    let here = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let there = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let members = [
        Member { name: "here", backend: &here, priority: 1, extra: "location = \"eu\"" },
        Member { name: "there", backend: &there, priority: 2, extra: "location = \"us\"" },
    ];
    // echo -n test | sha256sum, echo -n other | sha256sum
    let consumers = "[[consumers]]\nname = \"fenced\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }]\nlocations = [\"eu\"]\nmodels = [\"m\"]\n\n[[consumers]]\nname = \"free\"\nkeys = [{ sha256 = \"d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\" }]\n";
    let gateway = Gateway::start(&config(&members, "", consumers)).await;
    let ask = async |key: &str, model: &str| {
        let body = serde_json::json!({ "model": model, "messages": [] }).to_string();
        spillway_testkit::client::ask(
            gateway.address,
            spillway_testkit::client::post("/v1/chat/completions", &[("api-key", key)], body.as_bytes()),
        )
        .await
        .unwrap()
    };
    assert_eq!(ask("test", "m").await.status, 429, "the other location has room, but not for this one");
    assert_eq!(ask("other", "m").await.status, 200);
    assert_eq!(ask("test", "gpt-4o").await.code(), "model_not_allowed");
    let wrong = ask("wrong", "m").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "invalid_api_key"));
    assert!(here.received().iter().chain(&there.received()).all(|r| r.header("api-key").is_none()));
}

/// A backend whose health check at `/health` fails until the flag is set.
pub async fn checked_backend() -> (ScriptedBackend, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = healthy.clone();
    let backend = ScriptedBackend::start(move |request| match request.path() {
        "/health" if !told.load(std::sync::atomic::Ordering::SeqCst) => Reply::json(503, "{}"),
        _ => Reply::json(200, answer("x")),
    })
    .await;
    (backend, healthy)
}

#[tokio::test]
async fn health_checks_take_a_member_out_and_bring_it_back() {
    let (a, healthy) = checked_backend().await;
    let b = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let pool = "[pools.health]\npath = \"/health\"\ninterval = \"50ms\"\nunhealthy_after = 1";
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 2)], pool, "")).await;
    eventually("unhealthy", async || gateway.state("a").await == "unhealthy").await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("b"));
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("healthy again", async || gateway.state("a").await == "ready").await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("a"));
}

#[tokio::test]
async fn a_pool_of_nothing_but_a_last_resort_answers() {
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[[backends]]\nname = \"sorry\"\nkind = \"mock\"\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"sorry\" }]\n[log]\naccess = \"off\"\n";
    let gateway = Gateway::start(text).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.header("x-spillway-backend"), got.header("x-spillway-attempts")), (200, Some("sorry"), Some("0")));
    let got = gateway.post("/v1/embeddings", &serde_json::json!({ "model": "m", "input": "x" })).await;
    assert_eq!((got.status, got.json()["object"].as_str()), (200, Some("list")), "it imitates a backend");
}

#[tokio::test]
async fn throttled_members_beside_one_of_another_api_are_a_429() {
    let azure = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let claude = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let members = [member("azure", &azure, 1), Member { name: "claude", backend: &claude, priority: 2, extra: "kind = \"anthropic\"" }];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    assert_eq!((gateway.chat().await.status, claude.count()), (429, 0));
}

#[tokio::test]
async fn a_throttle_that_ends_while_the_request_looks_elsewhere_is_no_refusal() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let ptu = ScriptedBackend::start(move |_| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) { Reply::throttled(20) } else { Reply::json(200, answer("x")) }
    })
    .await;
    let full = b"HTTP/1.1 429 Too Many Requests\r\nretry-after-ms: 30000\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    let payg =
        ScriptedBackend::start(move |_| Reply::raw([Step::Pause(std::time::Duration::from_millis(150)), Step::Write(full.clone())])).await;
    let gateway = Gateway::start(&config(&[member("ptu", &ptu, 1), member("payg", &payg, 2)], "", "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.header("x-spillway-backend"), got.header("x-spillway-attempts")), (200, Some("ptu"), Some("3")));
}

#[tokio::test]
async fn the_last_resort_never_answers_before_a_real_target() {
    let failing = ScriptedBackend::start(|_| Reply::json(500, "{}")).await;
    let untried = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let sorry = "[[backends]]\nname = \"sorry\"\nkind = \"mock\"";
    let members = [member("failing", &failing, 1), member("untried", &untried, 2)];
    let gateway = Gateway::start(&config(&members, "[pools.retry]\nmax_attempts = 1", sorry)).await;
    assert_eq!((gateway.chat().await.status, untried.count()), (502, 0));
    let gateway = Gateway::start(&config(&members[..1], "[pools.retry]\nmax_attempts = 1", sorry)).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("sorry"));
}

#[tokio::test]
async fn what_may_not_go_elsewhere_still_counts() {
    let failing = ScriptedBackend::start(|_| Reply::json(500, "{}")).await;
    let limited = ScriptedBackend::start(|_| Reply::throttled(30_000)).await;
    let pool = "[pools.retry]\nstatuses = [503]\n[pools.circuit]\nfailures = 2";
    let gateway = Gateway::start(&config(&[member("a", &failing, 1)], pool, "")).await;
    for _ in 0..2 {
        assert_eq!(gateway.chat().await.status, 500);
    }
    assert_eq!(gateway.state("a").await, "tripped");
    let gateway = Gateway::start(&config(&[member("a", &limited, 1)], pool, "")).await;
    assert_eq!(gateway.chat().await.status, 429);
    assert_eq!((gateway.state("a").await.as_str(), limited.count()), ("throttled", 1));
}

#[tokio::test]
async fn a_callers_own_empty_account_is_not_the_targets() {
    let broke = r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#;
    let a = ScriptedBackend::start(move |_| Reply::json(429, broke)).await;
    let members = [Member { name: "a", backend: &a, priority: 1, extra: "auth = { type = \"passthrough\" }" }];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    assert_eq!(gateway.chat().await.text(), broke);
    assert_ne!(gateway.state("a").await, "out-of-quota");
}

#[tokio::test]
async fn a_truncated_error_is_not_delivered_as_whole() {
    let cut = ScriptedBackend::start(|_| Reply::json(400, "{\"error\":").header("content-length", "500").then(Step::Close)).await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("cut", &cut, 1), member("good", &good, 2)], "", "")).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("good"));
}

#[tokio::test]
async fn a_failure_beside_a_throttle_says_when_to_come_back() {
    let failing = ScriptedBackend::start(|_| Reply::raw([Step::Reset])).await;
    let throttled = ScriptedBackend::start(|_| Reply::throttled(7_000)).await;
    let gateway = Gateway::start(&config(&[member("a", &failing, 1), member("b", &throttled, 2)], "", "")).await;
    let got = gateway.chat().await;
    assert!(matches!(got.header("retry-after"), Some("5" | "6" | "7")) && got.status == 502);
    assert_eq!(got.header("x-should-retry"), None);
    assert_eq!(got.header("x-spillway-attempts"), Some("5"), "the one that failed fast is asked again, as often as the pool allows");
}

#[tokio::test]
async fn a_misconfigured_member_beside_throttled_ones_is_no_bad_gateway() {
    let unauthorised = ScriptedBackend::start(|_| Reply::json(401, "{}")).await;
    let gateway = Gateway::start(&config(&[member("a", &unauthorised, 1)], "", "")).await;
    for _ in 0..2 {
        let got = gateway.chat().await;
        assert_eq!((got.status, got.code().as_str(), got.header("retry-after")), (503, "no_backend_available", Some("30")));
    }
    assert_eq!(unauthorised.count(), 1);
}
