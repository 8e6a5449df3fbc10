//! A known caller, what it may use, and why a caller is not known.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::auth::jwt::TokenError;

use super::consumer::LiveConsumer;
use super::grants::Grants;
use crate::issued_keys::LiveKey;

/// A known caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The consumer whose limits, quotas and usage apply.
    pub consumer: Arc<LiveConsumer>,
    /// What its token grants; `None` for keys and certificates.
    pub grants: Option<Arc<Grants>>,
    /// Its key, if that was issued at run time.
    pub key: Option<Arc<LiveKey>>,
}

/// What a caller is not allowed, or lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Use this kind of API.
    Api,
    /// Use this model.
    Model,
    /// Use this pool.
    Pool,
    /// Its token has none of the required roles.
    Role,
    /// Its token has none of the required scopes.
    Scope,
}

impl Caller {
    /// What it lacks to use `api`.
    pub fn lacks_for_api(&self, api: Api) -> Option<Missing> {
        let rights = &self.consumer.rights;
        match () {
            () if rights.apis.as_ref().is_some_and(|apis| !apis.contains(&api)) => Some(Missing::Api),
            () => lacks_grant(self.grants.as_deref(), &rights.roles, &rights.scopes),
        }
    }

    /// What it lacks to use `model` of `pool`.
    pub fn lacks_for_model(&self, model: &str, pool: &crate::config::PoolConfig) -> Option<Missing> {
        if self.allows_model(model) { self.lacks_for_pool(pool) } else { Some(Missing::Model) }
    }

    /// The models that its consumer may use, and those that its key may be used for; `None` for all.
    fn lists_of_models(&self) -> [Option<&[String]>; 2] {
        [self.consumer.rights.models.as_deref(), self.key.as_ref().and_then(|key| key.models.as_deref())]
    }

    /// Whether it may use only some models.
    pub fn has_some_models(&self) -> bool {
        self.lists_of_models().iter().any(Option::is_some)
    }

    /// Whether its lists of models, if there are any, have this one.
    pub fn allows_model(&self, model: &str) -> bool {
        self.lists_of_models().into_iter().flatten().all(|allowed| allowed.iter().any(|name| name == model))
    }

    /// What it lacks to use `pool` for requests without a model. A caller that may use none of the pool's models may
    /// not use the pool.
    pub fn lacks_for_pool(&self, pool: &crate::config::PoolConfig) -> Option<Missing> {
        let rights = &self.consumer.rights;
        if self.has_some_models() && !pool.models.iter().any(|model| self.allows_model(model)) {
            return Some(Missing::Pool);
        }
        match &rights.pools {
            Some(allowed) if !allowed.iter().any(|name| **name == *pool.name) => Some(Missing::Pool),
            _ => lacks_grant(self.grants.as_deref(), &pool.roles, &pool.scopes),
        }
    }
}

/// Which grant is missing if one of `roles` and one of `scopes` is required; a caller without a token has no grants.
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
    /// It sent no credential.
    NoCredential,
    /// It sent two credentials that differ.
    TwoCredentials,
    /// An unknown key, or one that is not valid now.
    Key,
    /// An invalid token.
    Token(TokenError),
    /// A token without the claim that names the consumer.
    NoClaim,
    /// A valid token of a consumer that is not listed.
    NotListed,
    /// A valid token of a new consumer, but there are too many already.
    TooMany,
    /// A valid certificate that belongs to no consumer.
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
