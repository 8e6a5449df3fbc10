//! `spillway check --online`: acquires every backend's token and asks every backend, and says in
//! words what is wrong.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pingora::http::RequestHeader;
use serde_json::Value;

use crate::backend::auth::{Identities, build};
use crate::clock::Clock;
use crate::config::{Backend, BackendKind, Config, Endpoint};
use crate::outbound;
use crate::telemetry::metrics::Metrics;

/// Time for one backend's answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Checks every backend; prints a line for each. `true` if all are well.
pub(super) fn check(config: &Config) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (clock, mut identities, mut well) = (Clock::new(), Identities::default(), true);
        for backend in &config.backends {
            let Some(endpoint) = &backend.endpoint else { continue };
            let said = match one(backend, endpoint, &mut identities, &metrics, &clock).await {
                Ok(said) => said,
                Err(said) => {
                    well = false;
                    said
                }
            };
            println!("{}: {said}", backend.name);
        }
        Ok(well)
    })
}

async fn one(
    backend: &Backend,
    endpoint: &Endpoint,
    identities: &mut Identities,
    metrics: &Metrics,
    clock: &Clock,
) -> Result<String, String> {
    let auth = build(backend, identities, metrics);
    let mut who = String::new();
    let mut request = RequestHeader::build("GET", b"/", None).map_err(|error| error.to_string())?;
    if let Some(source) = auth.token() {
        let fetched = source.fetch(clock).await.map_err(|error| format!("no token for {}: {error}", source.name()))?;
        who = principal(fetched.header.as_bytes()).map_or_else(|| format!(" as {}", source.name()), |principal| format!(" as {principal}"));
        request.insert_header("authorization", fetched.header).map_err(|error| error.to_string())?;
    } else {
        auth.authorise(&http::HeaderMap::new(), &mut request, clock.now()).map_err(|error| error.to_string())?;
    }
    let url = format!("{}://{}{}", if endpoint.tls { "https" } else { "http" }, endpoint.authority, models(backend, endpoint));
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
    outbound::install_crypto();
    let client = client.build().map_err(|error| error.to_string())?;
    let answer = client.get(&url).headers(request.headers.clone()).send().await;
    let answer = answer.map_err(|error| format!("can't be reached: {}", causes(&error.without_url())))?;
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap_or_default();
    match status {
        200..=299 => Ok(format!("ok{who}")),
        // Not every backend lists its models; it was reached, and it let us in.
        404 | 405 => Ok(format!("ok{who} (it doesn't list its models: {status})")),
        429 => Ok(format!("ok{who} (at its rate limit just now)")),
        401 | 403 => Err(refused(status, &body, &who, auth.token().is_some(), &backend.kind)),
        _ => Err(format!("answered {status}{who}: {}", message(&body))),
    }
}

/// What lists a backend's models.
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
    let remedy = match (token, azure, body.contains("PermissionDenied") || status == 403) {
        (true, true, true) => {
            "; give this identity the role 'Cognitive Services OpenAI User' on the resource (a new assignment takes five minutes or more)"
        }
        (true, true, false) => {
            "; the resource doesn't take the token: is 'scope' right, does the resource have a custom domain, and is the identity of its tenant?"
        }
        (false, ..) => "; the key is wrong, or of another resource",
        _ => "",
    };
    format!("refused us{who} ({status}: {}){remedy}", message(body))
}

/// An error body's message, at most.
fn message(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let text = value["error"]["message"].as_str().or_else(|| value["message"].as_str()).unwrap_or("no reason given");
    text.chars().take(200).collect()
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Whom a token names: read, not verified, for it was made for somebody else.
fn principal(header: &[u8]) -> Option<String> {
    let token = std::str::from_utf8(header).ok()?.strip_prefix("Bearer ")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()?;
    let text = |name: &str| claims[name].as_str();
    Some(format!("application {} (object {})", text("appid").or_else(|| text("azp"))?, text("oid").unwrap_or("?")))
}
