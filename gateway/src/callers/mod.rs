//! Who is calling: from keys, tokens and certificates to consumers.

mod consumer;
pub mod issuer;
pub mod tokens;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use spillway_plugins::api::Api;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::auth::jwt::{TokenError, looks_like_token};
use spillway_plugins::auth::{Credential, KeyTable, credential};

use crate::config::{Auth, CertificateName, Config};
use crate::limits::{Account, Groups, Limits};
use crate::telemetry::metrics::Metrics;
pub use consumer::{LiveConsumer, OneOf, number_of};
use tokens::{Grants, Tokens};

/// A caller that is known.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whom its limits, quotas and usage belong to.
    pub consumer: Arc<LiveConsumer>,
    /// What its token grants; `None` for keys and certificates.
    pub grants: Option<Arc<Grants>>,
}

/// What a caller may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Use this kind of API.
    Api,
    /// Use this model.
    Model,
    /// Use this pool.
    Pool,
    /// Its token has none of the roles that are needed.
    Role,
    /// Its token has none of the scopes that are needed.
    Scope,
}

impl Caller {
    /// What is missing before it may use `api`.
    pub fn lacks_for_api(&self, api: Api) -> Option<Missing> {
        let rights = &self.consumer.rights;
        match () {
            () if rights.apis.as_ref().is_some_and(|apis| !apis.contains(&api)) => Some(Missing::Api),
            () => lacks_grant(self.grants.as_deref(), &rights.roles, &rights.scopes),
        }
    }

    /// What is missing before it may use `model` of `pool`.
    pub fn lacks_for_model(&self, model: &str, pool: &crate::config::Pool) -> Option<Missing> {
        let rights = &self.consumer.rights;
        match &rights.models {
            Some(allowed) if !allowed.iter().any(|name| name == model) => Some(Missing::Model),
            _ => self.lacks_for_pool(pool),
        }
    }

    /// What is missing before it may use `pool` for what has no model. Whoever may use none of its models has no business
    /// there.
    pub fn lacks_for_pool(&self, pool: &crate::config::Pool) -> Option<Missing> {
        let rights = &self.consumer.rights;
        if rights.models.as_ref().is_some_and(|allowed| !pool.models.iter().any(|model| allowed.contains(model))) {
            return Some(Missing::Pool);
        }
        match &rights.pools {
            Some(allowed) if !allowed.iter().any(|name| **name == *pool.name) => Some(Missing::Pool),
            _ => lacks_grant(self.grants.as_deref(), &pool.roles, &pool.scopes),
        }
    }
}

/// Which grant is missing where one of `roles` and one of `scopes` is needed; a caller without a token has none.
pub fn lacks_grant(grants: Option<&Grants>, roles: &[String], scopes: &[String]) -> Option<Missing> {
    let has = |needed: &[String], granted: Option<&Vec<String>>| {
        needed.is_empty() || granted.is_some_and(|granted| granted.iter().any(|one| needed.contains(one)))
    };
    match () {
        () if !has(roles, grants.map(|grants| &grants.roles)) => Some(Missing::Role),
        () if !has(scopes, grants.map(|grants| &grants.scopes)) => Some(Missing::Scope),
        () => None,
    }
}

/// Why a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It sent nothing that says who it is.
    NoCredential,
    /// It sent two things that say different.
    TwoCredentials,
    /// A key that is not known, or not good now.
    Key,
    /// A token that is not good.
    Token(TokenError),
    /// A token that doesn't say who it is.
    NoClaim,
    /// A good token of somebody who is not listed.
    NotListed,
    /// A good token of somebody new, and there are too many already.
    TooMany,
    /// A good certificate that is nobody's.
    Certificate,
}

impl Denied {
    /// Every label, for metrics that export them from the start.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        let own = [
            Denied::NoCredential,
            Denied::TwoCredentials,
            Denied::Key,
            Denied::NoClaim,
            Denied::NotListed,
            Denied::TooMany,
            Denied::Certificate,
        ];
        own.into_iter().chain(TokenError::ALL.into_iter().map(Denied::Token)).map(Denied::label)
    }

    /// A short label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Denied::NoCredential => "no_credential",
            Denied::TwoCredentials => "two_credentials",
            Denied::Key => "key",
            Denied::Token(error) => error.label(),
            Denied::NoClaim => "token_no_claim",
            Denied::NotListed => "not_listed",
            Denied::TooMany => "too_many",
            Denied::Certificate => "certificate",
        }
    }
}

/// Everybody who may call.
#[derive(Debug)]
pub struct Callers {
    /// Whether unknown callers are refused.
    pub required: bool,
    /// The consumers of the config.
    pub consumers: Vec<Arc<LiveConsumer>>,
    /// Their keys.
    pub keys: KeyTable,
    /// Their tokens.
    pub tokens: Option<Tokens>,
    certificates: HashMap<CertificateName, usize>,
}

impl Callers {
    /// Those of a config; what is known from `before` stays known.
    pub fn new(config: &Config, limits: &Arc<Limits>, metrics: &Metrics, before: Option<&Callers>) -> Self {
        let Auth { required, pepper, tokens } = config.auth.clone();
        let groups = Groups::new(config, limits);
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
        metrics.expose_auth_failures(Denied::labels());
        let before = before.and_then(|before| before.tokens.as_ref());
        let tokens = tokens.map(|rules| Tokens::new(rules, &consumers, Arc::clone(limits), metrics, before));
        Callers { required, consumers, keys, tokens, certificates }
    }

    /// Whether there may be several consumers: then none may have all of the room.
    pub fn are_several(&self) -> bool {
        self.consumers.len() > 1 || self.tokens.is_some()
    }

    /// Who sent these headers over a connection with this client certificate. `now` is in seconds
    /// since 1970.
    ///
    /// # Errors
    /// [`Denied`]; where the credential isn't required that is nobody's fault.
    pub fn identify(&self, headers: &HeaderMap, certificate: Option<&CertificateNames>, now: i64) -> Result<Caller, Denied> {
        let shown = match credential(headers) {
            Credential::None => None,
            Credential::Ambiguous => return Err(Denied::TwoCredentials),
            Credential::Bearer(token) if self.tokens.is_some() && looks_like_token(token) => {
                self.tokens.as_ref().map(|tokens| tokens.caller(token, now)).transpose()?
            }
            Credential::Bearer(key) | Credential::Key(key) => {
                let index = self.keys.find(key, now).ok_or(Denied::Key)?;
                Some(Caller { consumer: Arc::clone(&self.consumers[index]), grants: None })
            }
        };
        match (shown, certificate.map(|names| self.named(names))) {
            (None, None) => Err(Denied::NoCredential),
            (None, Some(None)) => Err(Denied::Certificate),
            (None, Some(Some(caller))) => Ok(caller),
            // Two that mean two: nobody can say who calls. A certificate of nobody's is only a way in.
            (Some(shown), Some(Some(named))) if !Arc::ptr_eq(&shown.consumer, &named.consumer) => Err(Denied::TwoCredentials),
            (Some(shown), _) => Ok(shown),
        }
    }

    fn named(&self, names: &CertificateNames) -> Option<Caller> {
        let by = |name: CertificateName| self.certificates.get(&name).copied();
        let alternative = names.alternatives.iter().find_map(|name| by(CertificateName::Alternative(name.clone())));
        let index = alternative.or_else(|| by(CertificateName::Subject(names.subject.clone())))?;
        Some(Caller { consumer: Arc::clone(&self.consumers[index]), grants: None })
    }
}
