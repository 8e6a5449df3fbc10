//! Mocks of token services, and of an issuer whose tokens callers send.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::backend::{Received, Reply, ScriptedBackend};

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a token's times are real ones")]
pub fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// The service that is mocked.
#[derive(Debug, Clone)]
pub enum Flavour {
    /// A VM's instance metadata service.
    Imds,
    /// App Service's or Container Apps' endpoint, with its secret.
    AppService(&'static str),
    /// Azure Arc's agent, with the folder of its challenges.
    Arc(PathBuf),
    /// Entra's token endpoint.
    Entra,
}

#[derive(Debug)]
struct State {
    name: &'static str,
    lifetime: i64,
    refresh_in: Option<i64>,
    issued: usize,
    failing: Vec<Reply>,
    down: Option<Reply>,
}

/// A mock of a token service. Its tokens are named `NAME-1`, `NAME-2` and so on.
pub struct TokenService {
    /// The server behind it.
    pub server: ScriptedBackend,
    state: Arc<Mutex<State>>,
}

impl TokenService {
    /// Starts one whose tokens are valid for an hour.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(flavour: Flavour, name: &'static str) -> Self {
        let state = State { name, lifetime: 3600, refresh_in: None, issued: 0, failing: Vec::new(), down: None };
        let state = Arc::new(Mutex::new(state));
        let server = {
            let state = Arc::clone(&state);
            ScriptedBackend::start(move |request| answer(&flavour, &mut state.lock(), request)).await
        };
        TokenService { server, state }
    }

    /// Sets how long its next tokens are valid, in seconds, and when they should be renewed.
    pub fn lifetime(&self, seconds: i64, refresh_in: Option<i64>) {
        let mut state = self.state.lock();
        (state.lifetime, state.refresh_in) = (seconds, refresh_in);
    }

    /// Sends these answers, once each, before it returns tokens again.
    pub fn fail_first(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().failing = replies.into_iter().collect();
    }

    /// Sends this answer until it is called with `None`.
    pub fn down(&self, reply: Option<Reply>) {
        self.state.lock().down = reply;
    }

    /// The number of tokens so far.
    pub fn issued(&self) -> usize {
        self.state.lock().issued
    }

    /// The header with its last token.
    pub fn current(&self) -> String {
        let state = self.state.lock();
        format!("Bearer {}-{}", state.name, state.issued)
    }
}

fn answer(flavour: &Flavour, state: &mut State, request: &Received) -> Reply {
    if let Some(reply) = &state.down {
        return reply.clone();
    }
    if !state.failing.is_empty() {
        return state.failing.remove(0);
    }
    if let Err(reply) = check(flavour, request) {
        return *reply;
    }
    state.issued += 1;
    let token = format!("{}-{}", state.name, state.issued);
    let expires = (seconds_now() + state.lifetime).to_string();
    let resource = "https://cognitiveservices.azure.com";
    let mut body = match flavour {
        Flavour::Imds => json!({
            "access_token": token, "expires_in": state.lifetime.to_string(), "expires_on": expires, "not_before": "0",
            "resource": resource, "token_type": "Bearer", "refresh_token": "", "client_id": "c",
        }),
        Flavour::AppService(_) => {
            json!({ "access_token": token, "expires_on": expires, "resource": resource, "token_type": "Bearer", "client_id": "c" })
        }
        Flavour::Arc(_) => {
            json!({ "access_token": token, "expires_in": state.lifetime.to_string(), "expires_on": expires, "token_type": "Bearer" })
        }
        Flavour::Entra => {
            json!({ "access_token": token, "expires_in": state.lifetime, "ext_expires_in": state.lifetime, "token_type": "Bearer" })
        }
    };
    if let Some(seconds) = state.refresh_in {
        body["refresh_in"] = seconds.into();
    }
    Reply::json(200, body.to_string())
}

