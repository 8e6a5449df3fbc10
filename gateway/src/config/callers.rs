//! Who may call.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::auth::{Stored, Validity};
use spillway_plugins::limits::Class;

use super::{CacheNamespace, ConsumerLimits, ConsumerLog, IssuedKeyRules, Rights, Transforms};

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
    /// How long its requests may take in all, unless they say so themselves.
    pub deadline: Option<Duration>,
    /// Who owns it, in addition to the owners of its group.
    pub owners: Vec<String>,
    /// Which keys its owners may make.
    pub issued_keys: IssuedKeyRules,
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

/// The number that stands for the consumer or group of this name; the same in every process, never 0.
pub fn number_of(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name).max(1)
}
