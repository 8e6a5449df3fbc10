//! `none`: no credential.

use http::HeaderMap;
use pingora::http::RequestHeader;

use super::authoriser::{AuthError, Authoriser};
use crate::clock::Tick;
use crate::provider::Signing;

#[derive(Debug)]
pub(super) struct NoAuth;

impl Authoriser for NoAuth {
    fn authorise(&self, _: &HeaderMap, _: &mut RequestHeader, _: Tick, _: &Signing<'_>) -> Result<(), AuthError> {
        Ok(())
    }
}