fn check(flavour: &Flavour, request: &Received) -> Result<(), Box<Reply>> {
    let wrong = |what: &str| Box::new(Reply::json(400, json!({ "error": "invalid_request", "error_description": what }).to_string()));
    let needs = |holds: bool, what: &str| if holds { Ok(()) } else { Err(wrong(what)) };
    let (path, query) = request.path().split_once('?').unwrap_or((request.path(), ""));
    let resource = "resource=https%3A%2F%2Fcognitiveservices.azure.com";
    match flavour {
        Flavour::Imds => {
            needs(path == "/metadata/identity/oauth2/token", "path")?;
            needs(request.header("metadata") == Some("true"), "Metadata header")?;
            needs(request.header("x-forwarded-for").is_none(), "forwarded")?;
            needs(query.contains("api-version=") && query.contains(resource), "query")
        }
        Flavour::AppService(secret) => {
            needs(request.header("x-identity-header") == Some(secret), "secret")?;
            needs(query.contains("api-version=2019-08-01") && query.contains(resource), "query")
        }
        Flavour::Arc(folder) => {
            needs(request.header("metadata") == Some("true") && query.contains(resource), "request")?;
            let path = folder.join("challenge.key");
            let secret = "arc-challenge-secret";
            if request.header("authorization") == Some(&format!("Basic {secret}")) {
                return Ok(());
            }
            std::fs::write(&path, format!("{secret}\n")).map_err(|error| wrong(&error.to_string()))?;
            Err(Box::new(Reply::json(401, "{}").header("www-authenticate", format!("Basic realm={}", path.display()))))
        }
        Flavour::Entra => {
            needs(request.head.line[0] == "POST" && path.ends_with("/oauth2/v2.0/token"), "path")?;
            let form = form(request);
            let has = |name: &str, value: &str| form.iter().any(|(n, v)| n == name && (value.is_empty() || v == value));
            needs(has("grant_type", "client_credentials") && has("client_id", ""), "grant")?;
            needs(has("scope", "https://cognitiveservices.azure.com/.default"), "scope")?;
            let assertion =
                has("client_assertion", "") && has("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            needs(has("client_secret", "") || assertion, "proof")
        }
    }
}

/// The fields of a form that was posted.
pub fn form(request: &Received) -> Vec<(String, String)> {
    pairs(&String::from_utf8_lossy(&request.body))
}

/// The fields of a query or a form.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&String::from_utf8_lossy(&hex), 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A mock of an OIDC issuer: metadata and keys.
pub struct FakeIssuer {
    /// The server behind it.
    pub server: ScriptedBackend,
    keys: Arc<Mutex<Vec<Value>>>,
    down: Arc<Mutex<Option<Reply>>>,
}

impl FakeIssuer {
    /// Starts one with these public keys.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(keys: Vec<Value>) -> Self {
        let keys = Arc::new(Mutex::new(keys));
        let down = Arc::new(Mutex::new(None));
        let shared = (Arc::clone(&keys), Arc::clone(&down));
        let server = ScriptedBackend::start(move |request| {
            if let Some(reply) = shared.1.lock().clone() {
                return reply;
            }
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            match request.path() {
                "/.well-known/openid-configuration" => {
                    Reply::json(200, json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string())
                }
                "/keys" => Reply::json(200, json!({ "keys": *shared.0.lock() }).to_string()),
                _ => Reply::json(404, "{}"),
            }
        })
        .await;
        FakeIssuer { server, keys, down }
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: Vec<Value>) {
        *self.keys.lock() = keys;
    }

    /// Sends this answer until it is called with `None`.
    pub fn down(&self, reply: Option<Reply>) {
        *self.down.lock() = reply;
    }

    /// The number of times its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.server.received().iter().filter(|request| request.path() == "/keys").count()
    }

    /// Claims of a token that is valid for an hour, of the application `azp`.
    pub fn claims(&self, azp: &str) -> Value {
        json!({ "iss": self.server.url(), "aud": "api://spillway", "azp": azp, "nbf": seconds_now() - 10, "exp": seconds_now() + 3600 })
    }
}
