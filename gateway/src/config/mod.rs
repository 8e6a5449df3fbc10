//! The configuration: TOML text → [`raw`] → [`Config`] → what runs. Three separate steps.
//!
//! [`Config::load`] reports all errors, each with its line, its key, what was expected and the nearest known name.

mod callers;
mod checker;
pub mod error;
mod expired;
mod identity;
mod lacking_here;
mod ledger;
mod limit_bounds;
mod limits;
mod load;
mod log_filter;
mod metering;
mod otlp;
mod parse;
pub mod pem;
mod places;
mod plugins;
mod portal;
mod quota_pools;
pub mod raw;
pub mod reference;
mod rights;
pub mod scalar;
mod scope_names;
pub mod secret;
mod shadow;
mod sign_in;
pub mod tls;
mod traces;
mod transform;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use spillway_plugins::limits::Rules;
use spillway_plugins::retry::StatusSet;
use spillway_plugins::service_tier::ServiceTier;

use crate::balance::budget::BudgetRules;
use crate::balance::circuit::CircuitRules;
use crate::balance::member::Serves;
use crate::balance::policy::Policy;
use crate::balance::provisioned::PtuConfig;
use crate::balance::ptu::steer::Rules as SteeringRules;
use crate::balance::target::TargetId;
use crate::provider::BackendKind;
pub use callers::{CertificateName, Consumer, Key, UNLISTED, identifier, number_of};
pub use expired::expired;
pub use identity::{COGNITIVE_SERVICES, ClientCredentials, ClientProof, Identity, TokenAuth, WorkloadIdentity};
pub use lacking_here::lacking_here;
pub use ledger::{Durability, LedgerRules, ShipRules, ShipTo};
pub use limit_bounds::always_below;
pub use limits::{ConsumerLimits, Group, WhenLost, lineage};
pub use log_filter::{LogFilter, LogFilterError};
pub use metering::{DeploymentPrice, EstimateRule, OnDisconnect, Payer, PriceByShare, Prices, UsageRules};
pub use otlp::OtlpRules;
pub use places::{is_written, position_of};
pub use plugins::{
    Auth, CacheNamespace, CacheRules, ConsumerLog, ExactRules, GuardRules, IssuerRules, Plugins, PromptLogRules, SafetyRules,
    SemanticRules, TokenRules, Unlisted,
};
pub use portal::{IssuedKeyRules, PersonNames, Portal, PortalListener};
pub use rights::Rights;
pub use scope_names::{consumer_name, group_name, model_name, pool_name};
pub use secret::{Secret, Secrets};
pub use shadow::{MEMORY as SHADOW_MEMORY, ShadowRules};
pub use sign_in::{Role, SignInRules, origin_of};
pub use traces::TraceRules;
pub use transform::Transforms;

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Listeners, bounds and timers of the gateway itself.
    pub server: Server,
    /// Upstream resources.
    pub backends: Vec<BackendConfig>,
    /// Which backends serve which models.
    pub pools: Vec<PoolConfig>,
    /// The labels of the quotas that deployments share.
    pub quota_pools: BTreeMap<TargetId, Arc<str>>,
    /// Who may call.
    pub consumers: Vec<Consumer>,
    /// Consumers that share limits.
    pub groups: Vec<Group>,
    /// The rules of the plugins.
    pub plugins: Plugins,
    /// How use is reserved and counted.
    pub usage: UsageRules,
    /// The ledger; `None` without `state_dir`.
    pub ledger: Option<LedgerRules>,
    /// The price tables.
    pub prices: Prices,
    /// Deployments whose price per hour is divided by shares.
    pub prices_by_share: Vec<PriceByShare>,
    /// How long the gateway remembers stored objects.
    pub objects: ObjectsConfig,
    /// What several nodes share.
    pub redis: Option<Redis>,
    /// Logs of the gateway.
    pub log: Log,
    /// Traces, if there are any.
    pub traces: Option<TraceRules>,
    /// Listeners for a mirror of live traffic.
    pub shadow: Option<ShadowRules>,
    /// Valid settings that are probably mistakes.
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
    /// Sign-in on the admin listener.
    pub sign_in: Option<SignInRules>,
    /// Worker threads; `None` for one per core.
    pub threads: Option<usize>,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// All request bodies that are kept for retries, in bytes.
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
    /// Plain JSON requests over HTTP/1.1 are read without Pingora's session.
    pub fast_path: bool,
    /// Send `x-spillway-*` headers.
    pub response_headers: bool,
    /// How long `/readyz` answers 503 before the listeners close.
    pub lb_delay: Duration,
    /// How long requests in flight may take after that.
    pub drain_timeout: Duration,
    /// Re-read the config when its file changes.
    pub watch: bool,
    /// TLS on the listeners.
    pub tls: Option<ServerTls>,
    /// Origins whose pages may call.
    pub cors_origins: Vec<String>,
    /// Directory for what must survive a restart.
    pub state_dir: Option<PathBuf>,
    /// The page where people make their own keys.
    pub portal: Portal,
}

impl Server {
    /// Whether an admin listener on this address lets in everybody from other machines.
    pub fn is_open(admin: SocketAddr, has_token: bool, signs_in: bool) -> bool {
        !admin.ip().is_loopback() && !has_token && !signs_in
    }

