//! The listener for people.

use std::net::SocketAddr;

use serde_json::json;
use spillway_testkit::client;

use super::scene::*;
use crate::sign_in::browser::{Browser, TOKEN, ready};
use crate::support::*;

/// Signs in at the listener for people.
async fn signed_in(people: SocketAddr) -> Browser {
    let mut browser = Browser::at(people);
    let begun = browser.get("/sign-in").await;
    assert_eq!(begun.status, 303, "{}", begun.text());
    let location = begun.header("location").unwrap();
    assert!(location.contains("redirect_uri=https%3A%2F%2Fpeople%2Eexample%2Ecom%2Fsign%2Din%2Fcallback"), "{location}");
    let (host, path) = location.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let back = client::get(host.parse().unwrap(), &format!("/{path}")).await.unwrap();
    let back = back.header("location").unwrap().strip_prefix(PORTAL).unwrap().to_owned();
    let done = browser.get(&back).await;
    assert_eq!((done.status, done.header("location").unwrap()), (303, format!("{PORTAL}/me").as_str()));
    browser
}

#[tokio::test]
async fn it_serves_people_and_nothing_of_operators() {
    let portal = Portal::start().await;
    let people = portal.gateway.running.portal.unwrap();
    portal.issuer.claims(json!({ "sub": "root", "roles": ["Gateway.Admin"], "groups": ["crm-team"] }));
    let mut root = signed_in(people).await;
    let page = root.get("/me").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(page.status == 200 && policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(root.get("/").await.header("location"), Some("/me"));
    assert_eq!(root.who().await["role"], "administrator");
    let me = root.get("/api/me").await.json();
    assert_eq!((&me["consumers"][0]["name"], &me["sees_status"]), (&json!("crm"), &json!(false)));
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/status",
        "/api/events",
        "/api/usage",
        "/api/keys",
        "/api/config",
        "/api/requests",
        "/api/limits",
        "/api/pools",
        "/api/audit",
        "/api/sessions",
        "/api/shadow",
    ] {
        assert_eq!(root.get(path).await.status, 404, "{path}");
    }
    for path in ["/api/reload", "/api/upgrade", "/api/log?level=debug", "/api/drain?backend=a", "/api/keys", "/api/sessions/end?all=true"] {
        assert_eq!(root.post(path).await.status, 404, "{path}");
    }
    // Nobody tries out admin tokens here: a right one and a wrong one get the same answer.
    let with = async |token: &str| {
        let request = format!("GET /api/session HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        let answer = client::ask(people, request).await.unwrap();
        (answer.status, answer.text())
    };
    assert_eq!((with(TOKEN).await.0, with(TOKEN).await), (401, with("wrong").await));
}

#[tokio::test]
async fn a_flood_on_it_takes_nothing_from_operators_and_probes() {
    let portal = Portal::start().await;
    let people = portal.gateway.running.portal.unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(client::Connection::open(people).await.unwrap());
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(portal.gateway.admin(path).await.status, 200, "{path}");
    }
    assert_eq!(client::get(people, "/me").await.unwrap().status, 200, "who has waited longest has gone");
}

#[tokio::test]
async fn it_keeps_its_port_and_its_sessions_in_an_upgrade() {
    let (issuer, backend) = (spillway_testkit::sign_in::SignInIssuer::start().await, backend().await);
    let process = Process::launch(&text(&backend, &issuer, "STATE"), &[]).await;
    ready(process.admin).await;
    let log = process.log();
    let people: SocketAddr = log.split("portal=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    issuer.claims(json!({ "sub": "kim", "roles": null, "groups": ["members", "crm-team"] }));
    let mut kim = signed_in(people).await;
    process.upgrade_as(TOKEN).await;
    ready(process.admin).await;
    assert_eq!(kim.get("/api/me").await.json()["consumers"][0]["name"], "crm");
}

#[tokio::test]
async fn a_reload_changes_owners_at_once_and_says_that_another_address_needs_a_restart() {
    let (issuer, backend) = (spillway_testkit::sign_in::SignInIssuer::start().await, backend().await);
    let process = Process::launch(&text(&backend, &issuer, "STATE"), &[]).await;
    ready(process.admin).await;
    issuer.claims(json!({ "sub": "kim", "roles": null, "groups": ["members", "crm-team"] }));
    let mut kim = Browser::at(process.admin);
    kim.sign_in().await;
    let written = process.text();
    let reload = async |text: &str| {
        process.write_config(text);
        let bearer = format!("Bearer {TOKEN}");
        client::ask(process.admin, client::post("/api/reload", &[("authorization", &bearer)], b"")).await.unwrap()
    };
    assert_eq!(kim.get("/api/me").await.json()["count"], 1);
    assert_eq!(reload(&written.replace("\"crm-team\", ", "")).await.status, 200);
    assert_eq!(kim.get("/api/me").await.json()["count"], 0, "who is no owner any longer sees nothing");
    let moved = written.replace("[server.portal]\nlisten = \"127.0.0.1:0\"", "[server.portal]\nlisten = \"127.0.0.1:1\"");
    assert_eq!(reload(&moved).await.json()["needs_restart"], json!(["server.portal.listen"]));
}

#[tokio::test]
async fn with_server_tls_it_speaks_tls_and_only_http_1() {
    let (ca, folder) = (TestCa::new("ca"), tempfile::tempdir().unwrap());
    let (certificate, key) = ca.host("localhost");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key, ca) = (file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()), file("ca.pem", &ca.pem));
    let portal = Portal::with(|text| format!("{text}\n[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n")).await;
    let port = portal.gateway.running.portal.unwrap().port();
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--http2", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", "--max-time", "20"]);
    curl.args(["--cacert", &ca, "--resolve", &format!("localhost:{port}:127.0.0.1"), &format!("https://localhost:{port}/me")]);
    let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1.1 200");
    assert!(client::get(portal.gateway.running.portal.unwrap(), "/me").await.is_err(), "nothing in the clear");
    assert_eq!(portal.gateway.admin("/healthz").await.status, 200, "the admin listener is as it was");
}
