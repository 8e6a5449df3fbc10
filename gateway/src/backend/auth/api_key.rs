//! `api-key`: a key from the config, in the header that the backend's kind expects.

use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;

use super::authoriser::{AuthError, Authoriser};
use crate::clock::Tick;
use crate::config::Secret;
use crate::provider::KeyHeader;

pub(super) struct ApiKey {
    header: KeyHeader,
    value: Option<HeaderValue>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({:?})", self.header)
    }
}

impl ApiKey {
    pub(super) fn new(key: &Secret, header: KeyHeader) -> Self {
        ApiKey { header, value: header.value(key.expose().as_bytes()) }
    }
}

impl Authoriser for ApiKey {
    fn authorise(&self, _: &HeaderMap, request: &mut RequestHeader, _: Tick) -> Result<(), AuthError> {
        self.header.insert(request, self.value.clone().ok_or(AuthError::NoCredential)?);
        Ok(())
    }
}
