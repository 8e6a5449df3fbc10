//! How the gateway proves itself to backends. One file per scheme; to add one that needs no token
//! service, a file and a line in [`build`]; one that does, a file and a line in `source.rs`.

mod api_key;
mod arc;
mod authoriser;
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

use crate::config::{self, BackendAuth, TokenAuth};
use crate::telemetry::metrics::Metrics;
pub use authoriser::{AuthError, Authoriser};
pub use fetch::{FetchError, Fetched, causes};
pub use source::TokenSource;

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
        BackendAuth::ApiKey(key) => Box::new(api_key::ApiKey { signer: backend.kind.provider().signer(key.expose()) }),
        BackendAuth::Passthrough => Box::new(passthrough::Passthrough { header: backend.kind.provider().key_header() }),
        BackendAuth::Token(token) => Box::new(token::BearerToken { source: identities.get(token, metrics) }),
    }
}
