//! The HTTP transport of the Azure SDK's credentials: our HTTP client. It also records what the SDK drops of an answer
//! (`refresh_in`, `Retry-After`), and prevents the SDK's own retries, so that all schemes follow one rule and every
//! failure is reported at once.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::AccessToken;
use azure_core::error::ErrorKind;
use azure_core::http::headers::HeaderName;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, RetryOptions, Transport, Url};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::Value;

use super::fetch::{FetchError, Fetched, brief};
use crate::causes::causes;

/// The address of the instance metadata service, in every VM.
const IMDS: &str = "169.254.169.254";
/// The environment variable for another address of it, as in Azure's SDKs.
const IMDS_ELSEWHERE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// What an answer contained besides the token.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    expires_in: Option<u64>,
    refresh_in: Option<Duration>,
    retry_after: Option<Duration>,
}

/// The transport of one fetch.
#[derive(Debug)]
pub(super) struct TokenTransport {
    client: reqwest::Client,
    imds: Option<Url>,
    seen: Mutex<Seen>,
}

impl TokenTransport {
    /// Through `client`.
    pub(super) fn new(client: reqwest::Client) -> Arc<Self> {
        let imds = std::env::var(IMDS_ELSEWHERE).ok().and_then(|url| Url::parse(&url).ok());
        Arc::new(TokenTransport { client, imds, seen: Mutex::default() })
    }

    /// Options for a credential that uses this transport.
    pub(super) fn options(self: &Arc<Self>, authority: Option<&str>) -> ClientOptions {
        let cloud = authority.map(|host| {
            let mut custom = azure_core::cloud::CustomConfiguration::default();
            custom.authority_host = host.to_owned();
            Arc::new(custom.into())
        });
        let http: Arc<dyn HttpClient> = Arc::clone(self) as _;
        ClientOptions { transport: Some(Transport::new(http)), retry: RetryOptions::none(), cloud, ..ClientOptions::default() }
    }

    /// The result of a credential that used this transport.
    pub(super) fn outcome(&self, got: azure_core::Result<AccessToken>, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
        let seen = *self.seen.lock();
        let token = got.map_err(|error| FetchError { what: causes(&error), retry_after: seen.retry_after })?;
        // If the service says how many seconds are left, our clock need not be right.
        let until = token.expires_on.unix_timestamp().saturating_sub(wall.timestamp());
        let lifetime = seen.expires_in.unwrap_or_else(|| u64::try_from(until).unwrap_or(0));
        Fetched::new(token.token.secret(), lifetime, seen.refresh_in)
    }
}

/// Seconds, as a number or (from some services) as text.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[async_trait::async_trait]
impl HttpClient for TokenTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        if let Some(elsewhere) = self.imds.as_ref().filter(|_| request.url().host_str() == Some(IMDS)) {
            let url = request.url_mut();
            // These fail only for URLs without a host, and both have one.
            let _ = url.set_host(elsewhere.host_str());
            let _ = url.set_port(elsewhere.port());
        }
        let answer = match self.client.execute_request(&request).await {
            Ok(answer) => answer.try_into_raw_response().await,
            Err(error) => Err(error),
        };
        // A kind of error that the SDK doesn't retry.
        let credential_error = |what: String| azure_core::Error::with_message(ErrorKind::Credential, what);
        let answer = answer.map_err(|error| credential_error(causes(&error)))?;
        let number = |name: &str, body: &Value| body.get(name).and_then(seconds);
        let body: Value = serde_json::from_slice(answer.body().as_ref()).unwrap_or_default();
        let after = answer.headers().get_optional_str(&HeaderName::from_static("retry-after"));
        *self.seen.lock() = Seen {
            expires_in: number("expires_in", &body),
            refresh_in: number("refresh_in", &body).map(Duration::from_secs),
            retry_after: after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs),
        };
        let status = u16::from(answer.status());
        if matches!(status, 404 | 410 | 429 | 500..) {
            return Err(credential_error(brief(&format!(
                "the token service answered {status}: {}",
                String::from_utf8_lossy(answer.body().as_ref())
            ))));
        }
        let (status, headers, body) = answer.deconstruct();
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}
