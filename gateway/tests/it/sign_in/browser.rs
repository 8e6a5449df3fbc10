//! A gateway at which persons sign in, and a browser that does what browsers do with redirects and cookies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use spillway::clock::Clock;
use spillway::config::{Config, Secrets};
use spillway::server::start;
use spillway::virtual_time::VirtualTime;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{self, Connection, Response};
use spillway_testkit::sign_in::{CLIENT, SECRET, SignInIssuer};

use crate::support::*;

/// The external address of the admin listener.
pub const URL: &str = "https://gateway.example.com";
pub const TOKEN: &str = "CANARY-admin-token";

/// The config of sign-in with an issuer.
pub fn rules(issuer: &SignInIssuer) -> String {
    format!(
        "[server.sign_in]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret = \"{SECRET}\"\nurl = \"{URL}\"\n\
         roles = {{ administrator = [\"Gateway.Admin\"], operator = [\"Gateway.Operator\"], viewer = [\"viewers\"], member = [\"members\"] }}\n",
        issuer.server.url()
    )
}

/// A gateway's config with these rules, and an admin token.
pub fn text(backend: &ScriptedBackend, rules: &str) -> String {
    config(&[member("a", backend, 1)], "", rules).replace("#server", &format!("admin_token = \"{TOKEN}\""))
}

/// A gateway at which persons sign in.
pub struct Scene {
    pub issuer: SignInIssuer,
    pub gateway: Gateway,
    _backend: ScriptedBackend,
    clock: Clock,
    time: Arc<VirtualTime>,
}

impl Scene {
    pub async fn start() -> Self {
        Scene::with(SignInIssuer::start().await, rules).await
    }

    pub async fn with(issuer: SignInIssuer, rules: impl Fn(&SignInIssuer) -> String) -> Self {
        let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let text = text(&backend, &rules(&issuer));
        let config = Config::parse(&text, std::path::Path::new("test.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}"));
        let (clock, time) = Clock::on_virtual_time();
        let running = start(&config, clock.clone()).await.unwrap();
        let gateway = Gateway { address: running.listen[0], running };
        let scene = Scene { issuer, gateway, _backend: backend, clock, time };
        ready(scene.admin()).await;
        scene
    }

    pub fn admin(&self) -> SocketAddr {
        self.gateway.running.admin
    }

    pub fn browser(&self) -> Browser {
        Browser::at(self.admin())
    }

    /// The time passes.
    pub async fn pass(&self, time: Duration) {
        let (clock, end) = (self.clock.clone(), self.clock.now() + time);
        let waits = tokio::spawn(async move { clock.sleep(time).await });
        while self.clock.now() < end {
            tokio::task::yield_now().await;
            self.time.jump();
        }
        waits.await.unwrap();
    }

    /// The number of sign-ins with this result.
    pub async fn count(&self, result: &str) -> f64 {
        metric_with_token(self.admin(), &format!("spillway_sign_ins_total{{result=\"{result}\"}}")).await
    }
}

/// Waits until the gateway knows the issuer.
pub async fn ready(admin: SocketAddr) {
    eventually("the issuer is known", async || client::get(admin, "/sign-in").await.unwrap().status == 303).await;
}

pub async fn metric_with_token(admin: SocketAddr, name: &str) -> f64 {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    let text = client::ask(admin, request).await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
}

/// A browser with its cookies.
#[derive(Clone)]
pub struct Browser {
    pub admin: SocketAddr,
    pub host: &'static str,
    pub jar: BTreeMap<String, String>,
    /// All `Set-Cookie` lines so far.
    pub lines: Vec<String>,
}

impl Browser {
    pub fn at(admin: SocketAddr) -> Self {
        Browser { admin, host: "gateway.example.com", jar: BTreeMap::new(), lines: Vec::new() }
    }

    /// Sends a request with its cookies and these headers, and keeps the cookies of the answer.
    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let response = client::ask(self.admin, self.request(method, path, headers)).await.unwrap();
        for (_, line) in response.head.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            match line.contains("Max-Age=0") {
                true => drop(self.jar.remove(name)),
                false => drop(self.jar.insert(name.to_owned(), value.to_owned())),
            }
            self.lines.push(line.clone());
        }
        response
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\n", self.host);
        if !self.jar.is_empty() {
            let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request += &format!("cookie: {}\r\n", cookies.join("; "));
        }
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        request + "\r\n"
    }

    pub async fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, &[]).await
    }

    /// Begins: returns where the issuer sends the browser back to, as path and query on the listener.
    pub async fn begin(&mut self) -> String {
        let begun = self.get("/sign-in").await;
        assert_eq!(begun.status, 303, "{}", begun.text());
        at_issuer(begun.header("location").unwrap()).await
    }

    /// Signs in; returns the gateway's last answer.
    pub async fn sign_in(&mut self) -> Response {
        let back = self.begin().await;
        self.get(&back).await
    }

    pub fn session(&self) -> Option<&String> {
        self.jar.get("__Host-spillway")
    }

    /// Who is signed in, and the session's CSRF token.
    pub async fn who(&mut self) -> Value {
        let who = self.get("/api/session").await;
        assert_eq!(who.status, 200, "{}", who.text());
        who.json()
    }

    /// POSTs as the page does.
    pub async fn post(&mut self, path: &str) -> Response {
        let csrf = self.who().await["csrf"].as_str().unwrap_or("none").to_owned();
        self.send("POST", path, &[("origin", URL), ("x-spillway-admin", "1"), ("x-spillway-csrf", &csrf)]).await
    }

    /// Opens the stream of the page.
    pub async fn events(&self) -> (u16, Connection) {
        let mut connection = Connection::open(self.admin).await.unwrap();
        connection.send(self.request("GET", "/api/events", &[])).await.unwrap();
        let (status, _) = connection.answer_head().await.unwrap();
        (status, connection)
    }
}

/// The person signs in at the issuer: path and query of the way back.
pub async fn at_issuer(location: &str) -> String {
    let rest = location.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let back = client::ask(host.parse().unwrap(), request).await.unwrap();
    assert_eq!(back.status, 302, "{} {location}", back.text());
    back.header("location").unwrap().strip_prefix(URL).expect("the redirect URI is below the configured address").to_owned()
}
