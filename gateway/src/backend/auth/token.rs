//! A bearer token of an identity, from its [`TokenSource`].

use std::sync::Arc;

use http::HeaderMap;

use super::authoriser::{AuthError, Authoriser};
use super::source::TokenSource;
use crate::clock::Tick;
use crate::http1::request_head::RequestHead;
use crate::provider::{KeyHeader, Signing};

#[derive(Debug)]
pub(super) struct BearerToken {
    pub(super) source: Arc<TokenSource>,
}

impl Authoriser for BearerToken {
    fn authorise(&self, _: &HeaderMap, request: &mut RequestHead, now: Tick, _: &Signing<'_>) -> Result<(), AuthError> {
        let value = self.source.header(now).ok_or(AuthError::NoCredential)?;
        KeyHeader::BEARER.insert(request, &value);
        Ok(())
    }

    fn token(&self) -> Option<&Arc<TokenSource>> {
        Some(&self.source)
    }
}
