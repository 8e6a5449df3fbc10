//! The TOML file, as it is written: a mirror with no defaults and no meaning. [`super::validate`]
//! turns it into [`super::Config`]. The JSON Schema comes from these types, and the descriptions
//! in the configuration reference are their doc comments.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{DurationText, SecretText, SizeText, StatusText};

/// The whole file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Spillway configuration")]
pub struct RawConfig {
    /// Listeners, bounds and timers of the gateway itself.
    #[serde(default)]
    pub server: RawServer,
    /// Upstream resources. At least one.
    #[serde(default)]
    pub backends: Vec<RawBackend>,
    /// Which backends serve which models. At least one.
    #[serde(default)]
    pub pools: Vec<RawPool>,
    /// The applications and persons that call.
    #[serde(default)]
    pub consumers: Vec<RawConsumer>,
    /// What requests pass through.
    #[serde(default)]
    pub plugins: RawPlugins,
    /// Where prices come from.
    pub prices: Option<RawPrices>,
    /// Logs of the gateway.
    pub log: Option<RawLog>,
}

/// Listeners, bounds and timers of the gateway itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServer {
    /// Addresses that callers connect to. At least one.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Address of metrics, health and the admin API. Default `127.0.0.1:9090`.
    pub admin: Option<String>,
    /// Token for the admin API (`Authorization: Bearer`). Needed if `admin` is no loopback address.
    pub admin_token: Option<SecretText>,
    /// Directory for what must survive a restart. Nothing is kept there yet.
    pub state_dir: Option<String>,
    /// Worker threads. Default: one per core.
    pub threads: Option<usize>,
    /// Largest request body; a larger one gets 413. Default `32MiB`.
    pub max_body: Option<SizeText>,
    /// All request bodies held for replay, together; past it new ones get 503. Default `512MiB`.
    pub max_buffered: Option<SizeText>,
    /// Connections at once; past it new ones get 503 and are closed. Default 10000.
    pub max_connections: Option<usize>,
    /// Requests at once; past it new ones get 503. Default 10000.
    pub max_in_flight: Option<usize>,
    /// Time for a whole request head. Default `10s`.
    pub header_timeout: Option<DurationText>,
    /// Longest pause between two pieces of a request body. Default `30s`.
    pub body_timeout: Option<DurationText>,
    /// Slowest acceptable request body, per second, after the first five seconds. Default `1KiB`.
    pub min_body_rate: Option<SizeText>,
    /// Longest wait for a caller to take a piece of the answer. Default `30s`.
    pub write_timeout: Option<DurationText>,
    /// How long an idle connection is kept. Default `75s`.
    pub keepalive: Option<DurationText>,
    /// Accept HTTP/2 with prior knowledge on cleartext listeners. Default false.
    pub h2c: Option<bool>,
    /// Send `x-spillway-*` headers with answers. Default true.
    pub response_headers: Option<bool>,
    /// Permit secrets written into this file. Default false.
    pub allow_literal_secrets: Option<bool>,
    /// On SIGTERM, how long `/readyz` says 503 before the listeners close. Default `0s`.
    pub lb_delay: Option<DurationText>,
    /// On SIGTERM, how long requests in flight may take. Default `5m`.
    pub drain_timeout: Option<DurationText>,
    /// Certificate and key for the listeners.
    pub tls: Option<RawServerTls>,
}

/// Certificate and key for the listeners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServerTls {
    /// PEM file with the certificate chain.
    pub cert: String,
    /// PEM file with the private key.
    pub key: String,
    /// PEM file with the CAs that sign client certificates.
    pub client_ca: Option<String>,
}

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawKind {
    /// An Azure OpenAI resource.
    AzureOpenai,
    /// OpenAI, or anything that speaks its API.
    Openai,
    /// Anthropic, or anything that speaks its API.
    Anthropic,
    /// Answers in the gateway itself, as a last resort.
    Mock,
}

/// Which of Azure's two APIs a backend is asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawAzureApi {
    /// `/openai/v1/…`, the deployment in the body.
    V1,
    /// `/openai/deployments/…?api-version=…`.
    Dated,
}

