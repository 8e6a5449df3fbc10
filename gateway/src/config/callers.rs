//! Who may call, and what each caller may use.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::auth::jwt::Rules;
use spillway_plugins::auth::{Pepper, Stored, Validity};
use spillway_plugins::limits::Class;

use super::{ConsumerLimits, ConsumerLog, Transforms};

/// How callers are identified.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Auth {
    /// Whether callers without a known credential are refused.
    pub required: bool,
    /// The HMAC key for keys that are stored as HMAC.
    pub pepper: Option<Pepper>,
    /// Which tokens are accepted.
    pub tokens: Option<TokenRules>,
}

/// Which tokens are accepted, and which consumers they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRules {
    /// URL of the issuer's metadata.
    pub discovery: String,
    /// The `issuer` that the metadata must name.
    pub issuer: String,
    /// The checks of a token's claims.
    pub rules: Rules,
    /// The claim that names the consumer.
    pub consumer_claim: String,
    /// Rules for callers whose claim belongs to no consumer; `None` refuses them.
    pub unlisted: Option<Unlisted>,
}

/// Rules for callers whose claim belongs to no consumer: each of them becomes a consumer automatically.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlisted {
    /// The maximum number of such consumers.
    pub max: usize,
    /// What each may use.
    pub rights: Rights,
    /// The limits of each.
    pub limits: ConsumerLimits,
}

/// What a consumer may use. `None` means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Models.
    pub models: Option<Vec<String>>,
    /// Pools.
    pub pools: Option<Vec<String>>,
    /// Locations.
    pub locations: Option<Vec<Arc<str>>>,
    /// Kinds of API.
    pub apis: Option<Vec<Api>>,
    /// Its tokens need one of these roles; empty if none is needed.
    pub roles: Vec<String>,
    /// Its tokens need one of these scopes; empty if none is needed.
    pub scopes: Vec<String>,
}

/// A key of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its digest.
    pub stored: Stored,
    /// When it is valid.
    pub validity: Validity,
    /// The part of it that may be shown.
    pub hint: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
}

/// Identifies a key without showing the whole digest.
pub fn identifier(stored: &Stored) -> String {
    let (Stored::Sha256(digest) | Stored::Hmac(digest)) = stored;
    digest.to_string().chars().take(12).collect()
}

/// A name in a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// In its subject alternative name.
    Alternative(String),
    /// Its subject.
    Subject(String),
}

/// An application or a person that calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Its name.
    pub name: Arc<str>,
    /// Its keys.
    pub keys: Vec<Key>,
    /// Its client certificates.
    pub certificates: Vec<CertificateName>,
    /// Values of the consumer claim that belong to it.
    pub claims: Vec<String>,
    /// What it may use.
    pub rights: Rights,
    /// Headers that are removed from other consumers' requests, and sent on for it.
    pub headers: Vec<http::HeaderName>,
    /// How urgent its requests are when there is not enough capacity.
    pub class: Class,
    /// Index of its group.
    pub group: Option<usize>,
    /// Its limits.
    pub limits: ConsumerLimits,
    /// Whose cached answers it gets; `None` if it doesn't use the cache.
    pub cache: Option<CacheNamespace>,
    /// Whether the guard, if there is one, checks its requests and their answers.
    pub guard: bool,
    /// What the prompt log records of its requests.
    pub prompt_log: ConsumerLog,
    /// Changes to its requests and their answers.
    pub transform: Transforms,
}

/// The prefix of the names of consumers that come from tokens. No listed consumer's name may begin with it: limits,
/// ledger, caches and stored objects know a consumer by its name, now and under any later config.
pub const UNLISTED: &str = "token:";

/// Whose cached answers a consumer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheNamespace {
    /// Its own.
    Own,
    /// Those of all consumers with this namespace.
    Shared(Arc<str>),
}
