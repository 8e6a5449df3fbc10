//! The header in which a backend of each kind takes its key.

use http::HeaderValue;
use pingora::http::RequestHeader;

use crate::config::BackendKind;

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
