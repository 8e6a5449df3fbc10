//! `none`: no credential.

use http::HeaderMap;
use pingora::http::RequestHeader;

use super::authoriser::{AuthError, Authoriser};
use crate::clock::Tick;

#[derive(Debug)]
pub(super) struct NoAuth;

impl Authoriser for NoAuth {
    fn authorise(&self, _: &HeaderMap, _: &mut RequestHeader, _: Tick) -> Result<(), AuthError> {
        Ok(())
    }
}
