//! The admin listener: the page and its API, and who may not ask.

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Connection, ask, get, post};

use crate::support::*;

#[tokio::test]
async fn a_request_can_be_explained() {
    let ptu = ScriptedBackend::start(|_| Reply::json(429, "{}").header("retry-after", "60")).await;
    let payg = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("ptu", &ptu, 1), member("payg", &payg, 2)], "", "")).await;
    let first = gateway.chat().await;
    let second = gateway.chat().await;
    let explained = async |answer: &spillway_testkit::client::Response| {
        gateway.admin(&format!("/api/requests/{}", answer.header("x-request-id").unwrap())).await.json()
    };
    let request = explained(&first).await;
    let outcomes: Vec<&str> = request["attempts"].as_array().unwrap().iter().map(|tried| tried["outcome"].as_str().unwrap()).collect();
    assert_eq!((outcomes, request["passed_over"][0]["state"].as_str()), (vec!["throttled", "ok"], Some("tried")));
    let request = explained(&second).await;
    let over = &request["passed_over"][0];
    assert_eq!((over["backend"].as_str(), over["state"].as_str()), (Some("ptu"), Some("throttled")));
    assert!((1..=60_000).contains(&over["reopens_in_ms"].as_u64().unwrap()), "{over}");
    assert_eq!(request["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.admin("/api/requests/none").await.status, 404);
    let latest = gateway.admin("/api/requests").await.json();
    assert_eq!(latest["requests"].as_array().unwrap().len(), 2);
    let status = gateway.admin("/api/status").await.json();
    assert_eq!((status["failovers"].as_array().unwrap().len(), status["failovers"][0]["served_by"].as_str()), (1, Some("payg")));
    let in_tier = |tier: usize| {
        let members = status["pools"][0]["tiers"][tier]["members"].as_array().unwrap();
        members.iter().find(|member| member["deployment"] == "m").unwrap().clone()
    };
    assert_eq!((in_tier(0)["state"].as_str(), in_tier(1)["served_total"].as_u64()), (Some("throttled"), Some(2)));
    assert!(in_tier(0)["why"].as_str().unwrap().contains("429"), "{status}");
}

#[tokio::test]
async fn the_status_comes_again_and_again() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let mut stream = Connection::open(gateway.running.admin).await.unwrap();
    stream.send("GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let (status, head) = stream.answer_head().await.unwrap();
    assert_eq!((status, head.header("content-type")), (200, Some("text/event-stream")));
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap()).unwrap();
    assert!(first.starts_with("event: status\ndata: {"), "{first}");
    gateway.chat().await;
    let mut later = String::new();
    while !later.contains("\"requests\":1") {
        later = String::from_utf8(stream.chunk().await.unwrap().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn pages_of_others_can_neither_read_nor_change() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let open = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let address = open.running.admin;
    let here = address.to_string();
    let drain = async |host: &str, headers: &[(&str, &str)]| {
        let request = post("/api/drain?backend=a", headers, b"");
        let request = String::from_utf8(request).unwrap().replace("host: localhost", &format!("host: {host}"));
        ask(address, request).await.unwrap().status
    };
    let own = format!("http://{here}");
    assert_eq!(drain(&here, &[("origin", "http://evil.example")]).await, 403);
    assert_eq!(drain(&here, &[("origin", &own)]).await, 403, "a form of the page's own address sends no header of ours");
    assert_eq!(
        drain("evil.example:9090", &[("origin", "http://evil.example:9090"), ("x-spillway-admin", "1")]).await,
        403,
        "a name that means here"
    );
    for (host, more) in [("evil.example:9090", ""), (here.as_str(), "sec-fetch-site: cross-site\r\n")] {
        let request = format!("GET /api/usage HTTP/1.1\r\nhost: {host}\r\n{more}\r\n");
        assert_eq!(ask(address, request).await.unwrap().status, 403, "{host} {more}");
    }
    assert_eq!(open.state("a").await, "ready");
    assert_eq!(drain(&here, &[("origin", &own), ("x-spillway-admin", "1")]).await, 200);
    assert_eq!(open.state("a").await, "drained");

    let locked = Gateway::start(&config(&[member("a", &backend, 1)], "", "").replace("#server", "admin_token = \"secret\"")).await;
    let admin = locked.running.admin;
    let page = get(admin, "/").await.unwrap();
    assert_eq!(page.status, 200, "the page asks for the token itself");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for path in ["/api/status", "/api/events", "/api/config", "/api/requests", "/api/requests/x", "/metrics"] {
        assert_eq!(get(admin, path).await.unwrap().status, 401, "{path}");
    }
    for path in ["/api/reload", "/api/upgrade", "/api/log?level=debug"] {
        assert_eq!(ask(admin, post(path, &[], b"")).await.unwrap().status, 401, "{path}");
    }
    let wrong = ask(admin, post("/api/log?level=loud%21", &[("authorization", "Bearer secret")], b"")).await.unwrap();
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn silent_connections_take_nothing_from_a_probe() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    // More than wait for a head at once; none of them ever says anything whole.
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut connection = Connection::open(gateway.running.admin).await.unwrap();
        if number % 2 == 0 {
            connection.send("GET /metrics HTTP/1.1\r\nx-slow: ").await.unwrap();
        }
        silent.push(connection);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/pools"] {
        assert_eq!(gateway.admin(path).await.status, 200, "{path}");
    }
    // Whoever had waited longest was sent away.
    assert!(silent[1].answer_head().await.is_err());
}

#[tokio::test]
async fn a_head_has_a_deadline_and_an_idle_connection_ends() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", "");
    let gateway = Gateway::start(&text.replace("#server", "header_timeout = \"100ms\"\nkeepalive = \"100ms\"")).await;
    // The other side ends them: nothing here does.
    let mut silent = Connection::open(gateway.running.admin).await.unwrap();
    assert!(silent.answer_head().await.is_err());
    let mut slow = Connection::open(gateway.running.admin).await.unwrap();
    slow.send("GET /healthz HTTP/1.1\r\nx-slow: ").await.unwrap();
    assert_eq!(slow.answer_head().await.unwrap().0, 408);
    let mut idle = Connection::open(gateway.running.admin).await.unwrap();
    idle.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(idle.answer().await.unwrap().status, 200);
    assert!(idle.answer_head().await.is_err());
}
