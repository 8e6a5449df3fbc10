//! A key is in one answer, once, and nowhere else.

use serde_json::json;
use spillway_testkit::client;
use spillway_testkit::sign_in::SignInIssuer;

use super::scene::*;
use crate::sign_in::browser::{Browser, TOKEN, ready};
use crate::support::*;

const LEVEL: &str = "trace,pingora_core=trace,hyper=trace,hyper_util=trace,rustls=trace,reqwest=trace";

#[tokio::test]
async fn a_key_is_shown_once_and_is_nowhere_else() {
    let (issuer, backend) = (SignInIssuer::start().await, backend().await);
    let text = text(&backend, &issuer, "STATE").replace("[log]\naccess = \"off\"", &format!("[log]\nlevel = \"{LEVEL}\""));
    let process = Process::launch(&text, &[]).await;
    ready(process.admin).await;
    issuer.claims(json!({ "sub": "kim", "roles": null, "groups": ["members", "crm-team"] }));
    let mut browser = Browser::at(process.admin);
    browser.sign_in().await;
    let mut kim = Person { browser };
    let (id, key) = kim.key("crm").await;
    let rotated = kim.change("POST", &format!("/api/me/keys/{id}/rotate"), Some(json!({ "grace": "1h" }))).await.json();
    let keys = [key, rotated["key"].as_str().unwrap().to_owned()];
    for key in &keys {
        let request = client::post("/v1/chat/completions", &[("api-key", key)], chat(false).to_string().as_bytes());
        assert_eq!(client::ask(process.address, request).await.unwrap().status, 200);
    }
    let mut shown = vec![("/api/me".to_owned(), kim.browser.get("/api/me").await.text())];
    shown.push(("a refusal".to_owned(), kim.change("DELETE", &format!("/api/me/keys/{}", keys[0]), None).await.text()));
    for path in ["/metrics", "/api/status", "/api/keys", "/api/requests", "/api/limits", "/api/config", "/api/audit"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
        shown.push((path.to_owned(), client::ask(process.admin, request).await.unwrap().text()));
    }
    shown.push(("the log".to_owned(), process.log()));
    let access_log = process.directory().join("stdout");
    eventually("the access log is written", async || std::fs::read_to_string(&access_log).unwrap().contains(&id)).await;
    shown.push(("the access log".to_owned(), std::fs::read_to_string(&access_log).unwrap()));
    let state = process.directory().join("state");
    for file in std::fs::read_dir(&state).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            shown.push((path.display().to_string(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()));
        }
    }
    for place in ["/api/me", "the log", "the access log"] {
        assert!(shown.iter().any(|(name, text)| name == place && text.contains(&id)), "its id is in {place}, so silence means something");
    }
    for (place, text) in &shown {
        for key in &keys {
            assert!(!text.contains(key.as_str()), "a key is in {place}");
        }
    }
}
