//! Adds the gateway's credential for a backend.

use std::sync::Arc;

use http::HeaderMap;
use spillway_plugins::retry::Credentials;

use super::source::TokenSource;
use crate::clock::Tick;
use crate::http1::request_head::RequestHead;
use crate::provider::Signing;

/// Why a request can't be authorised at a backend now: another backend must serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The scheme has no credential now.
    #[error("no credential to send")]
    NoCredential,
}

/// Adds the credential for a backend to a request. Never waits: schemes that fetch tokens do so in the background.
pub trait Authoriser: std::fmt::Debug + Send + Sync {
    /// Adds the credential to `request`, from which every credential of the caller was removed. Nothing else is added later, so
    /// that the credential may be a signature.
    ///
    /// # Errors
    /// [`AuthError`] if there is none.
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHead, now: Tick, signing: &Signing<'_>) -> Result<(), AuthError>;

    /// Whose credential the backend sees.
    fn credentials(&self) -> Credentials {
        Credentials::Gateway
    }

    /// The source of its token, if it uses one.
    fn token(&self) -> Option<&Arc<TokenSource>> {
        None
    }
}