/// One upstream resource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBackend {
    /// Its name in this file, in metrics and in logs.
    pub name: String,
    /// What it speaks.
    pub kind: RawKind,
    /// Its root, such as `https://contoso.openai.azure.com`. A trailing `/v1` or `/openai` is understood.
    pub url: Option<String>,
    /// Host name for TLS and the `Host` header, where `url` has an IP address.
    pub server_name: Option<String>,
    /// Where it is, for location fences.
    pub location: Option<String>,
    /// How the gateway proves itself there. Default `{ type = "none" }`.
    pub auth: Option<RawBackendAuth>,
    /// model = deployment; unlisted models keep their name.
    #[serde(default)]
    pub deployments: BTreeMap<String, String>,
    /// Azure only: `v1` (default) or `dated`.
    pub api: Option<RawAzureApi>,
    /// Azure only: the version for `api = "dated"`. Default `2024-10-21`.
    pub api_version: Option<String>,
    /// Requests in flight per deployment. Default: no bound.
    pub max_concurrent: Option<u32>,
    /// `kind = "mock"` only: what it answers.
    pub reply: Option<String>,
    /// PEM file with further CAs to trust for this backend.
    pub ca: Option<String>,
}

/// How the gateway proves itself to a backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RawBackendAuth {
    /// Not at all.
    None,
    /// With a key.
    ApiKey {
        /// The key.
        key: SecretText,
    },
    /// The caller's own credential is passed on.
    Passthrough,
    /// With the machine's managed identity.
    ManagedIdentity {
        /// Client id of a user-assigned identity.
        client_id: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// With a federated token file.
    WorkloadIdentity {
        /// Client id. Default `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// Tenant id. Default `AZURE_TENANT_ID`.
        tenant_id: Option<String>,
        /// Token file. Default `AZURE_FEDERATED_TOKEN_FILE`.
        token_file: Option<String>,
        /// Token scope.
        scope: Option<String>,
    },
    /// As an application with a secret or a certificate.
    ClientCredentials {
        /// Tenant id.
        tenant_id: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        secret: Option<SecretText>,
        /// PEM file with certificate and key.
        certificate: Option<String>,
        /// Token scope.
        scope: Option<String>,
    },
    /// With whatever the environment offers.
    Auto {
        /// Token scope.
        scope: Option<String>,
    },
}

/// How the members of one tier share the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPolicy {
    /// In proportion to the weights.
    Weighted,
    /// The less busy of two.
    LeastRequests,
    /// The faster of two.
    Latency,
    /// By what the rate-limit headers say is left.
    Headroom,
    /// The same member for the same conversation.
    Affinity,
}

/// A pool: the members that serve a set of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPool {
    /// Its name.
    pub name: String,
    /// The models it serves; a model stands in one pool.
    pub models: Vec<String>,
    /// How the members of one tier share the traffic. Default `weighted`.
    pub policy: Option<RawPolicy>,
    /// Its backends.
    pub members: Vec<RawMember>,
    /// When a member is taken out.
    pub circuit: Option<RawCircuit>,
    /// When a request goes to another member.
    pub retry: Option<RawRetry>,
    /// How long things may take.
    pub timeouts: Option<RawTimeouts>,
    /// Active health checks. Default: none.
    pub health: Option<RawHealth>,
}

/// A backend as a member of a pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMember {
    /// The backend's name.
    pub backend: String,
    /// Its tier; lower goes first. Default 1.
    pub priority: Option<u32>,
    /// Its share within the tier; 0 takes no traffic. Default 1.
    pub weight: Option<u32>,
}

/// When a member is taken out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCircuit {
    /// Failures within `interval` that open the circuit. Default 5.
    pub failures: Option<u32>,
    /// Percentage of failed calls within `interval` that opens it, instead of `failures`.
    pub failure_percent: Option<u32>,
    /// Calls before `failure_percent` means anything. Default 10.
    pub min_calls: Option<u32>,
    /// The sliding window. Default `1m`.
    pub interval: Option<DurationText>,
    /// Statuses that count as failures. Default `[408, "500-599"]`.
    pub statuses: Option<Vec<StatusText>>,
    /// Errors that count: `connect`, `tls`, `timeout`, `reset`, `first_token`, `idle`. Default all.
    pub errors: Option<Vec<String>>,
    /// How long the circuit stays open. Default `30s`.
    pub trip: Option<DurationText>,
    /// Let Retry-After say how long. Default true.
    pub honour_retry_after: Option<bool>,
    /// The longest Retry-After that is believed. Default `2m`.
    pub max_retry_after: Option<DurationText>,
    /// The throttle's length when a 429 says nothing. Default `10s`.
    pub default_retry_after: Option<DurationText>,
}

