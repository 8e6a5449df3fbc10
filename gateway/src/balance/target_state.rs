//! A target's state, for the process that takes over. Points in time are sent as the time that is left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use spillway_plugins::api::Api;

use super::belief::{Belief, Outage, OutageReason};
use super::circuit::{Circuit, Phase};
use super::provisioned::Learned;
use crate::clock::Tick;

/// A belief, as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BeliefState {
    /// How long it is still throttled.
    pub throttled: Option<Duration>,
    /// How long its circuit is still open, and whether a 429 opened it.
    pub open: Option<(Duration, bool)>,
    /// How many of its probes in a row have failed.
    pub failed_probes: u32,
    /// Operations that it refuses: which, why, how long until the next probe, and how long the wait for that is.
    pub outages: Vec<(String, OutageReason, Duration, Duration)>,
}

impl Belief {
    pub(super) fn snapshot(&self, now: Tick) -> BeliefState {
        let left = |until: Tick| until.since(now);
        BeliefState {
            throttled: Some(left(self.throttled_until)).filter(|left| !left.is_zero()),
            open: match self.circuit.phase() {
                Phase::Open { until, limited } => Some((left(until), limited)),
                Phase::Closed => None,
            },
            failed_probes: self.circuit.failed_probes(),
            outages: self
                .outages
                .iter()
                .map(|outage| (format!("{:?}", outage.api), outage.reason, left(outage.until), outage.wait))
                .collect(),
        }
    }

    pub(super) fn restore(&mut self, state: &BeliefState, now: Tick) {
        if let Some(left) = state.throttled {
            self.throttle(left, now);
        }
        if let Some((left, limited)) = state.open {
            self.circuit = Circuit::open(now + left, limited, state.failed_probes);
        }
        for (api, reason, left, wait) in &state.outages {
            let Some(api) = Api::ALL.into_iter().find(|known| format!("{known:?}") == *api) else { continue };
            self.outages.push(Outage::new(api, *reason, now + *left, *wait));
        }
    }
}

/// The state of a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetState {
    /// The backend's name.
    pub backend: String,
    /// The deployment's name.
    pub deployment: String,
    /// An operator has drained it.
    pub drained: bool,
    /// What is believed for all.
    #[serde(flatten)]
    pub shared: BeliefState,
    /// What single consumers met, by the numbers that stand for their names: the new process, too, believes it for them
    /// only.
    pub own: Vec<(u64, BeliefState)>,
    /// The only consumer that ever asked, and whether there were several.
    pub askers: (Option<u64>, bool),
    /// The average time to the first token.
    pub first_token: Option<Duration>,
    /// Share of its rate limits that is left.
    pub headroom: Option<f64>,
    /// What was learned of its provisioned throughput.
    pub provisioned: Option<Learned>,
}
