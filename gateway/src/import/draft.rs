//! The config that an import makes.

use std::collections::BTreeMap;

/// A config in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) backends: Vec<DraftBackend>,
    pub(super) pools: Vec<DraftPool>,
    /// Limits that each caller had, for consumers that must still be made.
    pub(super) per_consumer: Vec<(String, DraftLimits)>,
    /// How long cached answers are valid.
    pub(super) exact_cache: Option<Millis>,
    pub(super) semantic_cache: Option<Semantic>,
    pub(super) safety: Option<Safety>,
    /// Services that policies use and that are in no pool: name, URL and credential.
    pub(super) services: Vec<(String, String, DraftAuth)>,
}

/// Milliseconds, written in the largest unit that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(pub(super) u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}ms", self.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DraftKind {
    Azure,
    OpenAi,
    Anthropic,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum DraftAuth {
    #[default]
    None,
    /// The key is in this environment variable.
    ApiKey(String),
    ManagedIdentity {
        client_id: Option<String>,
        scope: Option<String>,
    },
    /// The secret is in the environment variable `secret`.
    Client {
        tenant_id: String,
        client_id: String,
        secret: String,
    },
    Auto,
}

#[derive(Debug, Clone)]
pub(super) struct DraftBackend {
    pub(super) name: String,
    /// Its position in the source.
    pub(super) from: String,
    pub(super) kind: DraftKind,
    pub(super) url: String,
    /// The version for Azure's dated API; `None` for `v1`.
    pub(super) api_version: Option<String>,
    pub(super) location: Option<String>,
    pub(super) auth: DraftAuth,
    pub(super) deployments: BTreeMap<String, String>,
    pub(super) max_concurrent: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DraftMember {
    pub(super) backend: String,
    pub(super) priority: u64,
    pub(super) weight: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct DraftCircuit {
    pub(super) failures: Option<u64>,
    pub(super) failure_percent: Option<u64>,
    pub(super) interval: Option<Millis>,
    pub(super) statuses: Option<Vec<(u16, u16)>>,
    pub(super) errors: Option<Vec<&'static str>>,
    pub(super) trip: Option<Millis>,
    pub(super) honour_retry_after: Option<bool>,
    pub(super) default_retry_after: Option<Millis>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct DraftRetry {
    pub(super) max_attempts: Option<u64>,
    pub(super) statuses: Option<Vec<(u16, u16)>>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct DraftTimeouts {
    pub(super) first_token: Option<Millis>,
    pub(super) answer: Option<Millis>,
    pub(super) idle: Option<Millis>,
    pub(super) total: Option<Millis>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct DraftLimits {
    pub(super) requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
    pub(super) concurrent_requests: Option<u64>,
    /// Tokens per period.
    pub(super) token_quota: Option<(u64, &'static str)>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct DraftPool {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) models: Vec<String>,
    /// `None` for `weighted`.
    pub(super) policy: Option<&'static str>,
    pub(super) members: Vec<DraftMember>,
    pub(super) circuit: DraftCircuit,
    pub(super) retry: DraftRetry,
    pub(super) timeouts: DraftTimeouts,
    pub(super) limits: DraftLimits,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Semantic {
    /// The pool for embeddings.
    pub(super) pool: String,
    /// In hundredths of a percent, so that it is written exactly.
    pub(super) threshold: u32,
    pub(super) ttl: Option<Millis>,
    pub(super) max_messages: Option<u64>,
    pub(super) ignore_system: bool,
    pub(super) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Safety {
    pub(super) url: String,
    pub(super) auth: DraftAuth,
    pub(super) categories: BTreeMap<&'static str, u64>,
    pub(super) eight: bool,
    pub(super) blocklists: Vec<String>,
    pub(super) prompt_shield: bool,
}
