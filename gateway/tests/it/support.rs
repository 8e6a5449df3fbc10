//! Starts gateways for tests.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spillway::clock::Clock;
use spillway::config::{Config, Secrets};
use spillway::server::{Running, start};
use spillway_testkit::backend::ScriptedBackend;
use spillway_testkit::client::{self, Response};

/// A gateway under test.
pub struct Gateway {
    pub running: Running,
    pub address: SocketAddr,
}

/// A `[[backends]]` entry for a scripted backend, a member of priority `priority`.
pub struct Member<'a> {
    pub name: &'a str,
    pub backend: &'a ScriptedBackend,
    pub priority: u32,
    /// Further lines of the backend's table.
    pub extra: &'a str,
}

pub fn member<'a>(name: &'a str, backend: &'a ScriptedBackend, priority: u32) -> Member<'a> {
    Member { name, backend, priority, extra: "" }
}

/// A config with one pool of OpenAI-kind backends that serves the model `m`; `pool` holds further
/// lines of the pool, `rest` everything after it.
pub fn config(members: &[Member<'_>], pool: &str, rest: &str) -> String {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nallow_literal_secrets = true\n#server\n".to_owned();
    for m in members {
        let kind = if m.extra.contains("kind =") { "" } else { "kind = \"openai\"\n" };
        text += &format!("\n[[backends]]\nname = \"{}\"\n{kind}url = \"{}\"\n{}\n", m.name, m.backend.url(), m.extra);
    }
    text += "\n[[pools]]\nname = \"pool\"\nmodels = [\"m\", \"gpt-4o\", \"text-embedding-3-small\"]\nmembers = [\n";
    for m in members {
        text += &format!("  {{ backend = \"{}\", priority = {} }},\n", m.name, m.priority);
    }
    if rest.contains("name = \"sorry\"") {
        text += "  { backend = \"sorry\", priority = 9 },\n";
    }
    text + "]\n" + pool + "\n\n" + rest + "\n\n[log]\naccess = \"off\"\n"
}

impl Gateway {
    pub async fn start(text: &str) -> Self {
        let config = Config::parse(text, Path::new("test.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let running = start(&config, Clock::new()).await.unwrap();
        let address = running.listen[0];
        Gateway { running, address }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        client::ask(self.address, client::post(path, &[], body.to_string().as_bytes())).await.unwrap()
    }

    pub async fn chat(&self) -> Response {
        self.post("/v1/chat/completions", &chat(false)).await
    }

    pub async fn stream(&self) -> Response {
        self.post("/v1/chat/completions", &chat(true)).await
    }

    pub async fn admin(&self, path: &str) -> Response {
        client::get(self.running.admin, path).await.unwrap()
    }

    /// The value of a metric line that starts with `name`, labels included.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// The state of a member as the admin API shows it.
    pub async fn state(&self, backend: &str) -> String {
        let pools = self.admin("/api/pools").await.json();
        let members = pools["pools"][0]["models"][0]["members"].as_array().unwrap().clone();
        members.iter().find(|m| m["backend"] == backend).map(|m| m["state"].as_str().unwrap().to_owned()).unwrap()
    }
}

pub fn chat(stream: bool) -> Value {
    json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "hi" }] })
}

/// A plain chat answer with this text.
pub fn answer(text: &str) -> String {
    json!({ "id": "c", "object": "chat.completion", "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }] }).to_string()
}

/// A chat chunk with this text.
pub fn delta(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
    )
}

pub fn role() -> String {
    format!(
        "data: {}\n\n",
        json!({ "id": "c", "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] })
    )
}

pub fn stop() -> String {
    format!("data: {}\n\n", json!({ "id": "c", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }))
}

pub const DONE: &str = "data: [DONE]\n\n";

/// The events of a whole chat stream with this text.
pub fn whole_stream(text: &str) -> Vec<String> {
    vec![role(), delta(text), stop(), DONE.to_owned()]
}

/// Waits until `true`, for at most five seconds.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A child process that doesn't outlive its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway as a process of its own, on ports that the system chose.
pub struct Process {
    pub child: Killed,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Process {
    /// Starts the program with a config text whose addresses have port 0, and waits until it says
    /// that it is ready, and where.
    pub fn start(text: &str, environment: &[(&str, &Path)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("spillway.toml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
        command.args(["run", "-c"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.envs(environment.iter().copied());
        let mut child = Killed(command.spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(" ready ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
        }
        // Nobody must wait for somebody to read its log.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        let after = |name: &str| {
            let rest = line.split_once(name).unwrap_or_else(|| panic!("{line}")).1;
            rest.split([']', ' ']).next().unwrap().parse().unwrap()
        };
        Process { address: after("listen=["), admin: after("admin="), child, _directory: directory }
    }
}
