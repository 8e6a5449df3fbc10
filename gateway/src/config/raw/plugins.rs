//! `[plugins]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawLimits;
use super::guard::RawGuard;
use crate::config::scalar::{DurationText, SecretText, SizeText};

/// What requests pass through.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlugins {
    /// Who is calling.
    pub auth: Option<RawAuth>,
    /// Prompts and answers on disk.
    pub prompt_log: Option<RawPromptLog>,
    /// Answers that needn't be asked for again.
    pub cache: Option<RawCache>,
    /// What may be asked and answered.
    pub guard: Option<RawGuard>,
}

/// Who is calling.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuth {
    /// Refuse callers without a known credential. Default true if there are consumers or `jwt`.
    pub required: Option<bool>,
    /// What keys are hashed with where they are stored as `hmac_sha256`.
    pub pepper: Option<SecretText>,
    /// Accept tokens of an OIDC issuer, such as Entra.
    pub jwt: Option<RawJwt>,
}

/// Tokens of an OIDC issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// The `iss` claim, and where discovery starts. For an Entra tenant both forms of its issuer are
    /// accepted, whichever is given; `common` or `organizations` as tenant needs `tenants`.
    pub issuer: String,
    /// Further accepted `iss` claims, whose tokens are signed with the same keys.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Where the issuer's metadata is. Default: `issuer` with `/.well-known/openid-configuration`.
    pub discovery: Option<String>,
    /// Accepted `aud` claims.
    pub audiences: Vec<String>,
    /// Accepted `tid` claims. Default: any that the issuer allows.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Accepted signature algorithms: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`. Default `["RS256"]`.
    pub algorithms: Option<Vec<String>>,
    /// How far the issuer's clock may be off. Default `5m`.
    pub skew: Option<DurationText>,
    /// The claim that names the consumer: `azp` (which is `appid` in old tokens) for applications, `oid` for persons. Default `azp`.
    pub consumer_claim: Option<String>,
    /// Callers whose claim is no consumer's. Without this table they get 403.
    pub unlisted: Option<RawUnlisted>,
}

/// Callers with a good token whose claim is no consumer's: each becomes a consumer by itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUnlisted {
    /// Let them in. Default true.
    pub accept: Option<bool>,
    /// Most of them; past it new ones get 403. Default 1000.
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
    /// What each of them may use up.
    pub limits: Option<RawLimits>,
}

/// Prompts and answers on disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPromptLog {
    /// Switches it on. Default false.
    pub enabled: Option<bool>,
    /// The file; older parts stand beside it, their time in their names.
    pub path: Option<String>,
    /// How much is written down. Default `redacted`.
    pub level: Option<RawLogLevel>,
    /// The share of requests that are written down, 0 to 1. Default 1.
    pub sample: Option<f64>,
    /// What is removed from prompts and answers before anything is written. Default: all of it.
    pub redact: Option<Vec<RawRedaction>>,
    /// Regular expressions of your own: what they match is replaced by their names.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
    /// Longest text that is kept of a message; the rest is cut, and the record says so. Default `32KiB`.
    pub max_message: Option<SizeText>,
    /// Longest file before a new one is begun. Default `100MiB`.
    pub rotate_size: Option<SizeText>,
    /// Longest time in one file. Default `1d`.
    pub rotate_every: Option<DurationText>,
    /// How long older files are kept. Default `30d`.
    pub keep: Option<DurationText>,
    /// Compress older files. Default true.
    pub compress: Option<bool>,
    /// Hand the records to an OpenTelemetry collector, too, as log events.
    pub otlp: Option<RawOtlp>,
}

/// An OpenTelemetry collector that takes OTLP over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOtlp {
    /// Its root, such as `http://127.0.0.1:4318`; `/v1/logs` or `/v1/traces` is added.
    pub url: String,
    /// name = value of headers for it, such as an API key.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
}

/// How much is written down of a request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawLogLevel {
    /// Nothing.
    Off,
    /// All but prompt and answer.
    Metadata,
    /// Prompt and answer, without what must not be kept.
    Redacted,
    /// Prompt and answer as they were.
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

/// Answers that needn't be asked for again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCache {
    /// The same request again.
    pub exact: Option<RawExactCache>,
    /// A request that means the same.
    pub semantic: Option<RawSemanticCache>,
}

/// The same request again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExactCache {
    /// How long an answer is good. Default `10m`.
    pub ttl: Option<DurationText>,
    /// Memory for answers. Default `64MiB`.
    pub max_memory: Option<SizeText>,
    /// Longest answer that is kept. Default `1MiB`.
    pub max_answer: Option<SizeText>,
    /// How long a request waits for the answer to an equal one that is under way; then it asks by itself. Default `30s`.
    pub wait: Option<DurationText>,
    /// Keep answers that call tools, too. Default false.
    pub tool_calls: Option<bool>,
    /// Keep answers that a content filter has marked, too. Default false.
    pub filtered: Option<bool>,
}

/// A request that means the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSemanticCache {
    /// The pool that embeds, with the first of its models.
    pub embeddings: String,
    /// Least cosine similarity of two embeddings, 0 to 1. Default 0.95.
    pub threshold: Option<f64>,
    /// How long an answer is good. Default `1h`.
    pub ttl: Option<DurationText>,
    /// Most questions that are known. Default 10000; at most 100000.
    pub max_entries: Option<usize>,
    /// How long an embedding may take; then nothing similar is looked for. Default `500ms`.
    pub limit: Option<DurationText>,
    /// Most messages, instructions aside, of a request that is looked at. Default 1.
    pub max_messages: Option<usize>,
    /// Instructions may differ. Default false.
    pub ignore_system: Option<bool>,
    /// Only log what would be answered, with both prompts (redacted), to choose a threshold by. Default false.
    pub dry_run: Option<bool>,
}
