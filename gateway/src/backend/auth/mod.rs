//! How the gateway proves itself to backends. One file per scheme; to add one that needs no token
//! service, a file and a line in [`build`]; one that does, a file and a line in `source.rs`.

mod api_key;
mod arc;
mod auto;
mod client_credentials;
mod fetch;
mod managed_identity;
mod none;
mod passthrough;
mod schedule;
mod source;
mod token;
mod transport;
mod workload_identity;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use spillway_plugins::retry::Credentials;

use crate::clock::Tick;
use crate::config::{self, BackendAuth, BackendKind, TokenAuth};
use crate::telemetry::metrics::Metrics;
pub use fetch::{FetchError, Fetched, causes};
pub use source::TokenSource;

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
    /// Adds the credential to `request`, from which every credential of the caller was removed.
    ///
    /// # Errors
    /// [`AuthError`] if there is none to show.
    fn authorise(&self, caller: &HeaderMap, request: &mut RequestHeader, now: Tick) -> Result<(), AuthError>;

    /// Whose credential the backend sees.
    fn credentials(&self) -> Credentials {
        Credentials::Gateway
    }

    /// Where its token comes from, if it has one.
    fn token(&self) -> Option<&Arc<TokenSource>> {
        None
    }
}

/// The token of every identity that is used, shared by the backends that use it.
#[derive(Debug, Default)]
pub struct Identities {
    used: BTreeMap<String, Arc<TokenSource>>,
    /// Those of the config before.
    before: BTreeMap<String, Arc<TokenSource>>,
}

impl Identities {
    /// None yet; those that the config before had, too, keep their tokens.
    pub fn after(before: Option<&Identities>) -> Self {
        Identities { used: BTreeMap::new(), before: before.map(|before| before.used.clone()).unwrap_or_default() }
    }

    /// All are made: what was before is needed no more.
    pub fn forget_before(&mut self) {
        self.before.clear();
    }

    /// A source that goes on being used.
    pub fn keep(&mut self, source: &Arc<TokenSource>) {
        self.used.insert(source.identifier(), Arc::clone(source));
    }

    /// The identity's token, with its first use.
    pub fn get(&mut self, config: &TokenAuth, metrics: &Metrics) -> Arc<TokenSource> {
        let identifier = config.identifier();
        if let Some(known) = self.used.get(&identifier) {
            return Arc::clone(known);
        }
        if let Some(known) = self.before.remove(&identifier) {
            self.used.insert(identifier, Arc::clone(&known));
            return known;
        }
        // Two secrets of one application are two tokens: each has figures of its own.
        let alike = self.used.values().filter(|source| source.name() == config.to_string()).count();
        let label = if alike == 0 { config.to_string() } else { format!("{config} #{}", alike + 1) };
        let source = Arc::new(TokenSource::new(config.clone(), metrics.token(&label)));
        self.used.insert(identifier, Arc::clone(&source));
        source
    }

    /// Every identity's token.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TokenSource>> {
        self.used.values()
    }
}

/// The scheme of a backend.
pub fn build(backend: &config::Backend, identities: &mut Identities, metrics: &Metrics) -> Box<dyn Authoriser> {
    match &backend.auth {
        BackendAuth::None => Box::new(none::NoAuth),
        BackendAuth::ApiKey(key) => Box::new(api_key::ApiKey::new(key, KeyHeader::of(&backend.kind))),
        BackendAuth::Passthrough => Box::new(passthrough::Passthrough { header: KeyHeader::of(&backend.kind) }),
        BackendAuth::Token(token) => Box::new(token::BearerToken { source: identities.get(token, metrics) }),
    }
}

/// The header in which a kind of backend takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyHeader {
    ApiKey,
    Bearer,
    XApiKey,
}

impl KeyHeader {
    fn of(kind: &BackendKind) -> Self {
        match kind {
            BackendKind::AzureV1 | BackendKind::AzureDated { .. } => KeyHeader::ApiKey,
            BackendKind::OpenAi | BackendKind::Mock { .. } => KeyHeader::Bearer,
            BackendKind::Anthropic => KeyHeader::XApiKey,
        }
    }

    fn name(self) -> &'static str {
        match self {
            KeyHeader::ApiKey => "api-key",
            KeyHeader::Bearer => "authorization",
            KeyHeader::XApiKey => "x-api-key",
        }
    }

    /// The header's value for `key`, marked so that it never shows up in a log.
    fn value(self, key: &[u8]) -> Option<HeaderValue> {
        let bytes = if self == KeyHeader::Bearer { [b"Bearer ", key].concat() } else { key.to_vec() };
        let mut value = HeaderValue::from_bytes(&bytes).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn insert(request: &mut RequestHeader, name: &'static str, value: HeaderValue) {
    // Fails only for an invalid name, and these are constants.
    let _ = request.insert_header(name, value);
}
