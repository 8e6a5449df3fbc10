//! `[plugins]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawLimits;
use super::guard::RawGuard;
use crate::config::scalar::{DurationText, SecretText, SizeText};

/// Stages that requests pass through.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlugins {
    /// How callers are identified.
    pub auth: Option<RawAuth>,
    /// The prompt log: prompts and answers in a file.
    pub prompt_log: Option<RawPromptLog>,
    /// The cache: answers that are used again.
    pub cache: Option<RawCache>,
    /// The guard: which prompts and answers it blocks.
    pub guard: Option<RawGuard>,
}

/// How callers are identified.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuth {
    /// Refuse callers without a known credential. Default true if there are consumers or `jwt`.
    pub required: Option<bool>,
    /// The HMAC key for keys that are stored as `hmac_sha256`.
    pub pepper: Option<SecretText>,
    /// Accept tokens of an OIDC issuer, such as Entra.
    pub jwt: Option<RawJwt>,
}

/// Tokens of an OIDC issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// The `iss` claim, and the address of discovery. For an Entra tenant both forms of its issuer are accepted,
    /// whichever is set; `common` or `organizations` as tenant needs `tenants`.
    pub issuer: String,
    /// Further accepted `iss` claims, whose tokens are signed with the same keys.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// URL of the issuer's metadata. Default: `issuer` with `/.well-known/openid-configuration`.
    pub discovery: Option<String>,
    /// Accepted `aud` claims.
    pub audiences: Vec<String>,
    /// Accepted `tid` claims. Default: any that the issuer allows.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Accepted signature algorithms: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`. Default `["RS256"]`.
    pub algorithms: Option<Vec<String>>,
    /// How much the issuer's clock may differ. Default `5m`.
    pub skew: Option<DurationText>,
    /// The claim that names the consumer: `azp` (which is `appid` in old tokens) for applications, `oid` for persons. Default `azp`.
    pub consumer_claim: Option<String>,
    /// Rules for callers whose claim belongs to no consumer. Without this table they get 403.
    pub unlisted: Option<RawUnlisted>,
}

/// Rules for callers with a valid token whose claim belongs to no consumer: each of them becomes a consumer
/// automatically.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUnlisted {
    /// Accept them. Default true.
    pub accept: Option<bool>,
    /// The maximum number of such consumers; further ones get 403. Default 1000.
    pub max: Option<usize>,
    /// Models they may use. Default: all.
    pub models: Option<Vec<String>>,
    /// Pools they may use. Default: all.
    pub pools: Option<Vec<String>>,
    /// Locations they may be served from. Default: all.
    pub locations: Option<Vec<String>>,
    /// Kinds of API they may use. Default: all.
    pub apis: Option<Vec<String>>,
    /// Their tokens need one of these application roles.
    pub roles: Option<Vec<String>>,
    /// Their tokens need one of these scopes.
    pub scopes: Option<Vec<String>>,
    /// The limits of each.
    pub limits: Option<RawLimits>,
}

/// The prompt log: prompts and answers in a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPromptLog {
    /// Turns it on. Default false.
    pub enabled: Option<bool>,
    /// The file; rotated files are in the same folder, with a time in their names.
    pub path: Option<String>,
    /// How much is recorded. Default `redacted`.
    pub level: Option<RawLogLevel>,
    /// The share of requests that are recorded, 0 to 1. Default 1.
    pub sample: Option<f64>,
    /// What is removed from prompts and answers before anything is written. Default: all kinds.
    pub redact: Option<Vec<RawRedaction>>,
    /// name = your own regular expression: matching text is replaced by the name.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
    /// Longest text of a message that is recorded; the rest is cut, and the record says so. Default `32KiB`.
    pub max_message: Option<SizeText>,
    /// Size at which a new file is begun. Default `100MiB`.
    pub rotate_size: Option<SizeText>,
    /// Time after which a new file is begun. Default `1d`.
    pub rotate_every: Option<DurationText>,
    /// How long rotated files are kept. Default `30d`.
    pub keep: Option<DurationText>,
    /// Compress rotated files. Default true.
    pub compress: Option<bool>,
    /// Send the records to an OpenTelemetry collector, too, as log events.
    pub otlp: Option<RawOtlp>,
}

/// An OpenTelemetry collector that accepts OTLP over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOtlp {
    /// Its root URL, such as `http://127.0.0.1:4318`; `/v1/logs` or `/v1/traces` is added.
    pub url: String,
    /// name = value of request headers, such as an API key.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
}

/// How much is recorded of a request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawLogLevel {
    /// Nothing.
    Off,
    /// Everything except prompt and answer.
    Metadata,
    /// Prompt and answer, without sensitive texts.
    Redacted,
    /// Prompt and answer, unchanged.
    Full,
}

/// What is removed from prompts and answers.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawRedaction {
    /// Mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// Bank accounts.
    Iban,
    /// Payment cards.
    Card,
    /// Keys and tokens of known shape, passwords in assignments.
    Secret,
}

/// The cache: answers that are used again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCache {
    /// For equal requests.
    pub exact: Option<RawExactCache>,
    /// For requests with the same meaning.
    pub semantic: Option<RawSemanticCache>,
}

/// The cache for equal requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExactCache {
    /// How long an answer is valid. Default `10m`.
    pub ttl: Option<DurationText>,
    /// Memory for answers. Default `64MiB`.
    pub max_memory: Option<SizeText>,
    /// Longest answer that is cached. Default `1MiB`.
    pub max_answer: Option<SizeText>,
    /// How long a request waits for the answer to an equal one; then it is sent itself. Default `30s`.
    pub wait: Option<DurationText>,
    /// Cache answers that call tools, too. Default false.
    pub tool_calls: Option<bool>,
    /// Cache answers that a content filter has marked, too. Default false.
    pub filtered: Option<bool>,
}

/// The cache for requests with the same meaning.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSemanticCache {
    /// The pool for embeddings; the first of its models is used.
    pub embeddings: String,
    /// Least cosine similarity of two embeddings, 0 to 1. Default 0.95.
    pub threshold: Option<f64>,
    /// How long an answer is valid. Default `1h`.
    pub ttl: Option<DurationText>,
    /// Most questions in the cache. Default 10000; at most 100000.
    pub max_entries: Option<usize>,
    /// How long an embedding may take; then similar questions are not searched. Default `500ms`.
    pub limit: Option<DurationText>,
    /// Most messages, without instructions, of a request that uses this cache. Default 1.
    pub max_messages: Option<usize>,
    /// Ignore differences in instructions. Default false.
    pub ignore_system: Option<bool>,
    /// Only log which requests would be answered, with both prompts (redacted), to choose a threshold. Default false.
    pub dry_run: Option<bool>,
}
