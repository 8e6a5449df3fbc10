//! What callers of this room give it and get: keys to be issued, keys that were just issued, and what may be shown of them.

use std::sync::Arc;

use crate::config::Secret;

/// A key to be issued. Times are in seconds since 1970.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// The consumer of the config that it belongs to.
    pub consumer: Arc<str>,
    /// What people call it: up to 128 characters.
    pub label: Option<String>,
    /// The subject of the person that it belongs to.
    pub owner: Option<String>,
    /// From when on it is valid; `None` for now.
    pub not_before: Option<i64>,
    /// Until when it is valid; `None` for ever.
    pub expires: Option<i64>,
    /// The models that it may be used for, of those that its consumer may use; `None` for all of them.
    pub models: Option<Vec<String>>,
}

/// A key that was just issued. The key itself is nowhere else.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Its id.
    pub id: String,
    /// The key.
    pub key: Secret,
    /// The part of it that may be shown.
    pub hint: String,
    /// Until when it is valid, in seconds since 1970.
    pub expires: Option<i64>,
}

/// What may be shown of an issued key. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub id: Arc<str>,
    /// The consumer that it belongs to.
    pub consumer: Arc<str>,
    /// Whether the config has this consumer; if not, the key is refused until it has it again.
    pub has_consumer: bool,
    /// What people call it.
    pub label: Option<String>,
    /// The subject of the person that it belongs to.
    pub owner: Option<String>,
    /// The models that it may be used for; `None` for all of its consumer.
    pub models: Option<Arc<[String]>>,
    /// The part of the key that may be shown.
    pub hint: String,
    /// When it was issued.
    pub created: i64,
    /// Who issued it.
    pub by: String,
    /// From when on it is valid.
    pub not_before: Option<i64>,
    /// Until when it is valid.
    pub expires: Option<i64>,
    /// Whether another key has taken its place, so that it ends early.
    pub replaced: bool,
    /// When it was revoked.
    pub revoked: Option<i64>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// When this node last saw it since its start.
    pub last_use: Option<i64>,
}
