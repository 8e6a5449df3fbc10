//! The gateway's credentials for backends. One file per scheme. To add a scheme without a token service: a file and a
//! line in [`build`]; with one: a file and a line in `source.rs`.

mod api_key;
mod arc;
mod authoriser;
mod auto;
mod client_credentials;
mod fetch;
mod managed_identity;
mod none;
mod passthrough;
mod rehearsed;
mod schedule;
mod source;
mod token;
mod transport;
mod workload_identity;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{self, BackendAuth, TokenAuth};
use crate::telemetry::metrics::Metrics;
pub use authoriser::Authoriser;
pub use fetch::Fetched;
pub use source::TokenSource;

/// The token of every identity that is used, shared by the backends that use it.
#[derive(Debug, Default)]
pub struct Identities {
    used: BTreeMap<String, Arc<TokenSource>>,
    /// The tokens of the config before.
    before: BTreeMap<String, Arc<TokenSource>>,
}

impl Identities {
    /// No tokens yet; [`Identities::get`] takes those of the config before.
    pub fn after(before: Option<&Identities>) -> Self {
        Identities { used: BTreeMap::new(), before: before.map(|before| before.used.clone()).unwrap_or_default() }
    }

    /// All are made: drops those of the config before.
    pub fn forget_before(&mut self) {
        self.before.clear();
    }

    /// Adds a source that stays in use.
    pub fn keep(&mut self, source: &Arc<TokenSource>) {
        self.used.insert(source.identifier(), Arc::clone(source));
    }

    /// The source of the identity's token, made at its first use.
    pub fn get(&mut self, config: &TokenAuth, metrics: &Metrics) -> Arc<TokenSource> {
        let identifier = config.identifier();
        if let Some(known) = self.used.get(&identifier) {
            return Arc::clone(known);
        }
        if let Some(known) = self.before.remove(&identifier) {
            self.used.insert(identifier, Arc::clone(&known));
            return known;
        }
        // Two secrets of one application have two tokens: each has metrics of its own.
        let alike = self.used.values().filter(|source| source.name() == config.to_string()).count();
        let label = if alike == 0 { config.to_string() } else { format!("{config} #{}", alike + 1) };
        let source = Arc::new(TokenSource::new(config.clone(), metrics.identities.of(&label)));
        self.used.insert(identifier, Arc::clone(&source));
        source
    }

    /// The token sources of all identities.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TokenSource>> {
        self.used.values()
    }
}

/// The scheme of a backend.
pub fn build(backend: &config::BackendConfig, identities: &mut Identities, metrics: &Metrics) -> Box<dyn Authoriser> {
    match &backend.auth {
        BackendAuth::None => Box::new(none::NoAuth),
        BackendAuth::ApiKey(key) => Box::new(api_key::ApiKey { signer: backend.kind.provider().signer(key.expose()) }),
        BackendAuth::Passthrough => Box::new(passthrough::Passthrough { header: backend.kind.provider().key_header() }),
        BackendAuth::Token(token) => Box::new(token::BearerToken { source: identities.get(token, metrics) }),
    }
}
