//! An issuer's public keys: found by discovery, fetched again every hour and when a token names an unknown key. If a
//! fetch fails, the known keys stay in use.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Deserialize;
use serde_json::Value;
use spillway_plugins::auth::jwt::{JwksError, KeySet};
use tracing::{info, warn};

use crate::causes::causes;
use crate::clock::Clock;
use crate::config::IssuerRules;
use crate::http_client;
use crate::renewal::Renewal;
use crate::safe_url::is_safe;
use crate::telemetry::metrics::IssuerMetrics;

/// How often keys are fetched in any case.
const REFRESH: Duration = Duration::from_secs(3600);
/// The first pause after a failure, the longest one while there are no keys (no token is accepted), and the longest one
/// while there are.
const PAUSE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(60)];
/// Least time between two fetches because of an unknown key.
const FLOOR: Duration = Duration::from_secs(300);
/// Longest answer that is read.
const LONGEST: usize = 1 << 20;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The issuer can't be reached, or refuses.
    #[error("{}", causes(.0))]
    Http(reqwest::Error),
    /// Its metadata can't be parsed.
    #[error("its metadata can't be read: {0}")]
    Metadata(serde_json::Error),
    /// Its metadata names another issuer.
    #[error("its metadata names the issuer '{found}'")]
    Issuer {
        /// The issuer in the metadata.
        found: String,
    },
    /// The keys' URL is not safe.
    #[error("the URL of its keys doesn't begin with https://")]
    Insecure,
    /// Its answer is too long.
    #[error("its answer is too long")]
    TooLong,
    /// Its keys can't be used.
    #[error("its keys can't be used: {0}")]
    Keys(#[from] JwksError),
}

impl From<reqwest::Error> for IssuerError {
    fn from(error: reqwest::Error) -> Self {
        IssuerError::Http(error)
    }
}

/// The issuer's metadata (OpenID Connect Discovery 1.0, 3; RFC 8414, 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    // Those below are for sign-in only. Odd values of them must not keep callers' tokens from being checked.
    #[serde(default)]
    authorization_endpoint: Value,
    #[serde(default)]
    token_endpoint: Value,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Value,
    #[serde(default)]
    authorization_response_iss_parameter_supported: Value,
}

/// Where persons sign in, and where a code is exchanged for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The address of the authorisation endpoint.
    pub authorization: String,
    /// The address of the token endpoint.
    pub token: String,
    /// Whether the token endpoint takes a client's secret in the body; otherwise in the `Authorization` header.
    pub secret_in_body: bool,
    /// Whether each answer of the authorisation endpoint names the issuer (RFC 9207).
    pub names_issuer: bool,
}

impl Metadata {
    /// `None` if there is none, or an address isn't safe.
    fn endpoints(&self, clear: bool) -> Option<Endpoints> {
        let safe = |url: &Value| url.as_str().filter(|url| is_safe(url, clear) && !url.contains('#')).map(str::to_owned);
        let methods = self.token_endpoint_auth_methods_supported.as_array().map(Vec::as_slice).unwrap_or_default();
        Some(Endpoints {
            authorization: safe(&self.authorization_endpoint)?,
            token: safe(&self.token_endpoint)?,
            secret_in_body: methods.iter().any(|method| method == "client_secret_post"),
            // What is neither yes nor no is taken as yes, which is stricter.
            names_issuer: !matches!(self.authorization_response_iss_parameter_supported, Value::Null | Value::Bool(false)),
        })
    }
}

/// The known keys.
#[derive(Debug, Default)]
struct Known {
    set: Arc<KeySet>,
    /// The set as text, to find out whether another one is equal.
    text: Vec<u8>,
    number: u64,
}

/// An issuer and its public keys.
#[derive(Debug)]
pub struct Issuer {
    /// Its rules.
    pub config: IssuerRules,
    keys: ArcSwap<Known>,
    endpoints: ArcSwapOption<Endpoints>,
    renewal: Renewal,
    metrics: IssuerMetrics,
}

impl Issuer {
    /// Without keys, unless `before` is the same issuer with other rules; [`Issuer::keep_fresh`] fetches them.
    pub fn new(config: IssuerRules, metrics: IssuerMetrics, before: Option<&Issuer>) -> Self {
        let same = before.filter(|before| (&before.config.discovery, &before.config.name) == (&config.discovery, &config.name));
        let keys = same.map(|before| before.keys.load_full()).unwrap_or_default();
        let endpoints = ArcSwapOption::new(same.and_then(|before| before.endpoints.load_full()));
        Issuer { config, keys: ArcSwap::new(keys), endpoints, renewal: Renewal::new(FLOOR), metrics }
    }

    /// Its keys, and a number that changes when they do.
    pub fn keys(&self) -> (Arc<KeySet>, u64) {
        let keys = self.keys.load();
        (Arc::clone(&keys.set), keys.number)
    }

    /// Where persons sign in; `None` if its metadata isn't known yet, or doesn't have that.
    pub fn endpoints(&self) -> Option<Arc<Endpoints>> {
        self.endpoints.load_full()
    }

    /// Whether there are any keys.
    pub fn is_ready(&self) -> bool {
        !self.keys.load().set.is_empty()
    }

