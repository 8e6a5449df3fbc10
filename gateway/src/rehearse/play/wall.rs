//! The wall of stand-ins for backends, with the fault in it: what `spillway mock` serves, one for each backend.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::scalar::DurationText;
use crate::config::{Config, Timeouts};
use crate::mock::fault::MockFault;
use crate::mock::forced::Forced;
use crate::mock::server::{self, Mock};
use crate::mock::settings::{Deployment, Settings};
use crate::rehearse::fault::{Fault, FaultKind};

/// Until the first token, without a fault.
pub(in crate::rehearse) const FIRST_TOKEN: Duration = Duration::from_millis(400);
/// Between two tokens, where streams should last.
const SLOW_TOKENS: Duration = Duration::from_millis(50);
/// What every answer says.
const REPLY: &str = "This is a rehearsed answer.";
/// The Retry-After of a throttled backend.
const RETRY_AFTER: Duration = Duration::from_secs(20);
/// The size of an oversized answer.
const OVERSIZED: usize = 4 << 20;
/// Events of a stream before it breaks: one that carries output is among them.
const EVENTS: usize = 3;

/// The stand-ins, with the same indices as the backends.
pub(super) struct Wall {
    mocks: Vec<Option<Arc<Mock>>>,
    /// Where each backend is reached.
    pub(super) addresses: Vec<Option<SocketAddr>>,
}

impl Wall {
    /// Starts a stand-in for each backend that is asked over the network.
    ///
    /// # Errors
    /// If there is no port.
    pub(super) async fn start(config: &Config, clock: &Clock, lasting: bool) -> std::io::Result<Self> {
        let mut wall = Wall { mocks: Vec::new(), addresses: Vec::new() };
        for (seed, backend) in (1..).zip(&config.backends) {
            if backend.endpoint.is_none() {
                wall.mocks.push(None);
                wall.addresses.push(None);
                continue;
            }
            let default = Deployment {
                first_token: Some(DurationText(FIRST_TOKEN)),
                per_token: lasting.then_some(DurationText(SLOW_TOKENS)),
                ..Deployment::default()
            };
            let settings = Settings {
                listen: Some("127.0.0.1:0".to_owned()),
                name: Some(backend.name.to_string()),
                region: backend.location.as_ref().map(ToString::to_string),
                reply: Some(REPLY.to_owned()),
                seed: Some(seed),
                default,
                ..Settings::default()
            };
            let (mock, address, _serving) = server::start(settings, clock.clone()).await?;
            wall.mocks.push(Some(mock));
            wall.addresses.push(Some(address));
        }
        Ok(wall)
    }

    /// Puts a fault in. Backends that are out of reach are put where nothing listens.
    pub(super) fn put_in(&mut self, config: &Config, fault: &Fault) {
        for at in &fault.full {
            if let Some(mock) = &self.mocks[*at] {
                mock.force(Some(Forced { fault: full(), deployments: HashSet::new(), times: None }));
            }
        }
        let times = (fault.kind == FaultKind::TokenExpired).then_some(1);
        for at in &fault.backends {
            if is_out_of_reach(fault.kind) {
                self.addresses[*at] = Some(SocketAddr::from(super::services::NOWHERE));
            }
            let name = &config.backends[*at].name;
            let deployments: HashSet<String> =
                fault.targets.iter().filter(|target| target.backend == *name).map(|target| target.deployment.to_string()).collect();
            if let (Some(mock), Some(fault)) = (&self.mocks[*at], of_kind(fault.kind, &slowest(config, fault))) {
                mock.force(Some(Forced { fault, deployments, times }));
            }
        }
    }
}

fn full() -> MockFault {
    MockFault::Throttle(u64::try_from(RETRY_AFTER.as_millis()).unwrap_or(u64::MAX))
}

/// Whether connections to its backends are refused.
fn is_out_of_reach(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Refused | FaultKind::TierOut | FaultKind::LocationOut)
}

/// The longest timeouts of the pools that a fault touches.
fn slowest(config: &Config, fault: &Fault) -> Duration {
    let first = |timeouts: &Timeouts| timeouts.first_token;
    fault.pools.iter().map(|pool| first(&config.pools[*pool].timeouts)).max().unwrap_or_default()
}

/// What a stand-in does.
fn of_kind(kind: FaultKind, first_token: &Duration) -> Option<MockFault> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Some(match kind {
        FaultKind::Throttled | FaultKind::SharedQuota => full(),
        FaultKind::ThrottledSilently => MockFault::ThrottleSilently,
        FaultKind::Failing => MockFault::Status(500),
        FaultKind::KeyRevoked | FaultKind::TokenExpired => MockFault::Status(401),
        FaultKind::RoleMissing => MockFault::Status(403),
        FaultKind::SlowFirstToken => MockFault::Slow(millis(*first_token).saturating_mul(6) / 5),
        FaultKind::Silence => MockFault::Stall(0),
        FaultKind::Cut => MockFault::Cut(EVENTS),
        FaultKind::Stall => MockFault::Stall(EVENTS),
        FaultKind::Malformed => MockFault::Malformed,
        FaultKind::Oversized => MockFault::Oversized(OVERSIZED),
        FaultKind::ContentFilter => MockFault::ContentFilter,
        FaultKind::ContextTooLong => MockFault::TooLong,
        _ => return None,
    })
}