    /// The same of the admin listener as it is configured.
    pub fn is_open_to_everybody(&self) -> bool {
        Server::is_open(self.admin, self.admin_token.is_some(), self.sign_in.is_some())
    }
}

/// TLS on the listeners: files that are re-read when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The CAs of client certificates; `None` asks for no client certificate.
    pub client_ca: Option<PathBuf>,
    /// Those CAs' revocation lists.
    pub client_crl: Option<PathBuf>,
    /// Whether callers need a client certificate.
    pub client_required: bool,
    /// Whether TLS 1.2 is accepted, too.
    pub tls12: bool,
}

/// The gateway's credential for a backend.
#[derive(Debug, Clone, PartialEq)]
pub enum BackendAuth {
    /// None.
    None,
    /// A key.
    ApiKey(Secret),
    /// The caller's own credential is sent on.
    Passthrough,
    /// A token of an identity.
    Token(TokenAuth),
}

/// The address of a backend.
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
pub struct BackendConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Its API.
    pub kind: BackendKind,
    /// Its address; `None` for a mock.
    pub endpoint: Option<Endpoint>,
    /// Its location, for location fences.
    pub location: Option<Arc<str>>,
    /// The gateway's credential for it.
    pub auth: BackendAuth,
    /// Model to deployment.
    pub deployments: BTreeMap<String, String>,
    /// The prices of deployments that differ from the price table.
    pub prices: BTreeMap<String, DeploymentPrice>,
    /// The provisioned throughput of deployments that have one.
    pub ptu: BTreeMap<String, PtuConfig>,
    /// Requests in flight per deployment.
    pub max_concurrent: Option<u32>,
    /// CAs to trust in addition to the system's.
    pub ca: Vec<CertificateDer<'static>>,
}

impl BackendConfig {
    /// The name that `model` has at this backend.
    pub fn deployment<'a>(&'a self, model: &'a str) -> &'a str {
        self.deployments.get(model).map_or(model, String::as_str)
    }
}

/// A backend as a member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// Index into [`Config::backends`].
    pub backend: usize,
    /// Its tier; lower goes first.
    pub priority: u32,
    /// Its share within the tier.
    pub weight: u32,
    /// The most tokens that a prompt may have there, if the config sets it.
    pub context: Option<u64>,
    /// The service tier in which its requests are sent, if it is not the callers' choice.
    pub service_tier: Option<ServiceTier>,
    /// Which requests it serves.
    pub serves: Serves,
}

/// When a request goes to another member.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryRules {
    /// Most failed attempts.
    pub max_attempts: u32,
    /// Statuses after which another member is asked.
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

/// Timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection is made.
    pub connect: Duration,
    /// Until a stream's first event, or its first output.
    pub first_token: Duration,
    /// Until the head of a plain answer.
    pub answer: Duration,
    /// Until the first output of a model that thinks.
    pub thinking: Duration,
    /// Longest silence within an answer.
    pub idle: Duration,
    /// For the whole request.
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
    /// Statuses that count as healthy.
    pub statuses: StatusSet,
    /// Failed checks in a row after which a member is out.
    pub unhealthy_after: usize,
    /// Successful checks in a row after which it is in again.
    pub healthy_after: usize,
}

/// A pool: the members that serve a set of models.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Its name.
    pub name: Arc<str>,
    /// The models it serves.
    pub models: Vec<String>,
    /// How the members of one tier share the traffic.
    pub policy: Policy,
    /// Its members.
    pub members: Vec<MemberConfig>,
    /// When a member's circuit opens.
    pub circuit: CircuitRules,
    /// When a request goes to another member.
    pub retry: RetryRules,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// How many bytes of a stream's text are kept to continue it if it breaks; `None` if it isn't continued.
    pub rescue: Option<usize>,
    /// The limits of all callers together.
    pub limits: Rules,
    /// Active health checks.
    pub health: Option<HealthRules>,
    /// A caller's token needs one of these roles.
    pub roles: Vec<String>,
    /// A caller's token needs one of these scopes.
    pub scopes: Vec<String>,
    /// How it uses provisioned throughput before a member answers 429; `None` if it doesn't.
    pub steering: Option<SteeringRules>,
    /// Changes to its requests and their answers.
    pub transform: Transforms,
}

/// How long the gateway remembers stored objects, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectsConfig {
    /// Most objects.
    pub max: u64,
    /// How long each is remembered.
    pub ttl: Duration,
}

/// Redis or Valkey, which several nodes share.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// Its URL, with the password.
    pub url: Secret,
    /// The prefix of every key.
    pub prefix: String,
    /// This node's name, if the config sets it.
    pub node: Option<String>,
    /// The least number of nodes.
    pub nodes: u64,
    /// How token quotas and budgets work while it can't be reached.
    pub quotas_when_lost: WhenLost,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogConfig {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// A file, appended to.
    File(PathBuf),
}

/// The gateway's logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// What is shown.
    pub level: LogFilter,
    /// Where the access log goes.
    pub access: AccessLogConfig,
    /// Text for people instead of JSON.
    pub text: bool,
}

#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod tests;
