//! Rehearses one fault: starts the wall and the gateway, sends the requests, and notes what became of each.
//!
//! | file | idea |
//! |---|---|
//! | `staging` | the config with everything replaced that reaches beyond this process |
//! | `wall`, `services` | stand-ins for backends, token services, issuers, Redis |
//! | `client` | what the caller sees |
//! | [`idle`] | time that jumps on when nothing happens |
//! | `temporary` | the folder of a ledger |

mod client;
pub(crate) mod idle;
mod services;
pub(super) mod staging;
pub(super) mod temporary;
pub(super) mod wall;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use client::Seen;
use services::{CallerIssuer, NOWHERE, silent_redis, token_service};
use staging::{Addresses, staged};
use temporary::TemporaryFolder;
use tokio::task::JoinSet;
use wall::Wall;

use super::fault::{Fault, FaultKind};
use super::measure::figures::Figures;
use super::outcome::{Attempt, RequestOutcome, Served};
use super::plan::credential::{Caller, Credential, key_of};
use super::plan::traffic::{Plan, Planned};
use crate::clock::Clock;
use crate::config::{BackendAuth, Config};
use crate::gateway::Gateway;
use crate::request_end::End;
use crate::server::{self, Running, StartError};
use crate::telemetry::recent::Recent;

/// Why a fault could not be rehearsed.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// A name that was asked for fits no fault.
    #[error("no fault of this config has it in its name; there are: {there}")]
    NoSuchFault {
        /// The names that there are.
        there: String,
    },
    /// It took so long that something must be wrong.
    #[error("it didn't end within {} seconds on this machine: try fewer at once with --only", STUCK.as_secs())]
    Stuck,
    /// The system has no port, no thread or no folder.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The gateway doesn't start with this config.
    #[error("the gateway can't start: {0}")]
    Start(#[from] StartError),
    /// A reload of the same config was refused.
    #[error("the reload was refused: {0}")]
    Reload(#[from] server::ReloadError),
    /// Another gateway didn't take over.
    #[error("the upgrade failed: {0}")]
    Upgrade(#[from] server::InPlaceError),
}

/// What was seen of one fault.
#[derive(Debug)]
pub(super) struct Played {
    /// Every request, in the order in which they were sent.
    pub(super) requests: Vec<RequestOutcome>,
    /// Which of them belong to a flood.
    pub(super) floods: Vec<bool>,
    /// From the request to the first byte of each answer.
    pub(super) firsts: Vec<Option<Duration>>,
    /// The gateway's metrics at the end.
    pub(super) figures: Figures,
    /// What else is worth knowing.
    pub(super) notes: Vec<String>,
}

/// How long one fault may take: some hundred times of what it usually takes.
const STUCK: Duration = Duration::from_secs(120);

/// How long after the beginning of a stream the gateway is reloaded or upgraded: some of it has come, and some has not.
const INTO_STREAM: Duration = Duration::from_millis(500);

/// Rehearses one fault with the requests of its plan, on this thread.
///
/// # Errors
/// [`RehearsalError`]
pub(super) fn play(config: &Config, fault: &Fault, plan: Plan) -> Result<Played, RehearsalError> {
    // Removed after everything that uses it has ended.
    let folder = (fault.kind == FaultKind::LedgerFull).then(TemporaryFolder::new).transpose()?;
    let path = folder.as_ref().map(TemporaryFolder::path);
    // By the clock of this machine, not by the virtual one.
    let played =
        async |clock| tokio::time::timeout(STUCK, async { Stage::set(config, fault, plan, path, clock).await?.play().await }).await;
    idle::run(played)?.unwrap_or(Err(RehearsalError::Stuck))
}

/// All that takes part.
struct Stage<'c> {
    config: &'c Config,
    fault: &'c Fault,
    clock: Clock,
    running: Running,
    staged: Config,
    issuer: Option<CallerIssuer>,
    plan: Plan,
}

impl<'c> Stage<'c> {
    async fn set(config: &'c Config, fault: &'c Fault, plan: Plan, ledger: Option<&Path>, clock: Clock) -> Result<Self, RehearsalError> {
        let mut wall = Wall::start(config, &clock, fault.kind.is_in_the_middle()).await?;
        wall.put_in(config, fault);
        let nowhere = SocketAddr::from(NOWHERE);
        let needs_tokens = config.backends.iter().any(|backend| matches!(backend.auth, BackendAuth::Token(_)));
        let rules = config.plugins.auth.tokens.as_ref();
        let issuer = rules.and_then(|_| CallerIssuer::new());
        let addresses = Addresses {
            backends: wall.addresses.clone(),
            broken_tls: if fault.kind == FaultKind::TlsBroken { fault.backends.clone() } else { Vec::new() },
            tokens: match fault.kind {
                FaultKind::TokenIssuerGone => Some(nowhere),
                _ if needs_tokens => Some(token_service().await?),
                _ => None,
            },
            issuer: match (&issuer, rules, fault.kind) {
                (Some(_), _, FaultKind::CallerIssuerGone) => Some(nowhere),
                (Some(issuer), Some(rules), _) => Some(issuer.serve(rules).await?),
                _ => None,
            },
            redis: match fault.kind {
                FaultKind::RedisGone => Some(nowhere),
                FaultKind::RedisSlow => Some(silent_redis().await?),
                _ => None,
            },
        };
        let staged = staged(config, &addresses, ledger);
        let running = server::start(&staged, clock.clone()).await?;
        if fault.kind == FaultKind::DnsGone {
            forget_addresses(&running, fault);
        }
        Ok(Stage { config, fault, clock, running, staged, issuer, plan })
    }

    async fn play(mut self) -> Result<Played, RehearsalError> {
        let began = self.clock.now();
        let listen = self.running.listen.first().copied().unwrap_or_else(|| SocketAddr::from(NOWHERE));
        let mut asked = JoinSet::new();
        for (number, planned) in self.plan.requests.iter().enumerate() {
            let (path, body) = planned.request(number);
            let credential = self.credential(&planned.caller);
            let credential = credential.as_ref().map(|(name, value)| (*name, value.as_str()));
            let request = client::request(path, credential, &body.to_string());
            let (clock, at) = (self.clock.clone(), planned.at);
            asked.spawn(async move {
                clock.sleep((began + at).since(clock.now())).await;
                (number, client::ask(&clock, listen, &request).await)
            });
        }
        let mut gateways = vec![self.running.gateway.clone()];
        let middle = self.fault.kind.is_in_the_middle().then(|| self.middle());
        if let Some(at) = middle {
            self.clock.sleep((began + at).since(self.clock.now())).await;
            self = self.change(&mut gateways).await?;
        }
        let mut seen: Vec<Option<Seen>> = vec![None; self.plan.requests.len()];
        while let Some(one) = asked.join_next().await {
            // A task that was ended has seen nothing.
            let Ok((number, one)) = one else { continue };
            seen[number] = Some(one);
        }
        let mut outcomes = Vec::with_capacity(seen.len());
        for (planned, seen) in self.plan.requests.iter().zip(&seen) {
            let seen = seen.clone().unwrap_or_default();
            let recent = recent(&gateways, &seen).await;
            outcomes.push(self.outcome(planned, &seen, recent.as_ref()));
        }
        let mut all = gateways.iter().rev().map(figures);
        let mut figures = all.next().unwrap_or_default();
        all.for_each(|before| figures.add_counters(before));
        let mut notes = self.plan.notes.clone();
        if let Some(at) = middle {
            notes.push(format!("it happened after {:.1} s, with requests in flight", at.as_secs_f64()));
        }
        Ok(Played {
            firsts: seen.iter().map(|seen| seen.as_ref()?.first).collect(),
            floods: self.plan.requests.iter().map(|planned| planned.floods).collect(),
            requests: outcomes,
            figures,
            notes,
        })
    }

    /// Reloads the config, or hands over to another gateway.
    async fn change(mut self, gateways: &mut Vec<Gateway>) -> Result<Self, RehearsalError> {
        if self.fault.kind == FaultKind::Upgrade {
            self.running = self.running.upgrade_in_place(self.staged.clone()).await?;
            gateways.push(self.running.gateway.clone());
        } else {
            let mut other = self.staged.clone();
            other.log.text = !other.log.text;
            self.running.reloader.replace(other).await?;
        }
        Ok(self)
    }

    /// In the middle, while a stream is in flight if there are any.
    fn middle(&self) -> Duration {
        let late = &self.plan.requests[self.plan.requests.len() / 2..];
        let request = late.iter().find(|request| request.stream).or(late.first());
        request.map_or(Duration::ZERO, |request| request.at) + INTO_STREAM
    }

    fn credential(&self, caller: &Caller) -> Option<(&'static str, String)> {
        match (&caller.credential, &self.issuer, &self.config.plugins.auth.tokens) {
            (Credential::Key(at), ..) => Some(("api-key", key_of(*at))),
            (Credential::Token { claim, roles, scopes }, Some(issuer), Some(rules)) => {
                Some(("authorization", format!("Bearer {}", issuer.token(rules, claim, roles, scopes, self.clock.wall()))))
            }
            _ => None,
        }
    }

    fn outcome(&self, planned: &Planned, seen: &Seen, recent: Option<&Recent>) -> RequestOutcome {
        let attempts: Vec<Attempt> =
            recent.map_or_else(Vec::new, |recent| recent.attempts.iter().filter(|tried| !tried.stale).map(attempt).collect());
        let served = match recent.map(|recent| (recent.end, recent.code)) {
            Some((End::LastResort, _)) => Served::LastResort,
            Some((_, Some(code))) => Served::Gateway { code: code.to_owned() },
            Some((End::Complete, None)) => attempts.last().map_or(Served::Nobody, |last| Served::Member {
                tier: last.tier,
                backend: last.backend.clone(),
                deployment: last.deployment.clone(),
            }),
            _ => Served::Nobody,
        };
        let consumer = planned.caller.consumer.map(|at| self.config.consumers[at].name.to_string());
        RequestOutcome {
            pool: self.config.pools[planned.pool].name.to_string(),
            model: planned.model.clone(),
            stream: planned.stream,
            consumer: consumer.or_else(|| recent.and_then(|recent| recent.consumer.as_ref()).map(ToString::to_string)),
            at: planned.at,
            status: seen.status,
            whole: seen.whole && recent.is_none_or(|recent| recent.end != End::Cut),
            retry_after: seen.retry_after,
            served,
            attempts,
            added: seen.first.unwrap_or(seen.took),
            took: seen.took,
        }
    }
}

/// What a gateway itself remembers of a request. It does so shortly after the caller has its answer.
async fn recent(gateways: &[Gateway], seen: &Seen) -> Option<Recent> {
    let id = seen.id.as_deref()?;
    for _ in 0..LATE {
        if let Some(recent) = gateways.iter().find_map(|gateway| gateway.recent.find(id)) {
            return Some(recent);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

fn figures(gateway: &Gateway) -> Figures {
    let runtime = gateway.runtime.load_full();
    Figures::read(&String::from_utf8_lossy(&gateway.metrics.render(runtime.members(), gateway.clock.now())))
}

/// How many milliseconds the gateway may take to note a request that is over.
const LATE: usize = 2000;

fn attempt(tried: &crate::telemetry::recent::Tried) -> Attempt {
    Attempt {
        backend: tried.backend.to_string(),
        deployment: tried.deployment.to_string(),
        tier: tried.priority,
        outcome: tried.outcome,
        status: tried.status,
    }
}

/// As after a start without DNS: a running gateway keeps the addresses that it knows.
fn forget_addresses(running: &Running, fault: &Fault) {
    let runtime = running.gateway.runtime.load();
    for upstream in fault.backends.iter().filter_map(|at| runtime.backends[*at].upstream.as_ref()) {
        upstream.peers.set(&[]);
        upstream.resolved.set(false);
    }
}
