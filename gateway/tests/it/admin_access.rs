//! Who reaches the admin listener where nobody has to sign in, and what a reload changes of that.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use spillway::config::{Config, Secrets};
use spillway::server::ReloadError;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{self, Connection};
use spillway_testkit::sign_in::SignInIssuer;

use crate::sign_in::browser::{Browser, TOKEN, ready, rules};
use crate::support::*;

fn parsed(text: &str) -> Config {
    Config::parse(text, Path::new("test.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The text with the admin listener on all addresses of this machine.
fn open(text: &str) -> String {
    text.replace("admin = \"127.0.0.1:0\"", "admin = \"0.0.0.0:0\"")
}

async fn status(admin: SocketAddr, headers: &str) -> client::Response {
    client::ask(admin, format!("GET /api/status HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await.unwrap()
}

#[tokio::test]
async fn a_reload_does_not_open_a_listener_that_other_machines_reach() {
    let (issuer, backend) = (SignInIssuer::start().await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let members = [member("a", &backend, 1)];
    let with_token = |text: String| text.replace("#server", &format!("admin_token = \"{TOKEN}\""));
    let local = config(&members, "", "");
    for guarded in [with_token(local.clone()), config(&members, "", &rules(&issuer))] {
        let gateway = Gateway::start(&open(&guarded)).await;
        let running = &gateway.running;
        let refused = running.reloader.replace(parsed(&local)).await.unwrap_err();
        assert!(matches!(refused, ReloadError::OpenAdmin { .. }) && refused.to_string().contains("restart"), "{refused}");
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, running.admin.port()));
        assert_eq!(status(here, "host: localhost\r\n").await.status, 401);
        // What still guards it is enough.
        assert!(running.reloader.replace(parsed(&with_token(local.clone()))).await.is_ok());
        let bearer = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
        assert_eq!((status(here, "host: localhost\r\n").await.status, status(here, &bearer).await.status), (401, 200));
    }
    // One that only this machine reaches may be opened.
    let gateway = Gateway::start(&with_token(local.clone())).await;
    assert!(gateway.running.reloader.replace(parsed(&local)).await.is_ok());
    assert_eq!(gateway.admin("/api/status").await.status, 200);
}

#[tokio::test]
async fn a_reload_does_not_leave_a_listener_for_people_where_nobody_can_sign_in() {
    let (issuer, backend) = (SignInIssuer::start().await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let portal = "[server.portal]\nlisten = \"127.0.0.1:0\"\nurl = \"https://people.example.com\"\n";
    let members = [member("a", &backend, 1)];
    let gateway = Gateway::start(&config(&members, "", &(rules(&issuer) + portal))).await;
    let refused = gateway.running.reloader.replace(parsed(&config(&members, "", ""))).await.unwrap_err();
    assert!(matches!(refused, ReloadError::PeopleCannotSignIn { .. }), "{refused}");
}

#[tokio::test]
async fn without_token_and_sign_in_only_this_machine_itself_is_let_in() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let admin = gateway.running.admin;
    assert_eq!(status(admin, &format!("host: {admin}\r\n")).await.status, 200);
    for header in [
        "x-forwarded-for: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "x-forwarded-host: gateway.example.com",
        "forwarded: for=203.0.113.9",
        "x-real-ip: 203.0.113.9",
        "via: 1.1 proxy",
    ] {
        let refused = status(admin, &format!("host: {admin}\r\n{header}\r\n")).await;
        assert_eq!(refused.status, 403, "{header}");
        assert!(refused.text().contains("set server.admin_token or [server.sign_in]"), "{}", refused.text());
    }
    assert_eq!(gateway.metric("spillway_admin_refusals_total{reason=\"elsewhere\"}").await, 6.0);
    // Probes may come from anywhere.
    let probe = "GET /healthz HTTP/1.1\r\nhost: gateway\r\nx-forwarded-for: 203.0.113.9\r\nconnection: close\r\n\r\n";
    assert_eq!(client::ask(admin, probe).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_open_page_ends_when_its_token_is_replaced_or_people_must_sign_in() {
    let (issuer, backend) = (SignInIssuer::start().await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let members = [member("a", &backend, 1)];
    let plain = config(&members, "", "");
    let with = |token: &str| plain.replace("#server", &format!("admin_token = \"{token}\""));
    for (before, header, after) in [
        (with(TOKEN), format!("authorization: Bearer {TOKEN}\r\n"), with("another")),
        (plain.clone(), String::new(), with(TOKEN)),
        (plain.clone(), String::new(), config(&members, "", &rules(&issuer))),
    ] {
        let gateway = Gateway::start(&before).await;
        let mut stream = Connection::open(gateway.running.admin).await.unwrap();
        stream.send(format!("GET /api/events HTTP/1.1\r\nhost: localhost\r\n{header}\r\n")).await.unwrap();
        assert_eq!(stream.answer_head().await.unwrap().0, 200);
        stream.chunk().await.unwrap().unwrap();
        gateway.running.reloader.replace(parsed(&after)).await.unwrap();
        while stream.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    }
}

#[tokio::test]
async fn sessions_do_not_come_back_with_sign_in() {
    let (issuer, backend) = (SignInIssuer::start().await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let text = |rest: &str| config(&[member("a", &backend, 1)], "", rest).replace("#server", &format!("admin_token = \"{TOKEN}\""));
    let (with, without) = (text(&rules(&issuer)), text(""));
    let gateway = Gateway::start(&with).await;
    ready(gateway.running.admin).await;
    let mut browser = Browser::at(gateway.running.admin);
    browser.sign_in().await;
    assert_eq!(browser.get("/api/status").await.status, 200);
    for text in [&without, &with] {
        gateway.running.reloader.replace(parsed(text)).await.unwrap();
        assert_eq!(browser.clone().get("/api/status").await.status, 401);
    }
}

#[tokio::test]
async fn refusals_are_counted_by_reason_and_those_of_known_persons_recorded() {
    let (issuer, backend, folder) =
        (SignInIssuer::start().await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await, tempfile::tempdir().unwrap());
    let server = format!("admin_token = \"{TOKEN}\"\n{}", state_dir(folder.path()));
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rules(&issuer)).replace("#server", &server)).await;
    let admin = gateway.running.admin;
    ready(admin).await;
    let mut browser = Browser::at(admin);
    assert_eq!(browser.get("/api/status").await.status, 401);
    assert_eq!(browser.send("GET", "/api/status", &[("authorization", "Bearer guess")]).await.status, 401);
    assert_eq!(browser.send("GET", "/api/session", &[("authorization", "Bearer guess")]).await.json()["actor"], serde_json::Value::Null);
    issuer.claims(serde_json::json!({ "sub": "eve", "name": "Eve", "roles": null, "groups": ["viewers"] }));
    browser.sign_in().await;
    assert_eq!(browser.post("/api/drain?backend=a").await.status, 403);
    assert_eq!(browser.send("POST", "/api/drain?backend=a", &[]).await.status, 403);
    assert_eq!(browser.send("GET", "/api/status", &[("origin", "https://evil.example")]).await.status, 403);
    browser.post("/sign-out").await;
    issuer.claims(serde_json::json!({ "sub": "root", "name": "Root", "roles": ["Gateway.Admin"] }));
    browser.sign_in().await;
    browser.post("/api/sessions/end?subject=eve").await;
    issuer.claims(serde_json::json!({ "sub": "nemo", "name": "Nemo", "roles": null, "groups": null }));
    Browser::at(admin).sign_in().await;

    let bearer = format!("Bearer {TOKEN}");
    let ask = async |path: &str| browser.clone().send("GET", path, &[("authorization", &bearer)]).await;
    let metrics = ask("/metrics").await.text();
    for (reason, count) in [("token", 2), ("session", 1), ("csrf", 1), ("origin", 1), ("role", 1), ("elsewhere", 0)] {
        let line = format!("spillway_admin_refusals_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let acts = ask("/api/audit").await.json();
    let shown: Vec<[&str; 4]> = acts["acts"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|act| ["what", "who", "object", "result"].map(|name| act[name].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            ["session.begin", "eve (Eve)", "", "done"],
            ["request.refuse", "eve (Eve)", "POST /api/drain", "failed"],
            ["request.refuse", "eve (Eve)", "POST /api/drain", "failed"],
            ["session.end", "eve (Eve)", "", "done"],
            ["session.begin", "root (Root)", "", "done"],
            ["sessions.end", "root (Root)", "eve", "done"],
            ["session.begin", "nemo (Nemo)", "", "failed"],
        ]
    );
    assert!(!metrics.contains(TOKEN) && !acts.to_string().contains("guess"));
}

#[tokio::test]
async fn every_answer_says_that_no_other_page_may_use_it() {
    let issuer = SignInIssuer::start().await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway =
        Gateway::start(&config(&[member("a", &backend, 1)], "", &rules(&issuer)).replace("#server", &format!("admin_token = \"{TOKEN}\"")))
            .await;
    let admin = gateway.running.admin;
    ready(admin).await;
    let mut browser = Browser::at(admin);
    browser.sign_in().await;
    let mut heads = Vec::new();
    for path in ["/", "/me", "/healthz", "/api/session", "/api/status", "/api/none", "/metrics", "/sign-in", "/sign-in/callback"] {
        heads.push((path, browser.get(path).await.head));
    }
    let mut stream = Connection::open(admin).await.unwrap();
    stream.send(browser.request("GET", "/api/events", &[])).await.unwrap();
    heads.push(("/api/events", stream.answer_head().await.unwrap().1));
    for (path, head) in heads {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(head.header(name), Some(value), "{path} {name}");
        }
        let policy = head.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path} {policy}");
    }
}
