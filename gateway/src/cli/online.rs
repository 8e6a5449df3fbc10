//! `spillway check --online`: acquires every backend's token, sends a request to every backend, and prints what is
//! wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, Method, header};
use serde_json::Value;
use spillway_plugins::retry::Credentials;

use crate::backend::auth::{Authoriser, Fetched, Identities, build};
use crate::backend::url;
use crate::causes::causes;
use crate::clock::Clock;
use crate::config::{BackendConfig, Config, Endpoint, SignInRules};
use crate::http_client;
use crate::http1::fields::HeadFields as _;
use crate::http1::request_head::{RequestHead, Unwritable};
use crate::provider::{Provider, Refused, Signing};
use crate::sign_in::SignIn;
use crate::telemetry::metrics::Metrics;

/// Time for one backend's answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The answer of each identity's token service, by identity.
type Tokens = BTreeMap<String, Result<Fetched, String>>;

/// Checks every backend; prints a line for each. `true` if all of them work.
pub(super) fn check(config: &Config) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    http_client::install_crypto();
    runtime.block_on(async {
        let (clock, mut identities, mut tokens, mut well) = (Clock::new(), Identities::default(), Tokens::new(), true);
        for backend in &config.backends {
            let Some(endpoint) = &backend.endpoint else { continue };
            let auth = build(backend, &mut identities, &metrics);
            let said = judged(backend, endpoint, auth.as_ref(), &mut tokens, &clock).await;
            well &= said.is_ok();
            println!("{}: {}", backend.name, said.unwrap_or_else(|said| said));
        }
        if let Some(rules) = &config.server.sign_in {
            let said = sign_in(rules, &metrics, &clock).await;
            well &= said.is_ok();
            println!("server.sign_in: {}", said.unwrap_or_else(|said| said));
        }
        Ok(well)
    })
}

/// Fetches the metadata and the keys of the issuer with which persons sign in. Whether it knows this application shows
/// only when somebody signs in.
async fn sign_in(rules: &SignInRules, metrics: &Metrics, clock: &Clock) -> Result<String, String> {
    let sign_in = SignIn::new(rules.clone(), metrics.sign_in.issuer(), None);
    let keys = sign_in.issuer.fetch_once(clock.wall().timestamp()).await.map_err(|error| format!("{}: {error}", rules.issuer.discovery))?;
    match sign_in.issuer.endpoints() {
        Some(_) => Ok(format!("ok, keys of the issuer: {keys}; register the redirect URI {}", SignInRules::redirect_uri(&rules.url))),
        None => Err(format!("{}: its metadata has no safe authorization_endpoint and token_endpoint", rules.issuer.discovery)),
    }
}

/// Asks a backend for its models, and says what that shows.
async fn judged(
    backend: &BackendConfig,
    endpoint: &Endpoint,
    auth: &dyn Authoriser,
    tokens: &mut Tokens,
    clock: &Clock,
) -> Result<String, String> {
    let mut request = request(backend, endpoint).map_err(|error| error.to_string())?;
    let who = credential(auth, &mut request, tokens, clock).await?;
    let (status, body) = ask(backend, endpoint, &request).await?;
    judge(status, &body, &who, auth, backend.kind.provider())
}

/// The request for a backend's models.
fn request(backend: &BackendConfig, endpoint: &Endpoint) -> Result<RequestHead, Unwritable> {
    let path = url::object_path(&backend.kind, endpoint, "models", None);
    let mut request = RequestHead::new(Method::GET, path.as_bytes())?;
    request.require(&header::HOST, endpoint.authority.as_bytes())?;
    for (name, value) in backend.kind.provider().fields_of_list() {
        request.require(&HeaderName::from_static(name), value.as_bytes())?;
    }
    Ok(request)
}

/// Proves in the request who we are, and says who that is, in words.
async fn credential(auth: &dyn Authoriser, request: &mut RequestHead, tokens: &mut Tokens, clock: &Clock) -> Result<String, String> {
    let Some(source) = auth.token() else {
        let signing = Signing::without_body(clock.wall());
        auth.authorise(&HeaderMap::new(), request, clock.now(), &signing).map_err(|error| error.to_string())?;
        return Ok(String::new());
    };
    let identity = source.identifier();
    if !tokens.contains_key(&identity) {
        tokens.insert(identity.clone(), source.fetch(clock).await.map_err(|error| error.to_string()));
    }
    let name = source.chosen().map_or_else(|| source.name(), |chosen| format!("auto, which uses {chosen}"));
    match &tokens[&identity] {
        Err(error) => Err(format!("no token for {name}: {error}")),
        Ok(fetched) => {
            let principal = principal(fetched.header.as_bytes()).map_or(String::new(), |principal| format!(": {principal}"));
            request.set(&header::AUTHORIZATION, fetched.header.as_bytes());
            Ok(format!(" as {name}{principal}"))
        }
    }
}

/// Sends the request to a backend.
async fn ask(backend: &BackendConfig, endpoint: &Endpoint, request: &RequestHead) -> Result<(u16, String), String> {
    let mut client = reqwest::Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none()).no_proxy();
    for certificate in &backend.ca {
        let certificate = reqwest::Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        client = client.add_root_certificate(certificate);
    }
    if endpoint.server_name != endpoint.host {
        let address = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.ok().and_then(|mut all| all.next());
        let address = address.ok_or_else(|| format!("{} has no address", endpoint.host))?;
        client = client.resolve(&endpoint.server_name, address);
    }
    let client = client.build().map_err(|error| error.to_string())?;
    let (scheme, path) = (if endpoint.tls { "https" } else { "http" }, String::from_utf8_lossy(request.target()));
    let url = format!("{scheme}://{}{path}", endpoint.authority);
    // The client writes the host itself, from the URL.
    let mut headers = request.to_map();
    headers.remove(header::HOST);
    let answer = client.get(&url).headers(headers).send().await;
    let answer = answer.map_err(|error| format!("can't be reached: {}", causes(&error.without_url())))?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.unwrap_or_default()))
}

/// What a backend's answer means, as text.
fn judge(status: u16, body: &str, who: &str, auth: &dyn Authoriser, provider: &dyn Provider) -> Result<String, String> {
    match status {
        200..=299 => Ok(format!("ok{who}")),
        // Not every backend lists its models. This one was reached, and it accepted the credential.
        404 | 405 => Ok(format!("ok{who} (it doesn't list its models: {status})")),
        429 => Ok(format!("ok{who} (at its rate limit now)")),
        401 | 403 if auth.credentials() == Credentials::Caller => Ok("reached; the caller's own credential will decide".to_owned()),
        401 | 403 => {
            let remedy = provider.remedy(&Refused { status, body, token: auth.token().is_some() });
            Err(format!("refused us{who} ({status}: {}){remedy}", message(body)))
        }
        _ => Err(format!("answered {status}{who}: {}", message(body))),
    }
}

/// The message of an error body, at most 200 characters.
fn message(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let text = value["error"]["message"].as_str().or_else(|| value["message"].as_str()).unwrap_or("no reason given");
    text.chars().take(200).collect()
}

/// The identity that a token names. Not verified: the token is for the backend, not for us.
fn principal(header: &[u8]) -> Option<String> {
    let token = std::str::from_utf8(header).ok()?.strip_prefix("Bearer ")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()?;
    let text = |name: &str| claims[name].as_str();
    Some(format!("application {} (object {})", text("appid").or_else(|| text("azp"))?, text("oid").unwrap_or("?")))
}
