//! The configuration: TOML text → [`raw`] → [`Config`] → what runs. Three separate things.
//!
//! [`Config::load`] reports everything that is wrong, each with its line, its key, what was
//! expected and the nearest known name.

mod callers;
mod content;
pub mod error;
mod identity;
mod ledger;
mod limits;
mod load;
mod metering;
pub mod pem;
pub mod raw;
pub mod reference;
pub mod scalar;
pub mod secret;
pub mod tls;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use spillway_plugins::limits::Rules;
use spillway_plugins::retry::StatusSet;

use crate::balance::budget::BudgetRules;
use crate::balance::circuit::CircuitRules;
use crate::balance::policy::Policy;
use crate::provider::BackendKind;
pub use callers::{Auth, CacheNamespace, CertificateName, Consumer, Key, Rights, TokenRules, UNLISTED, Unlisted, identifier};
pub use content::{
    CacheRules, ConsumerLog, ExactRules, GuardRules, OtlpRules, PromptLogRules, SafetyRules, SemanticRules, TraceRules, Transforms,
};
use error::ConfigError;
pub use identity::{COGNITIVE_SERVICES, ClientCredentials, ClientProof, Identity, TokenAuth, WorkloadIdentity};
pub use ledger::{Durability, LedgerRules};
pub use limits::{ConsumerLimits, Group, WhenLost};
pub use metering::{DeploymentPrice, OnDisconnect, Prices, UsageRules};
pub use secret::{Secret, Secrets};

/// A configuration that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Listeners, bounds and timers of the gateway itself.
    pub server: Server,
    /// Upstream resources.
    pub backends: Vec<Backend>,
    /// Which backends serve which models.
    pub pools: Vec<Pool>,
    /// Who may call.
    pub consumers: Vec<Consumer>,
    /// Consumers that share limits.
    pub groups: Vec<Group>,
    /// How callers are told apart.
    pub auth: Auth,
    /// How use is reserved and counted.
    pub usage: UsageRules,
    /// The record of who used what; `None` without `state_dir`.
    pub ledger: Option<LedgerRules>,
    /// Where prices come from.
    pub prices: Prices,
    /// What may be asked and answered, if that is looked at.
    pub guard: Option<GuardRules>,
    /// What is written down of prompts and answers, if it is.
    pub prompt_log: Option<Arc<PromptLogRules>>,
    /// Answers that needn't be asked for again, if they are kept.
    pub cache: Option<CacheRules>,
    /// What is remembered of stored things.
    pub objects: Objects,
    /// What several nodes share.
    pub redis: Option<Redis>,
    /// Logs of the gateway.
    pub log: Log,
    /// Distributed traces, if any are told.
    pub traces: Option<TraceRules>,
    /// What is valid but probably not meant.
    pub warnings: Vec<error::Problem>,
}

/// Listeners, bounds and timers of the gateway itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Addresses that callers connect to.
    pub listen: Vec<SocketAddr>,
    /// Address of metrics, health and the admin API.
    pub admin: SocketAddr,
    /// Token for the admin API.
    pub admin_token: Option<Secret>,
    /// Worker threads; `None` for one per core.
    pub threads: Option<usize>,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// All request bodies held for replay, in bytes.
    pub max_buffered: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Requests at once.
    pub max_in_flight: usize,
    /// Time for a whole request head.
    pub header_timeout: Duration,
    /// Longest pause within a request body.
    pub body_timeout: Duration,
    /// Slowest acceptable request body in bytes per second.
    pub min_body_rate: usize,
    /// Longest wait for a caller to take a piece of the answer.
    pub write_timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
    /// HTTP/2 with prior knowledge on cleartext listeners.
    pub h2c: bool,
    /// Send `x-spillway-*` headers.
    pub response_headers: bool,
    /// How long `/readyz` says 503 before the listeners close.
    pub lb_delay: Duration,
    /// How long requests in flight may take after that.
    pub drain_timeout: Duration,
    /// Read the config anew when its file changes.
    pub watch: bool,
    /// TLS on the listeners.
    pub tls: Option<ServerTls>,
    /// Origins whose pages may call.
    pub cors_origins: Vec<String>,
    /// Directory for what must survive a restart.
    pub state_dir: Option<PathBuf>,
}

/// TLS on the listeners: files that are read anew when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The CAs of client certificates; `None` asks for none.
    pub client_ca: Option<PathBuf>,
    /// Those CAs' revocation lists.
    pub client_crl: Option<PathBuf>,
    /// Whether callers must show a client certificate.
    pub client_required: bool,
    /// Whether TLS 1.2 is spoken, too.
    pub tls12: bool,
}

