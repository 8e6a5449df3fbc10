//! `none`: no credential.

use http::HeaderMap;

use super::authoriser::{AuthError, Authoriser};
use crate::clock::Tick;
use crate::http1::request_head::RequestHead;
use crate::provider::Signing;

#[derive(Debug)]
pub(super) struct NoAuth;

impl Authoriser for NoAuth {
    fn authorise(&self, _: &HeaderMap, _: &mut RequestHead, _: Tick, _: &Signing<'_>) -> Result<(), AuthError> {
        Ok(())
    }
}
