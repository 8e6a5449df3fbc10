//! A caller that is known, what it may do, and why one is not known.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::auth::jwt::TokenError;

use super::consumer::LiveConsumer;
use super::grants::Grants;

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
