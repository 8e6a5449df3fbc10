//! What proves the gateway's identity to a backend.

use std::sync::Arc;

use http::HeaderMap;
use pingora::http::RequestHeader;
use spillway_plugins::retry::Credentials;

use super::source::TokenSource;
use crate::clock::Tick;
use crate::provider::Signing;

/// Why a request can't be authorised at a backend right now: another one must take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The scheme has no credential to show.
    #[error("no credential to show")]
    NoCredential,
}

/// Puts the credential for a backend into a request. Never waits: schemes that fetch tokens do so
/// in the background.
pub trait Authoriser: std::fmt::Debug + Send + Sync {
    /// Adds the credential to `request`, from which every credential of the caller was removed. Nothing else is added later, so
    /// that the credential may be a signature.
    ///
    /// # Errors
    /// [`AuthError`] if there is none to show.
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHeader, now: Tick, signing: &Signing<'_>) -> Result<(), AuthError>;

    /// Whose credential the backend sees.
    fn credentials(&self) -> Credentials {
        Credentials::Gateway
    }

    /// Where its token comes from, if it has one.
    fn token(&self) -> Option<&Arc<TokenSource>> {
        None
    }
}
