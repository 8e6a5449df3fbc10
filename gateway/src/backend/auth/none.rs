//! `none`: nothing to show. And the stand-in for schemes that are not available.

use http::HeaderMap;
use pingora::http::RequestHeader;

use super::{AuthError, Authoriser};

#[derive(Debug)]
pub(super) struct NoAuth;

impl Authoriser for NoAuth {
    fn authorise(&self, _: &HeaderMap, _: &mut RequestHeader) -> Result<(), AuthError> {
        Ok(())
    }
}

/// `run` refuses a config with such a backend; should one get here, it is never asked.
#[derive(Debug)]
pub(super) struct Unavailable {
    pub(super) backend: String,
}

impl Authoriser for Unavailable {
    fn authorise(&self, _: &HeaderMap, _: &mut RequestHeader) -> Result<(), AuthError> {
        Err(AuthError::NoCredential { backend: self.backend.clone() })
    }
}
