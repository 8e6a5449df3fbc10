//! Prometheus metrics, a file for each subject. The values of every label are bounded: they come from the config, never
//! from a caller. Metrics are looked up when the config is loaded, so that a request only adds numbers.

mod admin;
mod cache;
mod callers;
mod consumers;
mod guard;
mod identities;
mod issued_keys;
mod ledger;
mod lifecycle;
mod limits;
mod listeners;
mod members;
mod process;
mod prompt_log;
mod provisioned;
mod registration;
mod requests;
mod shadow;
mod sign_in;
mod system;
mod traces;

use std::path::Path;

use parking_lot::Mutex;
use prometheus::{Encoder, IntGauge, Registry, TextEncoder};

use crate::balance::route::Member;
use crate::clock::Tick;
use process::ProcessMetrics;
use provisioned::ProvisionedFamilies;
use registration::Registration;
use system::SystemMetrics;

pub use admin::AdminMetrics;
pub use cache::{CacheMetrics, CacheResult};
pub use callers::{CallerFamilies, IssuerMetrics};
pub use consumers::{CONSUMERS, ConsumerFamilies, ConsumerMetrics};
pub use guard::GuardMetrics;
pub use identities::{IdentityFamilies, TokenMetrics};
pub use issued_keys::{AuditMetrics, IssuedKeyMetrics};
pub use ledger::{LedgerMetrics, ShipMetrics};
pub use lifecycle::{ConfigMetrics, UpgradeMetrics};
pub use limits::LimitFamilies;
pub use listeners::ListenerFamilies;
pub use members::{MemberFamilies, MemberMetrics, MemberTotals};
pub use prompt_log::PromptLogMetrics;
pub use requests::{RequestFamilies, RequestMetrics};
pub use shadow::{Mirrored, ShadowMetrics};
pub use sign_in::SignInMetrics;
pub use traces::TraceMetrics;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: ProcessMetrics,
    system: Mutex<SystemMetrics>,
    /// Requests, as their callers see them.
    pub requests: RequestFamilies,
    /// Attempts at the members of pools.
    pub members: MemberFamilies,
    provisioned: ProvisionedFamilies,
    /// Use by consumer.
    pub consumers: ConsumerFamilies,
    /// Limits, and what nodes share.
    pub limits: LimitFamilies,
    /// Who calls.
    pub callers: CallerFamilies,
    /// The admin listener.
    pub admin: AdminMetrics,
    /// Sign-in of persons.
    pub sign_in: SignInMetrics,
    /// Connections of callers.
    pub listeners: ListenerFamilies,
    /// Keys that were issued at run time.
    pub issued_keys: IssuedKeyMetrics,
    /// The audit log.
    pub audit: AuditMetrics,
    /// The gateway's own identities.
    pub identities: IdentityFamilies,
    /// The config.
    pub config: ConfigMetrics,
    /// Upgrades that succeeded, and that failed.
    pub upgrades: UpgradeMetrics,
    /// 1 while the gateway is stopping.
    pub stopping: IntGauge,
    /// The ledger.
    pub ledger: LedgerMetrics,
    /// Mirrored requests.
    pub shadow: ShadowMetrics,
    /// The guard.
    pub guard: GuardMetrics,
    /// The prompt log.
    pub prompt_log: PromptLogMetrics,
    /// Spans.
    pub traces: TraceMetrics,
    /// The cache.
    pub cache: CacheMetrics,
}

/// Sums over everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// Those for which callers got a 429.
    pub throttled: u64,
    /// Moves to another target.
    pub failovers: u64,
    /// Answers of a last resort.
    pub last_resort: u64,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only if two metrics had the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let to = Registration(&registry);
        let info = to.gauges("spillway_build_info", "Always 1; the version is a label.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Metrics {
            requests: RequestFamilies::new(&to)?,
            members: MemberFamilies::new(&to)?,
            provisioned: ProvisionedFamilies::new(&to)?,
            consumers: ConsumerFamilies::new(&to)?,
            limits: LimitFamilies::new(&to)?,
            callers: CallerFamilies::new(&to)?,
            admin: AdminMetrics::new(&to)?,
            sign_in: SignInMetrics::new(&to)?,
            listeners: ListenerFamilies::new(&to)?,
            issued_keys: IssuedKeyMetrics::new(&to)?,
            audit: AuditMetrics::new(&to)?,
            identities: IdentityFamilies::new(&to)?,
            config: ConfigMetrics::new(&to)?,
            upgrades: UpgradeMetrics::new(&to)?,
            stopping: to.gauge("spillway_stopping", "1 while the gateway is stopping or has handed over.")?,
            ledger: LedgerMetrics::new(&to)?,
            shadow: ShadowMetrics::new(&to)?,
            guard: GuardMetrics::new(&to)?,
            prompt_log: PromptLogMetrics::new(&to)?,
            traces: TraceMetrics::new(&to)?,
            cache: CacheMetrics::new(&to)?,
            process: ProcessMetrics::new(&to)?,
            system: Mutex::new(SystemMetrics::new(&to)?),
            registry,
        })
    }

    /// Shows how full the state directory's file system is.
    ///
    /// # Errors
    /// Only if it is called twice.
    pub fn watch_state(&self, folder: &Path) -> prometheus::Result<()> {
        self.system.lock().watch(folder, &self.registry)
    }

    /// The sums that the status page shows.
    pub fn totals(&self) -> Totals {
        let (requests, throttled, last_resort) = self.requests.totals();
        Totals { requests, throttled, failovers: self.members.failovers(), last_resort }
    }

    /// All metrics in Prometheus's text format, with the current states of `members` (each with its pool's name).
    pub fn render<'r>(&self, members: impl Iterator<Item = (&'r str, &'r Member)>, now: Tick) -> Vec<u8> {
        // Held to the end: two requests at once must not see each other's resets.
        let system = self.system.lock();
        system.read();
        self.process.read();
        let members: Vec<_> = members.collect();
        self.provisioned.read(members.iter().map(|(_, member)| *member), now);
        self.members.read(members.into_iter(), now);
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to a Vec can't fail, and the families come from the registry itself.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        drop(system);
        text
    }
}
