//! `spillway check --online`: acquires every backend's token, sends a request to every backend, and prints what is
//! wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use pingora::http::RequestHeader;
use serde_json::Value;
use spillway_plugins::retry::Credentials;

use crate::backend::auth::{Authoriser, Fetched, Identities, build, causes};
use crate::clock::Clock;
use crate::config::{Backend, BackendKind, Config, Endpoint};
use crate::outbound;
use crate::telemetry::metrics::Metrics;

/// Time for one backend's answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The answer of each identity's token service, by identity.
type Tokens = BTreeMap<String, Result<Fetched, String>>;

/// Checks every backend; prints a line for each. `true` if all of them work.
pub(super) fn check(config: &Config) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    outbound::install_crypto();
    runtime.block_on(async {
        let (clock, mut identities, mut tokens, mut well) = (Clock::new(), Identities::default(), Tokens::new(), true);
        for backend in &config.backends {
            let Some(endpoint) = &backend.endpoint else { continue };
            let auth = build(backend, &mut identities, &metrics);
            let said = match credential(auth.as_ref(), &mut tokens, &clock).await {
                Ok((headers, who)) => match ask(backend, endpoint, headers).await {
                    Ok((status, body)) => judge(status, &body, &who, auth.as_ref(), &backend.kind),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            well &= said.is_ok();
            println!("{}: {}", backend.name, said.unwrap_or_else(|said| said));
        }
        Ok(well)
    })
}

/// The headers with our credential, and a text that names the identity.
async fn credential(auth: &dyn Authoriser, tokens: &mut Tokens, clock: &Clock) -> Result<(HeaderMap, String), String> {
    let mut request = RequestHeader::build("GET", b"/", None).map_err(|error| error.to_string())?;
    let Some(source) = auth.token() else {
        auth.authorise(&HeaderMap::new(), &mut request, clock.now()).map_err(|error| error.to_string())?;
        return Ok((request.headers.clone(), String::new()));
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
            let headers = [(header::AUTHORIZATION, fetched.header.clone())].into_iter().collect();
            Ok((headers, format!(" as {name}{principal}")))
        }
    }
}

/// Asks a backend for its models.
async fn ask(backend: &Backend, endpoint: &Endpoint, mut headers: HeaderMap) -> Result<(u16, String), String> {
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
    if backend.kind == BackendKind::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    let url = format!("{}://{}{}", if endpoint.tls { "https" } else { "http" }, endpoint.authority, models(backend, endpoint));
    let answer = client.get(&url).headers(headers).send().await;
    let answer = answer.map_err(|error| format!("can't be reached: {}", causes(&error.without_url())))?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.unwrap_or_default()))
}

/// What a backend's answer means, as text.
fn judge(status: u16, body: &str, who: &str, auth: &dyn Authoriser, kind: &BackendKind) -> Result<String, String> {
    match status {
        200..=299 => Ok(format!("ok{who}")),
        // Not every backend lists its models. This one was reached, and it accepted the credential.
        404 | 405 => Ok(format!("ok{who} (it doesn't list its models: {status})")),
        429 => Ok(format!("ok{who} (at its rate limit now)")),
        401 | 403 if auth.credentials() == Credentials::Caller => Ok("reached; the caller's own credential will decide".to_owned()),
        401 | 403 => Err(refused(status, body, who, auth.token().is_some(), kind)),
        _ => Err(format!("answered {status}{who}: {}", message(body))),
    }
}

/// The path that lists a backend's models.
fn models(backend: &Backend, endpoint: &Endpoint) -> String {
    let path = match &backend.kind {
        BackendKind::AzureV1 => "/openai/v1/models".to_owned(),
        BackendKind::AzureDated { api_version } => format!("/openai/models?api-version={api_version}"),
        BackendKind::OpenAi | BackendKind::Anthropic | BackendKind::Mock { .. } => "/v1/models".to_owned(),
    };
    format!("{}{path}", endpoint.prefix)
}

fn refused(status: u16, body: &str, who: &str, token: bool, kind: &BackendKind) -> String {
    let azure = matches!(kind, BackendKind::AzureV1 | BackendKind::AzureDated { .. });
    let remedy = match (token, azure, body.contains("PermissionDenied"), status) {
        (true, true, true, _) => {
            "; give this identity the role 'Cognitive Services OpenAI User' on the resource (a new assignment takes five minutes or more)"
        }
        (true, true, false, 401) => {
            "; the resource refuses the token: is 'scope' right, does the resource have a custom domain, and is the identity in its tenant?"
        }
        (_, true, false, 403) => "; do the resource's network rules allow this machine?",
        (false, _, _, 401) => "; the key is wrong, or of another resource",
        _ => "",
    };
    format!("refused us{who} ({status}: {}){remedy}", message(body))
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
