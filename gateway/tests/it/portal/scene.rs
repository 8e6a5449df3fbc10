//! A gateway with two teams, and members of them.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{self, Response};
use spillway_testkit::sign_in::SignInIssuer;

use crate::sign_in::browser::{Browser, TOKEN, URL, ready, rules};
use crate::support::*;

/// The external address of the listener for people.
pub const PORTAL: &str = "https://people.example.com";

/// Two teams. `sales` has two consumers and owners of the whole group; `ops` belongs to somebody else.
const CONSUMERS: &str = r#"
[server.portal]
listen = "127.0.0.1:0"
url = "https://people.example.com"
gateway_url = "https://api.example.com/"
contact = "the platform team (ai@example.com)"

[[groups]]
name = "sales"
owners = ["sales-leads"]
limits = { requests_per_minute = 1000 }

[[consumers]]
name = "crm"
group = "sales"
owners = ["crm-team", "kim@example.com"]
issued_keys = { max = 3, max_lifetime = "30d" }
limits = { requests_per_minute = 60, token_quota = { tokens = 100000, period = "month" }, models = { m = { tokens_per_minute = 5000 } } }

[[consumers]]
name = "leads"
group = "sales"

[[consumers]]
name = "ops"
owners = ["ops-team"]
models = ["m"]

[[consumers]]
name = "robots"
owners = ["robot-team"]
roles = ["Robot"]
"#;

/// A gateway with a portal.
pub struct Portal {
    pub issuer: SignInIssuer,
    pub gateway: Gateway,
    pub backend: ScriptedBackend,
    pub state: tempfile::TempDir,
}

/// Its config; `state` is its state directory.
pub fn text(backend: &ScriptedBackend, issuer: &SignInIssuer, state: &str) -> String {
    let rest = format!("{}{CONSUMERS}", rules(issuer));
    let server = format!("admin_token = \"{TOKEN}\"\nstate_dir = \"{state}\"");
    config(&[member("a", backend, 1)], "", &rest).replace("#server", &server)
}

/// A backend whose answers have a usage of 12 tokens.
pub async fn backend() -> ScriptedBackend {
    ScriptedBackend::start(|_| {
        let mut answer: Value = serde_json::from_str(&answer("hello")).unwrap();
        answer["usage"] = json!({ "prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12 });
        Reply::json(200, answer.to_string())
    })
    .await
}

impl Portal {
    pub async fn start() -> Self {
        Portal::with(|text| text).await
    }

    pub async fn with(change: impl Fn(String) -> String) -> Self {
        let (issuer, backend, state) = (SignInIssuer::start().await, backend().await, tempfile::tempdir().unwrap());
        let gateway = Gateway::start(&change(text(&backend, &issuer, state.path().to_str().unwrap()))).await;
        ready(gateway.running.admin).await;
        Portal { issuer, gateway, backend, state }
    }

    /// Somebody who has signed in with this subject, and is in these groups besides `members`.
    pub async fn member(&self, subject: &str, groups: &[&str]) -> Person {
        let groups: Vec<&str> = groups.iter().copied().chain(["members"]).collect();
        self.issuer.claims(json!({ "sub": subject, "name": format!("Name of {subject}"), "roles": null, "groups": groups }));
        let mut browser = Browser::at(self.gateway.running.admin);
        assert_eq!(browser.sign_in().await.status, 303);
        Person { browser }
    }

    /// The status of a chat with a key.
    pub async fn call(&self, key: &str) -> u16 {
        self.call_model(key, "m").await
    }

    pub async fn call_model(&self, key: &str, model: &str) -> u16 {
        let mut body = chat(false);
        body["model"] = json!(model);
        let request = client::post("/v1/chat/completions", &[("api-key", key)], body.to_string().as_bytes());
        client::ask(self.gateway.address, request).await.unwrap().status
    }

    /// The lines of the audit log about keys.
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state.path().join("audit.log")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|act| act["what"].as_str().unwrap().starts_with("key."))
            .collect()
    }
}

/// A person at the page.
#[derive(Clone)]
pub struct Person {
    pub browser: Browser,
}

impl Person {
    pub async fn me(&mut self) -> Value {
        let me = self.browser.get("/api/me").await;
        assert_eq!(me.status, 200, "{}", me.text());
        me.json()
    }

    /// What `GET /api/me` says of a consumer.
    pub async fn consumer(&mut self, name: &str) -> Value {
        let me = self.me().await;
        let found = me["consumers"].as_array().unwrap().iter().find(|consumer| consumer["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {me}")).clone()
    }

    /// Changes something, as the page does.
    pub async fn change(&mut self, method: &str, path: &str, body: Option<Value>) -> Response {
        let csrf = self.browser.who().await["csrf"].as_str().unwrap_or("none").to_owned();
        let headers = [("origin", URL), ("x-spillway-admin", "1"), ("x-spillway-csrf", csrf.as_str())];
        self.send(method, path, &headers, body).await
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Response {
        let body = body.map_or_else(String::new, |body| body.to_string());
        let mut request = self.browser.request(method, path, headers);
        if !body.is_empty() {
            let length = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
            request = request.replace("content-length: 0\r\n", &length) + &body;
        }
        client::ask(self.browser.admin, request).await.unwrap()
    }

    pub async fn make(&mut self, body: Value) -> Response {
        self.change("POST", "/api/me/keys", Some(body)).await
    }

    /// Makes a key for a consumer: its id and the key.
    pub async fn key(&mut self, consumer: &str) -> (String, String) {
        let made = self.make(json!({ "consumer": consumer, "label": "test" })).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }
}
