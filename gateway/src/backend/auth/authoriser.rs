//! What proves the gateway's identity to a backend.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use spillway_plugins::retry::Credentials;

use super::source::TokenSource;
use crate::clock::Tick;
use crate::config::BackendKind;

/// Why a request can't be authorised at a backend right now: another one must take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The scheme has no credential to show.
    #[error("no credential to show")]
    NoCredential,
}

/// Puts the credential for a backend into a request. Never waits: schemes that fetch tokens do so
/// in the background.
pub trait Authoriser: std::fmt::Debug + Send + Sync {
    /// Adds the credential to `request`, from which every credential of the caller was removed.
    ///
    /// # Errors
    /// [`AuthError`] if there is none to show.
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHeader, now: Tick) -> Result<(), AuthError>;

    /// Whose credential the backend sees.
    fn credentials(&self) -> Credentials {
        Credentials::Gateway
    }

    /// Where its token comes from, if it has one.
    fn token(&self) -> Option<&Arc<TokenSource>> {
        None
    }
}

/// The header in which a kind of backend takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyHeader {
    ApiKey,
    Bearer,
    XApiKey,
}

impl KeyHeader {
    pub(super) fn of(kind: &BackendKind) -> Self {
        match kind {
            BackendKind::AzureV1 | BackendKind::AzureDated { .. } => KeyHeader::ApiKey,
            BackendKind::OpenAi | BackendKind::Mock { .. } => KeyHeader::Bearer,
            BackendKind::Anthropic => KeyHeader::XApiKey,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            KeyHeader::ApiKey => "api-key",
            KeyHeader::Bearer => "authorization",
            KeyHeader::XApiKey => "x-api-key",
        }
    }

    /// The header's value for `key`, marked so that it never shows up in a log.
    pub(super) fn value(self, key: &[u8]) -> Option<HeaderValue> {
        let bytes = if self == KeyHeader::Bearer { [b"Bearer ", key].concat() } else { key.to_vec() };
        let mut value = HeaderValue::from_bytes(&bytes).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

pub(super) fn insert(request: &mut RequestHeader, name: &'static str, value: HeaderValue) {
    // Fails only for an invalid name, and these are constants.
    let _ = request.insert_header(name, value);
}