    /// The number of fetches so far.
    pub fn number(&self) -> u64 {
        self.renewal.number()
    }

    /// A token names a key that was unknown after fetch number `seen`: fetches the keys, unless that was done a short
    /// time ago, and waits for them, at most `limit`. `true` if they were fetched.
    pub async fn renew(&self, seen: u64, clock: &Clock, limit: Duration) -> bool {
        self.renewal.request(seen, clock, limit).await
    }

    /// Fetches metadata and keys once, and returns how many keys there are.
    ///
    /// # Errors
    /// [`IssuerError`]
    pub async fn fetch_once(&self, now: i64) -> Result<usize, IssuerError> {
        let (keys, text) = self.fetch().await?;
        let count = keys.len();
        self.store(keys, text, now);
        Ok(count)
    }

    /// Fetches the keys in the background, for ever.
    pub async fn keep_fresh(self: Arc<Self>, clock: Clock) {
        let mut pause = PAUSE[0];
        loop {
            let wait = match self.fetch().await {
                Ok((keys, text)) => {
                    self.store(keys, text, clock.wall().timestamp());
                    pause = PAUSE[0];
                    REFRESH
                }
                Err(error) => {
                    self.metrics.failed();
                    if pause == PAUSE[0] {
                        warn!(issuer = %self.config.name, %error, known = self.keys.load().set.len(), "the keys could not be fetched; the known ones stay in use; trying again");
                    }
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE[1 + usize::from(self.is_ready())]);
                    wait
                }
            };
            tokio::select! {
                () = clock.sleep(wait) => {}
                () = self.renewal.wanted() => {}
            }
        }
    }

    /// Stores a key set, with the text that it was parsed from, at `now` (seconds since 1970).
    pub fn store(&self, keys: KeySet, text: Vec<u8>, now: i64) {
        let known = self.keys.load();
        // If the keys are the same, tokens that were checked with them stay valid.
        if known.text != text {
            info!(issuer = %self.config.name, keys = keys.len(), "keys fetched");
            self.keys.store(Arc::new(Known { set: Arc::new(keys), text, number: known.number + 1 }));
        }
        self.metrics.fetched(now);
        self.renewal.done();
    }

    async fn fetch(&self) -> Result<(KeySet, Vec<u8>), IssuerError> {
        // As for the issuer itself: plain HTTP only on this machine.
        let clear = self.config.discovery.starts_with("http://");
        let client = if clear { http_client::local()? } else { http_client::internet()? };
        let metadata: Metadata = serde_json::from_slice(&get(&client, &self.config.discovery).await?).map_err(IssuerError::Metadata)?;
        let expected = |issuer: &String| *issuer == metadata.issuer;
        if self.config.name != metadata.issuer && !self.config.rules.issuers.iter().any(expected) {
            return Err(IssuerError::Issuer { found: metadata.issuer });
        }
        if !is_safe(&metadata.jwks_uri, clear) {
            return Err(IssuerError::Insecure);
        }
        let text = get(&client, &metadata.jwks_uri).await?;
        let keys = KeySet::parse(&text)?;
        self.endpoints.store(metadata.endpoints(clear).map(Arc::new));
        Ok((keys, text))
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, IssuerError> {
    let mut answer = client.get(url).send().await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        text.extend_from_slice(&piece);
        if text.len() > LONGEST {
            return Err(IssuerError::TooLong);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoints(change: Value, clear: bool) -> Option<Endpoints> {
        let mut metadata = json!({
            "issuer": "https://id.example", "jwks_uri": "https://id.example/keys",
            "authorization_endpoint": "https://id.example/authorize?p=1", "token_endpoint": "https://other.example/token",
        });
        change.as_object().unwrap().iter().for_each(|(name, value)| metadata[name] = value.clone());
        serde_json::from_value::<Metadata>(metadata).unwrap().endpoints(clear)
    }

    #[test]
    fn odd_values_for_sign_in_keep_no_keys_from_being_fetched() {
        let names_issuer =
            |value: Value| endpoints(json!({ "authorization_response_iss_parameter_supported": value }), false).unwrap().names_issuer;
        assert!(names_issuer(json!(true)) && names_issuer(json!("true")) && names_issuer(json!(1)));
        assert!(!names_issuer(json!(false)) && !names_issuer(Value::Null));
        let in_body = |value: Value| endpoints(json!({ "token_endpoint_auth_methods_supported": value }), false).unwrap().secret_in_body;
        assert!(in_body(json!(["x", "client_secret_post"])) && !in_body(json!("client_secret_post")) && !in_body(json!([1])));
        assert_eq!(endpoints(json!({ "token_endpoint": 7 }), false), None);
    }

    #[test]
    fn endpoints_in_clear_text_are_on_this_machine_only() {
        let token = |url: &str, clear: bool| endpoints(json!({ "token_endpoint": url }), clear).is_some();
        assert!(token("http://127.0.0.1:1/t", true) && token("http://localhost/t", true) && token("http://[::1]:1/t", true));
        for url in ["http://id.example/t", "http://127.0.0.1.example/t", "ftp://127.0.0.1/t", "https://", "/t", "https://id.example/t#x"] {
            assert!(!token(url, true), "{url}");
        }
        assert!(!token("http://127.0.0.1:1/t", false));
    }
}
