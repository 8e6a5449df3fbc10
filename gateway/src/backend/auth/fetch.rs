//! What all token schemes have in common: the result of a fetch, and its errors.

use std::time::Duration;

use http::HeaderValue;

use crate::causes::causes;
use crate::provider::KeyHeader;

/// Longest lifetime of a token that is used: a clock that was wrong for a moment must not have an effect for weeks.
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// A fetched token.
#[derive(Clone)]
pub struct Fetched {
    /// The header's value: `Bearer …`.
    pub header: HeaderValue,
    /// How long it is valid from now.
    pub lifetime: Duration,
    /// When its issuer wants it renewed.
    pub refresh_in: Option<Duration>,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("lifetime", &self.lifetime).field("refresh_in", &self.refresh_in).finish_non_exhaustive()
    }
}

impl Fetched {
    /// A token that is valid for `lifetime` seconds.
    ///
    /// # Errors
    /// If it is expired already, or is not valid in a header.
    pub(super) fn new(token: &str, lifetime: u64, refresh_in: Option<Duration>) -> Result<Self, FetchError> {
        if lifetime == 0 {
            return Err(FetchError::new("the service returned a token that is expired already; is this machine's clock right?"));
        }
        let header = KeyHeader::BEARER.value(token.as_bytes()).filter(|_| !token.is_empty());
        let header = header.ok_or_else(|| FetchError::new("the service returned a token that is not valid in a header"))?;
        let refresh_in = refresh_in.filter(|when| !when.is_zero());
        Ok(Fetched { header, lifetime: Duration::from_secs(lifetime).min(LONGEST), refresh_in })
    }
}

/// Why no token was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct FetchError {
    /// As text, without secrets.
    pub what: String,
    /// The service's Retry-After.
    pub retry_after: Option<Duration>,
}

impl FetchError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        FetchError { what: what.into(), retry_after: None }
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // Without the URL: it can be long, and the log names the service anyway.
        FetchError::new(causes(&error.without_url()))
    }
}

impl From<azure_core::Error> for FetchError {
    fn from(error: azure_core::Error) -> Self {
        FetchError::new(causes(&error))
    }
}

/// The beginning of a service's message, on one line.
pub(super) fn brief(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
