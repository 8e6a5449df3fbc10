//! `api-key`: a key from the config, in the header that the backend's kind expects.

use crate::config::Secret;
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;

use super::authoriser::{AuthError, Authoriser};
use super::key_header::{KeyHeader, insert};
use crate::clock::Tick;

pub(super) struct ApiKey {
    header: &'static str,
    value: Option<HeaderValue>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({})", self.header)
    }
}

impl ApiKey {
    pub(super) fn new(key: &Secret, header: KeyHeader) -> Self {
        ApiKey { header: header.name(), value: header.value(key.expose().as_bytes()) }
    }
}

impl Authoriser for ApiKey {
    fn authorise(&self, _: &HeaderMap, request: &mut RequestHeader, _: Tick) -> Result<(), AuthError> {
        let value = self.value.clone().ok_or(AuthError::NoCredential)?;
        insert(request, self.header, value);
        Ok(())
    }
}
