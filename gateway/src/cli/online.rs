//! `spillway check --online`: acquires every backend's token, asks every backend for its models and for the deployments that
//! the config names, and prints what is wrong.

mod deployments;

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
use crate::provider::{BackendKind, Provider, Refused, Signing};
use crate::sign_in::SignIn;
use crate::telemetry::metrics::Metrics;
use deployments::Deployment;

/// Time for one backend's answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The answer of each identity's token service, by identity.
type Tokens = BTreeMap<String, Result<Fetched, String>>;

/// Checks every backend; prints what was found, a line for each thing. `true` if all of them work.
pub(super) fn check(config: &Config) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    http_client::install_crypto();
    runtime.block_on(async {
        let (clock, mut identities, mut tokens, mut well) = (Clock::new(), Identities::default(), Tokens::new(), true);
        for (at, backend) in config.backends.iter().enumerate() {
            let Some(endpoint) = &backend.endpoint else { continue };
            let auth = build(backend, &mut identities, &metrics);
            let asker = Asker { backend, endpoint, auth: auth.as_ref(), deployments: deployments::of(config, at) };
            for said in asker.ask_all(&mut tokens, &clock).await {
                well &= said.is_ok();
                outln!("{}: {}", backend.name, said.unwrap_or_else(|said| said));
            }
        }
        if let Some(rules) = &config.server.sign_in {
            let said = sign_in(rules, &metrics, &clock).await;
            well &= said.is_ok();
            outln!("server.sign_in: {}", said.unwrap_or_else(|said| said));
        }
        if config.server.sign_in.is_none() && config.backends.iter().all(|backend| backend.endpoint.is_none()) {
            outln!("nothing was asked: every backend is a mock");
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

/// What is found out about something, or what is wrong with it, in words.
type Said = Result<String, String>;

/// Asks one backend.
struct Asker<'c> {
    backend: &'c BackendConfig,
    endpoint: &'c Endpoint,
    auth: &'c dyn Authoriser,
    deployments: Vec<Deployment<'c>>,
}

impl Asker<'_> {
    /// Asks for the models, and if that is answered, for the deployments.
    async fn ask_all(&self, tokens: &mut Tokens, clock: &Clock) -> Vec<Said> {
        let (said, next) = match self.models(tokens, clock).await {
            Ok((said, next)) => (Ok(said), next),
            Err(said) => (Err(said), Next::Nothing),
        };
        let mut all = vec![said];
        match next {
            Next::Compare(ids) => all.extend(deployments::unlisted(&self.deployments, &ids).map(Ok)),
            Next::Deployments => {
                for deployment in &self.deployments {
                    all.push(self.deployment(deployment, tokens, clock).await);
                }
            }
            Next::Nothing => {}
        }
        all
    }

    /// Asks for the models, and says what that shows, and what there is to find out next.
    async fn models(&self, tokens: &mut Tokens, clock: &Clock) -> Result<(String, Next), String> {
        let path = url::object_path(&self.backend.kind, self.endpoint, "models", None);
        let mut request = self.head(Method::GET, &path).map_err(|error| error.to_string())?;
        let who = credential(self.auth, &mut request, tokens, clock).await?;
        let (status, body) = ask(self.backend, self.endpoint, &request, None).await?;
        let Endpoint { authority, prefix, .. } = self.endpoint;
        if status == 404 && !prefix.is_empty() {
            return Err(format!(
                "answered 404{who}: there is no API at {authority}{path}; 'url' has the path '{prefix}', which may be wrong ({})",
                message(&body)
            ));
        }
        judge(status, &body, &who, self.auth, self.backend.kind.provider()).map(|said| match (status, &self.backend.kind) {
            (200..=299, BackendKind::OpenAi) => (said, Next::Compare(ids(&body))),
            (200..=299 | 404 | 405, BackendKind::AzureOpenAi(_)) => (said, Next::Deployments),
            _ => (said, Next::Nothing),
        })
    }

    /// Finds out whether a deployment is there: with a request that lacks what it should answer, so that it costs nothing.
    async fn deployment(&self, deployment: &Deployment<'_>, tokens: &mut Tokens, clock: &Clock) -> Said {
        let Deployment { name, .. } = deployment;
        let path = url::path(&self.backend.kind, self.endpoint, (deployment.api(), None), name, None);
        let mut request = self.head(Method::POST, &path).map_err(|error| error.to_string())?;
        request.require(&header::CONTENT_TYPE, b"application/json").map_err(|error| error.to_string())?;
        let who = credential(self.auth, &mut request, tokens, clock).await?;
        let body = serde_json::json!({ "model": name }).to_string();
        let (status, body) = ask(self.backend, self.endpoint, &request, Some(body)).await?;
        match status {
            404 => Err(format!(
                "deployment '{name}' is not there (404: {}): {} names it; is the name right, and is it a deployment of this resource?",
                message(&body),
                deployment.key
            )),
            401 | 403 => judge(status, &body, &who, self.auth, self.backend.kind.provider())
                .map(|said| format!("deployment '{name}': {said}"))
                .map_err(|said| format!("deployment '{name}': {said}")),
            429 => Ok(format!("deployment '{name}': at its rate limit now, so it is there")),
            500.. => Ok(format!("deployment '{name}': answered {status} ({}): whether it is there isn't known", message(&body))),
            _ => Ok(format!("deployment '{name}': ok")),
        }
    }

    fn head(&self, method: Method, path: &str) -> Result<RequestHead, Unwritable> {
        let mut request = RequestHead::new(method, path.as_bytes())?;
        request.require(&header::HOST, self.endpoint.authority.as_bytes())?;
        for (name, value) in self.backend.kind.provider().fields_of_list() {
            request.require(&HeaderName::from_static(name), value.as_bytes())?;
        }
        Ok(request)
    }
}

/// What there is to find out after the models.
enum Next {
    /// Whether the deployments are there.
    Deployments,
    /// Whether these models have those that the config names.
    Compare(Vec<String>),
    /// Nothing: it would be answered in the same way, or there are no deployments.
    Nothing,
}

/// The ids in a list of models.
fn ids(body: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let all = value["data"].as_array().into_iter().flatten();
    all.filter_map(|model| model["id"].as_str().map(str::to_owned)).collect()
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
async fn ask(backend: &BackendConfig, endpoint: &Endpoint, request: &RequestHead, body: Option<String>) -> Result<(u16, String), String> {
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
    let asking = client.request(request.method().clone(), &url).headers(headers);
    let answer = body.into_iter().fold(asking, reqwest::RequestBuilder::body).send().await;
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
        401 | 403 if auth.credentials() == Credentials::Caller => {
            Ok("reached; the caller's own credential will decide, also about its deployments, which were not asked".to_owned())
        }
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
