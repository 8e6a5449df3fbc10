//! How the gateway proves itself to backends. One file per scheme; to add one, a file and a line
//! in [`build`].

mod api_key;
mod none;
mod passthrough;

use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use spillway_plugins::retry::Credentials;

use crate::config::{self, BackendAuth, BackendKind};

/// Why a request can't be authorised at a backend right now: another one must take it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The scheme has no credential to show.
    #[error("no credential for backend '{backend}'")]
    NoCredential {
        /// The backend's name.
        backend: String,
    },
}

/// Puts the credential for a backend into a request. Never waits: schemes that fetch tokens do so
/// in the background.
pub trait Authoriser: std::fmt::Debug + Send + Sync {
    /// Adds the credential to `request`, from which every credential of the caller was removed.
    ///
    /// # Errors
    /// [`AuthError`] if there is none to show.
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHeader) -> Result<(), AuthError>;

    /// Whose credential the backend sees.
    fn credentials(&self) -> Credentials {
        Credentials::Gateway
    }
}

/// The scheme of a backend.
pub fn build(backend: &config::Backend) -> Box<dyn Authoriser> {
    match &backend.auth {
        BackendAuth::None => Box::new(none::NoAuth),
        BackendAuth::ApiKey(key) => Box::new(api_key::ApiKey::new(key, KeyHeader::of(&backend.kind))),
        BackendAuth::Passthrough => Box::new(passthrough::Passthrough { header: KeyHeader::of(&backend.kind) }),
        BackendAuth::NotAvailable => Box::new(none::Unavailable { backend: backend.name.to_string() }),
    }
}

/// The header in which a kind of backend takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyHeader {
    ApiKey,
    Bearer,
    XApiKey,
}

impl KeyHeader {
    fn of(kind: &BackendKind) -> Self {
        match kind {
            BackendKind::AzureV1 | BackendKind::AzureDated { .. } => KeyHeader::ApiKey,
            BackendKind::OpenAi | BackendKind::Mock { .. } => KeyHeader::Bearer,
            BackendKind::Anthropic => KeyHeader::XApiKey,
        }
    }

    fn name(self) -> &'static str {
        match self {
            KeyHeader::ApiKey => "api-key",
            KeyHeader::Bearer => "authorization",
            KeyHeader::XApiKey => "x-api-key",
        }
    }

    /// The header's value for `key`, marked so that it never shows up in a log.
    fn value(self, key: &[u8]) -> Option<HeaderValue> {
        let bytes = if self == KeyHeader::Bearer { [b"Bearer ", key].concat() } else { key.to_vec() };
        let mut value = HeaderValue::from_bytes(&bytes).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn insert(request: &mut RequestHeader, name: &'static str, value: HeaderValue) {
    // Fails only for an invalid name, and these are constants.
    let _ = request.insert_header(name, value);
}