/// When a request goes to another member.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetry {
    /// Attempts that may fail; moves away from a throttled member don't count. Default 4.
    pub max_attempts: Option<u32>,
    /// Statuses that go elsewhere. Default `[408, 429, 500, 502, 503, 504, 529]`.
    pub statuses: Option<Vec<StatusText>>,
    /// How long a request may wait when every member is throttled. Default `0s`.
    pub wait: Option<DurationText>,
    /// Bound on retries after failures.
    pub budget: Option<RawBudget>,
}

/// Bound on retries after failures.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBudget {
    /// Retries as a share of requests, in percent. Default 20.
    pub percent: Option<u32>,
    /// Retries per second that are always allowed. Default 10.
    pub floor_per_second: Option<u32>,
}

/// How long things may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTimeouts {
    /// Until a connection stands, TLS included. Default `3s`.
    pub connect: Option<DurationText>,
    /// Until a stream's first output. Default `30s`.
    pub first_token: Option<DurationText>,
    /// Until the head of a plain answer. Default `2m`.
    pub answer: Option<DurationText>,
    /// Longest silence within an answer. Default `60s`.
    pub idle: Option<DurationText>,
    /// For everything, all attempts and waits included. Default `10m`.
    pub total: Option<DurationText>,
}

/// Active health checks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealth {
    /// Path and query to GET.
    pub path: String,
    /// Time between checks. Default `10s`.
    pub interval: Option<DurationText>,
    /// Time for one check. Default `3s`.
    pub timeout: Option<DurationText>,
    /// Statuses that are healthy. Default `["200-499"]`: any answer but a server error.
    pub statuses: Option<Vec<StatusText>>,
    /// Failed checks in a row that take a member out. Default 2.
    pub unhealthy_after: Option<usize>,
    /// Good checks in a row that bring it back. Default 1.
    pub healthy_after: Option<usize>,
}

/// An application or a person that calls.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConsumer {
    /// Its name in metrics, logs and the ledger.
    pub name: String,
    /// Its API keys.
    #[serde(default)]
    pub keys: Vec<RawKey>,
    /// Models it may use. Default: all.
    pub models: Option<Vec<String>>,
    /// Locations it may be served from. Default: all.
    pub locations: Option<Vec<String>>,
    /// What it may use up.
    pub limits: Option<RawLimits>,
}

/// An API key, by its hash.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKey {
    /// SHA-256 of the key, in hexadecimal.
    pub sha256: String,
}

/// What a consumer may use up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrent_requests: Option<u64>,
    /// Tokens per period.
    pub token_quota: Option<RawTokenQuota>,
    /// Money per period.
    pub budget: Option<RawMoneyBudget>,
}

/// A calendar period, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawPeriod {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Tokens per period.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTokenQuota {
    /// How many.
    pub tokens: u64,
    /// Per which period.
    pub period: RawPeriod,
}

/// Money per period.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMoneyBudget {
    /// US dollars.
    pub usd: f64,
    /// Per which period.
    pub period: RawPeriod,
}

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
}

/// Who is calling.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuth {
    /// Refuse callers without a known credential. Default true if there are consumers.
    pub required: Option<bool>,
    /// Accept tokens of an OIDC issuer.
    pub jwt: Option<RawJwt>,
}

/// Tokens of an OIDC issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// The `iss` claim, and where discovery starts.
    pub issuer: String,
    /// Accepted `aud` claims.
    pub audiences: Vec<String>,
    /// The claim that names the consumer. Default `azp`.
    pub consumer_claim: Option<String>,
}

/// Prompts and answers on disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPromptLog {
    /// Switches it on. Default false.
    pub enabled: Option<bool>,
    /// The file.
    pub path: Option<String>,
    /// What is removed before anything is written: `email`, `phone`, `iban`, `card`, `secret`.
    pub redact: Option<Vec<String>>,
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
    /// How long an answer is good.
    pub ttl: Option<DurationText>,
}

/// A request that means the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSemanticCache {
    /// The pool that embeds.
    pub embeddings: String,
    /// Least cosine similarity, 0 to 1.
    pub threshold: Option<f64>,
    /// How long an answer is good.
    pub ttl: Option<DurationText>,
}

/// Where prices come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPrices {
    /// A price table in LiteLLM's JSON format.
    pub file: Option<String>,
}

/// Logs of the gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,spillway=debug`. Default `info`.
    pub level: Option<String>,
    /// Where one line per request goes: `stdout`, `off` or a file. Default `stdout`.
    pub access: Option<String>,
}
