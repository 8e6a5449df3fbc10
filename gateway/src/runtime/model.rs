//! A pool in use, and its models.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use spillway_plugins::api::Api;
use spillway_plugins::limits::Scope;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::trace;

use crate::balance::budget::RetryBudget;
use crate::balance::durations::Durations;
use crate::balance::provisioned::Elsewhere;
use crate::balance::route::{HealthFlag, Route};
use crate::balance::waiting::Waiting;
use crate::config::{self, DeploymentPrice};
use crate::ledger::MemberLabels;
use crate::telemetry::metrics::{MemberMetrics, RequestMetrics};

/// Answers when no target can.
#[derive(Debug, Clone)]
pub struct LastResort {
    /// The mock's name.
    pub backend: Arc<str>,
    /// The text of its answers.
    pub reply: Arc<str>,
    /// The pool has no other member: it imitates a backend, for those who develop against it.
    pub alone: bool,
}

/// A pool in use.
#[derive(Debug)]
pub struct Pool {
    /// Its config.
    pub config: config::PoolConfig,
    /// The limits of all its callers together, if any.
    pub scope: Option<Arc<Scope>>,
    /// Limits its retries.
    pub budget: RetryBudget,
    /// Requests that wait for it to reopen.
    pub waiting: Waiting,
    /// Its last resort's answer, if it has one.
    pub last_resort: Option<LastResort>,
    /// Health flags by member, in the order of the config; those of mocks never change.
    pub health: Vec<Arc<HealthFlag>>,
    pub(super) models: Vec<Arc<Model>>,
    pub(super) requests: Vec<RequestMetrics>,
}

impl Pool {
    /// The models and their routes.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// The counters for requests of `api`.
    pub fn requests(&self, api: Api) -> Option<&RequestMetrics> {
        self.requests.get(api as usize)
    }
}

/// A member as the gateway counts, prices and names it. How it is chosen is in [`Route`], under the same index.
#[derive(Debug)]
pub struct Member {
    /// Its counters.
    pub metrics: MemberMetrics,
    /// Its price, if known.
    pub price: Option<DeploymentPrice>,
    /// The most tokens that a prompt may have there, if known.
    pub context: Option<u64>,
    /// The service tier in which its requests are sent, if it is not the callers' choice.
    pub service_tier: Option<ServiceTier>,
    /// Its name in the ledger.
    pub place: Arc<MemberLabels>,
    /// Its name in spans.
    pub traced: Arc<trace::SpanTarget>,
    /// The deployment that last served a request in its place.
    pub(super) spilled: ArcSwapOption<Spilled>,
}

/// A deployment that served requests in place of a member's: Azure's own spillover, within one resource.
#[derive(Debug)]
pub struct Spilled {
    /// Its name in the ledger, and the member's.
    pub place: Arc<MemberLabels>,
    /// Its price, if known.
    pub price: Option<DeploymentPrice>,
}

impl Member {
    /// The deployment that served requests in place of this member's, if there was one: the latest.
    pub fn spills_to(&self) -> Option<Arc<str>> {
        self.spilled.load().as_ref().map(|spilled| Arc::clone(&spilled.place.deployment))
    }

    /// The deployment of this name, which served a request in place of this member's. `price` is asked for once.
    pub fn spilled_to(&self, deployment: &str, price: impl FnOnce() -> Option<DeploymentPrice>) -> Arc<Spilled> {
        let known = self.spilled.load();
        if let Some(known) = known.as_ref().filter(|known| *known.place.deployment == *deployment) {
            return Arc::clone(known);
        }
        let place =
            MemberLabels { deployment: deployment.into(), spilled_from: Some(Arc::clone(&self.place.deployment)), ..(*self.place).clone() };
        let spilled = Arc::new(Spilled { place: Arc::new(place), price: price() });
        self.spilled.store(Some(Arc::clone(&spilled)));
        spilled
    }
}

/// One model: where its requests can go.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// Index of its pool.
    pub pool: usize,
    /// Its members and tiers.
    pub route: Route,
    /// What else is known of each member of the route, in its order.
    pub members: Vec<Member>,
    /// What tokens cost at the first tier below provisioned throughput, if there is any.
    pub elsewhere: Option<Elsewhere>,
    /// How long its answers take.
    pub durations: Durations,
    /// Whether it thinks before it answers, unless the request turns that off.
    pub reasons: bool,
    /// The cache's name in the ledger.
    pub cache_labels: Arc<MemberLabels>,
    /// The guard's name in the ledger, for blocked prompts.
    pub guard_labels: Arc<MemberLabels>,
    /// Members that can't serve an API, by API: requests never try them.
    pub(super) excluded: Vec<Vec<usize>>,
}

impl Model {
    /// Indices of the members that can't serve `api`.
    pub fn excluded(&self, api: Api) -> &[usize] {
        self.excluded.get(api as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether any member can serve `api`.
    pub fn serves(&self, api: Api) -> bool {
        self.excluded(api).len() < self.route.members().len()
    }
}
