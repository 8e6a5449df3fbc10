//! `passthrough`: the caller's own credential, in the header that the backend's kind expects.

use http::HeaderMap;
use pingora::http::RequestHeader;
use spillway_plugins::auth::{Credential, credential};
use spillway_plugins::retry::Credentials;

use super::{AuthError, Authoriser, KeyHeader, insert};

#[derive(Debug)]
pub(super) struct Passthrough {
    pub(super) header: KeyHeader,
}

impl Authoriser for Passthrough {
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHeader) -> Result<(), AuthError> {
        let Credential::Key(key) = credential(caller) else { return Ok(()) };
        // A token stays a bearer token; only keys have headers of their own.
        let header = if is_jwt(key) { KeyHeader::Bearer } else { self.header };
        if let Some(value) = header.value(key) {
            insert(request, header.name(), value);
        }
        Ok(())
    }

    fn credentials(&self) -> Credentials {
        Credentials::Caller
    }
}

/// Three dot-separated base64url parts (RFC 7519).
fn is_jwt(key: &[u8]) -> bool {
    let parts = key.split(|byte| *byte == b'.');
    let base64url = |part: &[u8]| !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    key.iter().filter(|byte| **byte == b'.').count() == 2 && parts.into_iter().all(base64url)
}