/// How the gateway proves itself to a backend.
#[derive(Debug, Clone, PartialEq)]
pub enum BackendAuth {
    /// Not at all.
    None,
    /// With a key.
    ApiKey(Secret),
    /// The caller's own credential is passed on.
    Passthrough,
    /// With a token of an identity.
    Token(TokenAuth),
}

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS or not.
    pub tls: bool,
    /// Host to resolve: a name or an IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host name for TLS.
    pub server_name: String,
    /// Value of the `Host` header.
    pub authority: String,
    /// Path prefix without a trailing slash; often empty.
    pub prefix: String,
}

/// One upstream resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its name.
    pub name: Arc<str>,
    /// What it speaks.
    pub kind: BackendKind,
    /// Where it is; `None` for a mock.
    pub endpoint: Option<Endpoint>,
    /// Its location, for fences.
    pub location: Option<Arc<str>>,
    /// How the gateway proves itself there.
    pub auth: BackendAuth,
    /// Model to deployment.
    pub deployments: BTreeMap<String, String>,
    /// What deployments cost, where that is not what the price table says.
    pub prices: BTreeMap<String, DeploymentPrice>,
    /// Requests in flight per deployment.
    pub max_concurrent: Option<u32>,
    /// CAs to trust beside the system's.
    pub ca: Vec<CertificateDer<'static>>,
}

impl Backend {
    /// The name that `model` has at this backend.
    pub fn deployment<'a>(&'a self, model: &'a str) -> &'a str {
        self.deployments.get(model).map_or(model, String::as_str)
    }
}

/// A backend as a member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Index into [`Config::backends`].
    pub backend: usize,
    /// Its tier; lower goes first.
    pub priority: u32,
    /// Its share within the tier.
    pub weight: u32,
    /// The most tokens that a prompt may have there, if the config says so.
    pub context: Option<u64>,
}

/// When a request goes to another member.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryRules {
    /// Attempts that may fail.
    pub max_attempts: u32,
    /// Statuses that go elsewhere.
    pub statuses: StatusSet,
    /// How often a member is asked again before the others are.
    pub same_target: u32,
    /// How long a request may wait when every member is throttled.
    pub wait: Duration,
    /// Requests that may wait at once.
    pub queue: usize,
    /// Bound on retries after failures.
    pub budget: BudgetRules,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a stream's first sign of life, or its first output.
    pub first_token: Duration,
    /// Until the head of a plain answer.
    pub answer: Duration,
    /// Until the first output of a model that thinks.
    pub thinking: Duration,
    /// Longest silence within an answer.
    pub idle: Duration,
    /// For everything.
    pub total: Duration,
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRules {
    /// Path and query to GET.
    pub path: String,
    /// Time between checks.
    pub interval: Duration,
    /// Time for one check.
    pub timeout: Duration,
    /// Statuses that are healthy.
    pub statuses: StatusSet,
    /// Failed checks in a row that take a member out.
    pub unhealthy_after: usize,
    /// Good checks in a row that bring it back.
    pub healthy_after: usize,
}

/// A pool: the members that serve a set of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// The models it serves.
    pub models: Vec<String>,
    /// How the members of one tier share the traffic.
    pub policy: Policy,
    /// Its members.
    pub members: Vec<Member>,
    /// When a member is taken out.
    pub circuit: CircuitRules,
    /// When a request goes to another member.
    pub retry: RetryRules,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many bytes of a stream's text are kept to continue it if it breaks; `None` if it isn't continued.
    pub rescue: Option<usize>,
    /// What all callers may use up together.
    pub limits: Rules,
    /// Active health checks.
    pub health: Option<HealthRules>,
    /// Roles of which a caller's token needs one.
    pub roles: Vec<String>,
    /// Scopes of which a caller's token needs one.
    pub scopes: Vec<String>,
    /// What becomes of its requests on their way.
    pub transform: Transforms,
}

/// What is remembered of stored things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// Most of them.
    pub max: u64,
    /// How long.
    pub ttl: Duration,
}

/// What several nodes share.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// Where it is, with its password.
    pub url: Secret,
    /// What every key begins with.
    pub prefix: String,
    /// This node's name, if it is given.
    pub node: Option<String>,
    /// How many nodes there are at least.
    pub nodes: u64,
    /// What token quotas and budgets do while it is out of reach.
    pub quotas_when_lost: WhenLost,
}

/// Where one line per request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// A file, appended to.
    File(PathBuf),
}

/// Logs of the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A level or filter.
    pub level: String,
    /// Where one line per request goes.
    pub access: AccessLog,
    /// Written for people instead of programs.
    pub text: bool,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(path: &Path, secrets: &Secrets) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Config::parse(&text, path, secrets)
    }

    /// Reads and checks a text; `path` is named in errors.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong.
    pub fn parse(text: &str, path: &Path, secrets: &Secrets) -> Result<Config, ConfigError> {
        let loaded = load::load(text);
        validate::validate(loaded, secrets).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// The JSON Schema of the file.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(raw::RawConfig)
    }
}

#[cfg(test)]
mod tests;
