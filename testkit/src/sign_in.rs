//! An OIDC issuer with which persons sign in: metadata, keys, authorisation endpoint and token endpoint. It checks what a
//! real one checks (client, redirect URI, PKCE, codes that work once), and can be told to be wrong.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::backend::{Received, Reply, ScriptedBackend};
use crate::identity::{form, pairs, seconds_now};
use crate::tokens::{SigningKey, base64url};

/// The application that is registered there.
pub const CLIENT: &str = "gateway-app";
/// Its secret.
pub const SECRET: &str = "CANARY-client&secret";
/// Part of every code that it issues.
pub const CODE: &str = "CANARY-code";

/// Makes a token from claims.
type Sign = dyn Fn(&SigningKey, &Value) -> String + Send + Sync;

struct Issued {
    nonce: String,
    challenge: String,
    redirect_uri: String,
    used: bool,
}

struct State {
    signer: SigningKey,
    sign: Box<Sign>,
    published: Vec<Value>,
    /// Claims of the person who signs in; null removes one.
    claims: Value,
    codes: HashMap<String, Issued>,
    names_issuer: bool,
    refusal: Option<String>,
    token_reply: Option<Reply>,
    methods: Vec<&'static str>,
    confidential: bool,
    /// Whether codes work again and again, as they must not.
    forgetful: bool,
}

/// The issuer.
pub struct SignInIssuer {
    /// The server behind it.
    pub server: ScriptedBackend,
    state: Arc<Mutex<State>>,
}

impl SignInIssuer {
    /// Starts one at which Ada signs in, with the app role `Gateway.Operator`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        let signer = SigningKey::rsa("a");
        let state = Arc::new(Mutex::new(State {
            published: vec![signer.jwk("a")],
            signer,
            sign: Box::new(|signer, claims| signer.token("a", claims)),
            claims: json!({ "sub": "ada-subject", "name": "Ada Lovelace", "roles": ["Gateway.Operator"] }),
            codes: HashMap::new(),
            names_issuer: false,
            refusal: None,
            token_reply: None,
            methods: vec!["client_secret_post", "client_secret_basic"],
            confidential: true,
            forgetful: false,
        }));
        let shared = Arc::clone(&state);
        let server = ScriptedBackend::start(move |request| answer(&mut shared.lock(), request)).await;
        SignInIssuer { server, state }
    }

    /// Sets claims of the person who signs in next; null removes one.
    pub fn claims(&self, claims: Value) {
        let mut state = self.state.lock();
        for (name, value) in claims.as_object().into_iter().flatten() {
            state.claims[name.as_str()] = value.clone();
        }
    }

    /// Makes its tokens in another way.
    pub fn sign_with(&self, sign: impl Fn(&SigningKey, &Value) -> String + Send + Sync + 'static) {
        self.state.lock().sign = Box::new(sign);
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: Vec<Value>) {
        self.state.lock().published = keys;
    }

    /// Its metadata says that it names itself in its answers, and it does so.
    pub fn names_itself(&self) {
        self.state.lock().names_issuer = true;
    }

    /// Refuses at the authorisation endpoint with these parameters, until it is called with `None`.
    pub fn refuse(&self, parameters: Option<&str>) {
        self.state.lock().refusal = parameters.map(str::to_owned);
    }

    /// The token endpoint sends this, until it is called with `None`.
    pub fn token_endpoint(&self, reply: Option<Reply>) {
        self.state.lock().token_reply = reply;
    }

    /// Its metadata lists these ways in which a client proves who it is; others are refused.
    pub fn methods(&self, methods: &[&'static str]) {
        self.state.lock().methods = methods.to_vec();
    }

    /// The application is a public client: it has no secret.
    pub fn public_client(&self) {
        self.state.lock().confidential = false;
    }

    /// Its codes work again and again.
    pub fn forgets_codes(&self) {
        self.state.lock().forgetful = true;
    }

    /// A logout token (OpenID Connect Back-Channel Logout 1.0, 2.4) with these claims beside the usual ones; null removes one. It
    /// names nobody by itself.
    pub fn logout_token(&self, claims: &Value) -> String {
        let now = seconds_now();
        let mut all = json!({
            "iss": self.server.url(), "aud": CLIENT, "iat": now, "exp": now + 120, "jti": format!("{now}-{claims}"),
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name.as_str()] = value.clone();
        }
        if let Some(all) = all.as_object_mut() {
            all.retain(|_, value| !value.is_null());
        }
        let state = self.state.lock();
        (state.sign)(&state.signer, &all)
    }

    /// The number of requests for tokens.
    pub fn exchanges(&self) -> usize {
        self.server.received().iter().filter(|request| request.path() == "/token").count()
    }
}

