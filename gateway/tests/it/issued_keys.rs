//! Keys that are issued at run time, and the audit log.

mod api;
mod cli;
mod crash;
mod disk;
mod nodes;
mod upgrade;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Response, ask, post};

use crate::support::*;

/// A backend that answers everything.
async fn backend() -> ScriptedBackend {
    ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await
}

/// A config with two consumers, whose keys in the config are their names, and a state directory.
fn text(backend: &ScriptedBackend, folder: &Path, rest: &str) -> String {
    let rest = consumer("crm", "") + &consumer("web", "models = [\"m\"]") + rest;
    config(&[member("a", backend, 1)], "", &rest).replace("#server", &state_dir(folder))
}

/// The status of a chat with this key.
async fn chat_with(address: SocketAddr, key: &str) -> u16 {
    ask_as(address, key, &chat(false)).await.status
}

/// A request to the admin listener with a JSON body.
async fn send(admin: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let request = String::from_utf8(post(path, &[("content-type", "application/json")], body.as_bytes())).unwrap();
    ask(admin, request.replacen("POST", method, 1)).await.unwrap()
}

/// Issues a key: its id and the key.
async fn issue(admin: SocketAddr, body: Value) -> (String, String) {
    let got = send(admin, "POST", "/api/keys", &body.to_string()).await;
    assert_eq!(got.status, 201, "{}", got.text());
    let text = |name: &str| got.json()[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

async fn revoke(admin: SocketAddr, id: &str) -> Response {
    send(admin, "DELETE", &format!("/api/keys/{id}"), "").await
}

/// The issued keys that a gateway lists.
async fn listed(admin: SocketAddr) -> Vec<Value> {
    let all = spillway_testkit::client::get(admin, "/api/keys").await.unwrap().json();
    all["keys"].as_array().unwrap().iter().filter(|key| key["source"] == "issued").cloned().collect()
}

/// What a gateway's audit log has, the newest first.
async fn audited(admin: SocketAddr, query: &str) -> Vec<Value> {
    let got = spillway_testkit::client::get(admin, &format!("/api/audit{query}")).await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()["acts"].as_array().unwrap().clone()
}

fn for_crm() -> Value {
    json!({ "consumer": "crm" })
}
