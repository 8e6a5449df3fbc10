//! Who calls in a rehearsal: for each pool a consumer of the config that may use it, with a key or a token that exists only
//! in the rehearsal.

use spillway_plugins::api::Api;
use spillway_plugins::auth::{Stored, Validity, digest};

use crate::config::{Config, Key, PoolConfig, Rights};

/// How a caller shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rehearse) enum Credential {
    /// Not at all: the config lets everybody in.
    None,
    /// The key of this consumer; see [`key_of`].
    Key(usize),
    /// A token with this value of the consumer claim, and with these roles and scopes.
    Token {
        /// The value.
        claim: String,
        /// Its roles.
        roles: Vec<String>,
        /// Its scopes.
        scopes: Vec<String>,
    },
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rehearse) struct Caller {
    /// Its index in `config.consumers`; `None` for one that is not listed.
    pub(in crate::rehearse) consumer: Option<usize>,
    /// What it shows.
    pub(in crate::rehearse) credential: Credential,
}

/// The key of a consumer in rehearsals.
pub(in crate::rehearse) fn key_of(consumer: usize) -> String {
    format!("rehearsed-key-of-consumer-{consumer}")
}

/// Gives each consumer a key for the rehearsal.
pub(in crate::rehearse) fn add_keys(config: &mut Config) {
    for (at, consumer) in config.consumers.iter_mut().enumerate() {
        let stored = Stored::Sha256(digest(key_of(at).as_bytes()));
        consumer.keys.push(Key { stored, validity: Validity::default(), hint: None, created: None });
    }
}

/// Callers that may ask for a model of a pool with this API: consumers without a location fence first.
pub(in crate::rehearse) fn callers(config: &Config, pool: &PoolConfig, model: &str, api: Api) -> Vec<Caller> {
    let mut listed: Vec<usize> = (0..config.consumers.len()).collect();
    listed.sort_by_key(|at| config.consumers[*at].rights.locations.is_some());
    let mut found: Vec<Caller> = listed.into_iter().filter_map(|at| consumer(config, pool, model, api, at)).collect();
    let auth = &config.plugins.auth;
    if let Some(unlisted) =
        auth.tokens.as_ref().and_then(|tokens| tokens.unlisted.as_ref()).filter(|unlisted| may(&unlisted.rights, pool, model, api))
    {
        let credential = token("rehearsal", &unlisted.rights, pool);
        found.push(Caller { consumer: None, credential });
    }
    if !auth.required && pool.roles.is_empty() && pool.scopes.is_empty() {
        found.push(Caller { consumer: None, credential: Credential::None });
    }
    found
}

fn consumer(config: &Config, pool: &PoolConfig, model: &str, api: Api, at: usize) -> Option<Caller> {
    let consumer = &config.consumers[at];
    let rights = &consumer.rights;
    if !may(rights, pool, model, api) {
        return None;
    }
    let needs_token = [&rights.roles, &rights.scopes, &pool.roles, &pool.scopes].into_iter().any(|grants| !grants.is_empty());
    let credential = match (needs_token, consumer.claims.first()) {
        (false, _) => Credential::Key(at),
        (true, Some(claim)) if config.plugins.auth.tokens.is_some() => token(claim, rights, pool),
        _ => return None,
    };
    Some(Caller { consumer: Some(at), credential })
}

/// A token with all that a right or a pool may ask for.
fn token(claim: &str, rights: &Rights, pool: &PoolConfig) -> Credential {
    let both = |one: &[String], other: &[String]| [one, other].concat();
    Credential::Token { claim: claim.to_owned(), roles: both(&rights.roles, &pool.roles), scopes: both(&rights.scopes, &pool.scopes) }
}

fn may(rights: &Rights, pool: &PoolConfig, model: &str, api: Api) -> bool {
    let model = rights.models.as_ref().is_none_or(|models| models.iter().any(|allowed| allowed == model));
    let pool = rights.pools.as_ref().is_none_or(|pools| pools.iter().any(|allowed| **allowed == *pool.name));
    model && pool && rights.apis.as_ref().is_none_or(|apis| apis.contains(&api))
}
