//! `passthrough`: the caller's own credential, in the header that the backend's kind expects.

use http::HeaderMap;
use spillway_plugins::auth::credential;
use spillway_plugins::auth::jwt::looks_like_token;
use spillway_plugins::retry::Credentials;

use super::authoriser::{AuthError, Authoriser};
use crate::clock::Tick;
use crate::http1::request_head::RequestHead;
use crate::provider::{KeyHeader, Signing};

#[derive(Debug)]
pub(super) struct Passthrough {
    pub(super) header: KeyHeader,
}

impl Authoriser for Passthrough {
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHead, _: Tick, _: &Signing<'_>) -> Result<(), AuthError> {
        let Some(key) = credential(caller).value() else { return Ok(()) };
        // A token stays a bearer token; only keys have headers that depend on the backend.
        let header = if looks_like_token(key) { KeyHeader::BEARER } else { self.header };
        if let Some(value) = header.value(key) {
            header.insert(request, &value);
        }
        Ok(())
    }

    fn credentials(&self) -> Credentials {
        Credentials::Caller
    }
}