fn answer(state: &mut State, request: &Received) -> Reply {
    let url = format!("http://{}", request.header("host").unwrap_or_default());
    let (path, query) = request.path().split_once('?').unwrap_or((request.path(), ""));
    match path {
        "/.well-known/openid-configuration" => {
            let metadata = json!({
                "issuer": url, "jwks_uri": format!("{url}/keys"), "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/token"), "token_endpoint_auth_methods_supported": state.methods,
                "authorization_response_iss_parameter_supported": state.names_issuer,
            });
            Reply::json(200, metadata.to_string())
        }
        "/keys" => Reply::json(200, json!({ "keys": state.published }).to_string()),
        "/authorize" => authorize(state, &url, &pairs(query)),
        "/token" => state.token_reply.clone().unwrap_or_else(|| token(state, &url, request)),
        _ => Reply::json(404, "{}"),
    }
}

/// Asks nobody: the person signs in at once.
fn authorize(state: &mut State, url: &str, query: &[(String, String)]) -> Reply {
    let field = |name: &str| query.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value);
    let valid = field("client_id") == CLIENT
        && field("response_type") == "code"
        && field("code_challenge_method") == "S256"
        && field("scope").split(' ').any(|scope| scope == "openid")
        && [field("state"), field("nonce"), field("code_challenge")].iter().all(|text| text.len() == 43)
        && field("redirect_uri").ends_with("/sign-in/callback");
    if !valid {
        return Reply::json(400, json!({ "error": "invalid_request" }).to_string());
    }
    let back = |parameters: &str| {
        let issuer = if state.names_issuer { format!("&iss={url}") } else { String::new() };
        Reply::json(302, "").header("location", format!("{}?{parameters}&state={}{issuer}", field("redirect_uri"), field("state")))
    };
    if let Some(refusal) = &state.refusal {
        return back(refusal);
    }
    let code = format!("{CODE}-{}", state.codes.len() + 1);
    let reply = back(&format!("code={code}"));
    let (nonce, challenge, redirect_uri) = (field("nonce").into(), field("code_challenge").into(), field("redirect_uri").into());
    state.codes.insert(code, Issued { nonce, challenge, redirect_uri, used: false });
    reply
}

fn token(state: &mut State, url: &str, request: &Received) -> Reply {
    let form = form(request);
    let field = |name: &str| form.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value);
    let error = |error: &str, number: &str| {
        Reply::json(400, json!({ "error": error, "error_description": format!("{number}: no. You sent {}", field("code")) }).to_string())
    };
    // Encoded before Base64 (RFC 6749, 2.3.1).
    let basic = base64(&format!("{CLIENT}:{SECRET}").replace('-', "%2D").replace('&', "%26"));
    let by_header = request.header("authorization") == Some(&format!("Basic {basic}")) && state.methods.contains(&"client_secret_basic");
    let by_body = field("client_secret") == SECRET && state.methods.contains(&"client_secret_post");
    if state.confidential && !(by_header || by_body) {
        return error("invalid_client", "AADSTS7000215");
    }
    let Some(issued) = state.codes.get_mut(field("code")) else { return error("invalid_grant", "AADSTS70008") };
    let challenge = base64url(digest(&SHA256, field("code_verifier").as_bytes()));
    let fits = issued.redirect_uri == field("redirect_uri") && issued.challenge == challenge && field("client_id") == CLIENT;
    if !fits || (issued.used && !state.forgetful) || field("grant_type") != "authorization_code" {
        return error("invalid_grant", "AADSTS54005");
    }
    issued.used = true;
    let now = seconds_now();
    let mut claims = json!({
        "iss": url, "aud": CLIENT, "iat": now, "nbf": now - 10, "exp": now + 3600, "nonce": issued.nonce, "auth_time": now,
    });
    for (name, value) in state.claims.as_object().into_iter().flatten() {
        claims[name.as_str()] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    let token = (state.sign)(&state.signer, &claims);
    let body = json!({
        "id_token": token, "access_token": "CANARY-access-token", "refresh_token": "CANARY-refresh-token", "token_type": "Bearer",
        "expires_in": 3600,
    });
    Reply::json(200, body.to_string())
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}
