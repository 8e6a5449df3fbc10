//! Who may call, and what.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::auth::jwt::Rules;
use spillway_plugins::auth::{Pepper, Stored, Validity};
use spillway_plugins::limits::Class;

use super::{ConsumerLimits, ConsumerLog, Transforms};

/// How callers are told apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Auth {
    /// Whether callers without a known credential are refused.
    pub required: bool,
    /// What keys are hashed with where they are stored as HMAC.
    pub pepper: Option<Pepper>,
    /// Which tokens are accepted.
    pub tokens: Option<TokenRules>,
}

/// Which tokens are accepted, and whom they mean.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRules {
    /// Where the issuer's metadata is.
    pub discovery: String,
    /// The `issuer` that the metadata must name.
    pub issuer: String,
    /// What a token must be like.
    pub rules: Rules,
    /// The claim that names the consumer.
    pub consumer_claim: String,
    /// Callers whose claim is no consumer's; `None` refuses them.
    pub unlisted: Option<Unlisted>,
}

/// Callers whose claim is no consumer's: each becomes a consumer by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlisted {
    /// Most of them.
    pub max: usize,
    /// What each may use.
    pub rights: Rights,
    /// What each may use up.
    pub limits: ConsumerLimits,
}

/// What a consumer may use. `None` is everything.
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
    /// Roles of which its tokens need one; empty for none.
    pub roles: Vec<String>,
    /// Scopes of which its tokens need one; empty for none.
    pub scopes: Vec<String>,
}

/// A key of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its digest.
    pub stored: Stored,
    /// When it is good.
    pub validity: Validity,
    /// What may be shown of it.
    pub hint: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
}

/// Tells keys apart without showing a whole digest.
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
    /// Values of the consumer claim that mean it.
    pub claims: Vec<String>,
    /// What it may use.
    pub rights: Rights,
    /// Headers that are withheld from others, and passed on for it.
    pub headers: Vec<http::HeaderName>,
    /// How urgent its requests are where room is short.
    pub class: Class,
    /// Index of its group.
    pub group: Option<usize>,
    /// What it may use up.
    pub limits: ConsumerLimits,
    /// Whose answers from the cache it gets; `None` if nobody's.
    pub cache: Option<CacheNamespace>,
    /// Whether its requests and their answers are looked at, where there is a guard.
    pub guard: bool,
    /// What is written down of its requests.
    pub prompt_log: ConsumerLog,
    /// What becomes of its requests on their way.
    pub transform: Transforms,
}

/// What the names of consumers that come from tokens begin with. No listed one's does: whatever belongs to a consumer goes
/// by its name, in limits, ledger, caches and stored things, now and under any later config.
pub const UNLISTED: &str = "token:";

/// Whose answers from the cache a consumer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheNamespace {
    /// Its own.
    Own,
    /// Those of all consumers that name it.
    Shared(Arc<str>),
}
