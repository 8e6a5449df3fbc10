//! How the Azure SDK's credentials reach their services: our HTTP client, with an eye on what the
//! SDK drops of an answer (`refresh_in`, `Retry-After`).

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::AccessToken;
use azure_core::http::headers::HeaderName;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, RetryOptions, Transport, Url};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::Value;

use super::fetch::{FetchError, Fetched};

/// The address of the instance metadata service, in every VM.
const IMDS: &str = "169.254.169.254";
/// Another address for it, as Azure's SDKs know it.
const IMDS_ELSEWHERE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// What an answer said beside the token.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    refresh_in: Option<Duration>,
    retry_after: Option<Duration>,
}

/// One fetch's way to the token service.
#[derive(Debug)]
pub(super) struct Tap {
    client: reqwest::Client,
    imds: Option<Url>,
    seen: Mutex<Seen>,
}

impl Tap {
    /// Through `client`.
    pub(super) fn new(client: reqwest::Client) -> Arc<Self> {
        let imds = std::env::var(IMDS_ELSEWHERE).ok().and_then(|url| Url::parse(&url).ok());
        Arc::new(Tap { client, imds, seen: Mutex::default() })
    }

    /// Options for a credential that goes this way. The pace of retries is ours, so that one rule
    /// holds for every scheme (the SDK keeps its own for the instance metadata service).
    pub(super) fn options(self: &Arc<Self>, authority: Option<&str>) -> ClientOptions {
        let cloud = authority.map(|host| {
            let mut custom = azure_core::cloud::CustomConfiguration::default();
            custom.authority_host = host.to_owned();
            Arc::new(custom.into())
        });
        let http: Arc<dyn HttpClient> = Arc::clone(self) as _;
        ClientOptions { transport: Some(Transport::new(http)), retry: RetryOptions::none(), cloud, ..ClientOptions::default() }
    }

    /// What a credential brought by this way.
    pub(super) fn outcome(&self, got: azure_core::Result<AccessToken>, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
        let seen = *self.seen.lock();
        let token = got.map_err(|error| FetchError { what: super::fetch::brief(&error.to_string()), retry_after: seen.retry_after })?;
        let seconds = token.expires_on.unix_timestamp().saturating_sub(wall.timestamp());
        Fetched::new(token.token.secret(), u64::try_from(seconds).unwrap_or(0), seen.refresh_in)
    }
}

/// Seconds, as a number or (as some services write it) a text.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[async_trait::async_trait]
impl HttpClient for Tap {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        if let Some(elsewhere) = self.imds.as_ref().filter(|_| request.url().host_str() == Some(IMDS)) {
            let url = request.url_mut();
            // These can fail only for URLs without a host, and both have one.
            let _ = url.set_host(elsewhere.host_str());
            let _ = url.set_port(elsewhere.port());
        }
        let answer = self.client.execute_request(&request).await?.try_into_raw_response().await?;
        let mut seen = Seen::default();
        if let Some(after) = answer.headers().get_optional_str(&HeaderName::from_static("retry-after")) {
            seen.retry_after = after.trim().parse().ok().map(Duration::from_secs);
        }
        if let Ok(body) = serde_json::from_slice::<Value>(answer.body().as_ref()) {
            seen.refresh_in = body.get("refresh_in").and_then(seconds).map(Duration::from_secs);
        }
        *self.seen.lock() = seen;
        let (status, headers, body) = answer.deconstruct();
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}
