//! Identifies callers: from keys, tokens and certificates to consumers.

mod caller;
mod consumer;
mod grants;
mod holding;
pub mod issuer;
pub mod tokens;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::auth::jwt::looks_like_token;
use spillway_plugins::auth::{Credential, KeyTable, credential};

use crate::config::{Auth, CertificateName, Config};
use crate::issued_keys::{LiveKey, LiveKeys};
use crate::limits::{Account, Groups, Limits};
use crate::telemetry::metrics::Metrics;
pub use caller::{Caller, Denied, Missing, lacks_grant};
pub use consumer::LiveConsumer;
pub use grants::Grants;
pub use holding::{Holding, OneOf};
use tokens::Tokens;

/// All known callers.
#[derive(Debug)]
pub struct Callers {
    /// Whether unknown callers are refused.
    pub required: bool,
    /// The consumers of the config.
    pub consumers: Vec<Arc<LiveConsumer>>,
    /// Their keys in the config.
    pub keys: KeyTable,
    /// Keys that were issued at run time.
    issued: Arc<LiveKeys>,
    by_name: HashMap<Arc<str>, usize>,
    /// Their tokens.
    pub tokens: Option<Tokens>,
    /// What callers without a name use together.
    nameless: Arc<Holding>,
    certificates: HashMap<CertificateName, usize>,
}

impl Callers {
    /// The callers of a config, and the keys that were issued for them; the state of those in `before` is kept.
    pub fn new(config: &Config, limits: &Arc<Limits>, metrics: &Metrics, issued: &Arc<LiveKeys>, before: Option<&Callers>) -> Self {
        let Auth { required, pepper, tokens } = config.plugins.auth.clone();
        let groups = Arc::new(Groups::new(config, limits));
        let live = |(index, consumer): (usize, &crate::config::Consumer)| {
            Arc::new(LiveConsumer::new(consumer.clone(), Account::new(consumer, Some(index), &groups, limits)))
        };
        let consumers: Vec<Arc<LiveConsumer>> = config.consumers.iter().enumerate().map(live).collect();
        let mut keys = KeyTable::new(pepper);
        let mut certificates = HashMap::new();
        for (index, consumer) in consumers.iter().enumerate() {
            for key in &consumer.keys {
                keys.insert(key.stored, index, key.validity);
            }
            certificates.extend(consumer.certificates.iter().map(|name| (name.clone(), index)));
        }
        before.into_iter().for_each(|before| keys.remember(&before.keys));
        metrics.callers.expose_failures(Denied::labels());
        let before = before.and_then(|before| before.tokens.as_ref());
        let tokens = tokens.map(|rules| Tokens::new(rules, &consumers, groups, Arc::clone(limits), metrics, before));
        let by_name = consumers.iter().enumerate().map(|(index, consumer)| (Arc::clone(&consumer.name), index)).collect();
        Callers { required, consumers, keys, issued: Arc::clone(issued), by_name, tokens, nameless: Arc::default(), certificates }
    }

    /// Whether there may be several consumers: then no single one may use all shared resources.
    pub fn are_several(&self) -> bool {
        self.consumers.len() + usize::from(!self.required) > 1 || self.tokens.is_some()
    }

    /// Counts what a consumer uses, if there are several. Callers without a name count as one consumer.
    pub fn holding_of<'a>(&'a self, consumer: Option<&'a LiveConsumer>) -> Option<&'a Arc<Holding>> {
        self.are_several().then(|| consumer.map_or(&self.nameless, |consumer| &consumer.holding))
    }

    /// The number by which targets know a consumer; 0 for all if there is only one. Callers without a name count as one
    /// consumer.
    pub fn number_of(&self, consumer: Option<&LiveConsumer>) -> u64 {
        const NAMELESS: u64 = u64::MAX;
        if self.are_several() { consumer.map_or(NAMELESS, |consumer| consumer.number) } else { 0 }
    }

    /// Identifies the caller that sent these headers over a connection with this client certificate. `now` is in
    /// seconds since 1970.
    ///
    /// # Errors
    /// [`Denied`]; not an error for the caller if no credential is required.
    pub fn identify(&self, headers: &HeaderMap, certificate: Option<&CertificateNames>, now: i64) -> Result<Caller, Denied> {
        let shown = match credential(headers) {
            Credential::None => None,
            Credential::Ambiguous => return Err(Denied::TwoCredentials),
            Credential::Bearer(token) if self.tokens.is_some() && looks_like_token(token) => {
                self.tokens.as_ref().map(|tokens| tokens.caller(token, now)).transpose()?
            }
            Credential::Bearer(key) | Credential::Key(key) => {
                let (index, key) = self.holder(key, now).ok_or(Denied::Key)?;
                Some(Caller { consumer: Arc::clone(&self.consumers[index]), grants: None, key })
            }
        };
        match (shown, certificate.map(|names| self.named(names))) {
            (None, None) => Err(Denied::NoCredential),
            (None, Some(None)) => Err(Denied::Certificate),
            (None, Some(Some(caller))) => Ok(caller),
            // Two credentials of two consumers: it is not clear which one calls. A certificate that belongs to no
            // consumer only opens the connection.
            (Some(shown), Some(Some(named))) if !Arc::ptr_eq(&shown.consumer, &named.consumer) => Err(Denied::TwoCredentials),
            (Some(shown), _) => Ok(shown),
        }
    }

    /// The name of the consumer whose key these headers have, if any. Tokens are not looked at. `now` is in seconds since 1970.
    pub fn holder_of_key(&self, headers: &HeaderMap, now: i64) -> Option<Arc<str>> {
        match credential(headers) {
            Credential::Bearer(key) | Credential::Key(key) => {
                let (index, _) = self.holder(key, now)?;
                Some(Arc::clone(&self.consumers.get(index)?.name))
            }
            Credential::None | Credential::Ambiguous => None,
        }
    }

    /// Where the consumer is that a key belongs to, and the key, if it was issued at run time.
    fn holder(&self, key: &[u8], now: i64) -> Option<(usize, Option<Arc<LiveKey>>)> {
        let digests = self.keys.digests(key);
        if let Some(index) = self.keys.find_digests(&digests, now) {
            return Some((index, None));
        }
        let issued = self.issued.find(&digests, now)?;
        let index = self.place_of(&issued)?;
        issued.used(now);
        Some((index, Some(issued)))
    }

    /// Where an issued key's consumer is; `None` if the config doesn't have it now.
    fn place_of(&self, key: &LiveKey) -> Option<usize> {
        let last = key.place.load(Ordering::Relaxed);
        if self.consumers.get(last).is_some_and(|consumer| consumer.name == key.consumer) {
            return Some(last);
        }
        let index = *self.by_name.get(&key.consumer)?;
        key.place.store(index, Ordering::Relaxed);
        Some(index)
    }

    fn named(&self, names: &CertificateNames) -> Option<Caller> {
        let by = |name: CertificateName| self.certificates.get(&name).copied();
        let alternative = names.alternatives.iter().find_map(|name| by(CertificateName::Alternative(name.clone())));
        let index = alternative.or_else(|| by(CertificateName::Subject(names.subject.clone())))?;
        Some(Caller { consumer: Arc::clone(&self.consumers[index]), grants: None, key: None })
    }
}
