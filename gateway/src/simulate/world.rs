//! Routes, deployments and consumers of a config, made as the gateway makes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::prices::{Money, Price};
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::Usage;

use super::bucket::{self, Mocked};
use super::request::Names;
use super::scenario::Scenario;
use crate::backend::Targets;
use crate::balance::durations::Durations;
use crate::balance::provisioned::Elsewhere;
use crate::balance::route::Route;
use crate::balance::target::TargetId;
use crate::balance::waiting::Waiting;
use crate::clock::Tick;
use crate::config::{Config, DeploymentPrice, PoolConfig, UNLISTED, number_of};
use crate::model_route::{ModelRoute, Place};

/// What isn't in the config.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assumptions {
    /// Load that reaches PTU deployments past the gateway, as a share of what they take.
    pub foreign: f64,
    /// How much more (or less, below 0) PTU deployments take than the config says, as a share.
    pub off: f64,
    /// Quotas of pay-as-you-go deployments, in tokens per minute.
    pub limits: BTreeMap<TargetId, u64>,
    /// What chance depends on.
    pub seed: u64,
}

/// A config can't be simulated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WorldError {
    /// A PTU deployment's capacity is not known.
    #[error("backends.{backend}.ptu.{deployment}: its capacity is to be learned, so it can't be simulated; give `units` or `tokens_per_minute`, for example with --set", backend = .0.backend, deployment = .0.deployment)]
    NoCapacity(TargetId),
    /// A limit is for a deployment that no pool has.
    #[error("--limit {0}: no pool has such a deployment by pay-as-you-go")]
    NoDeployment(TargetId),
}

/// A deployment, and what it really takes.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) id: TargetId,
    pub(super) takes: Box<dyn bucket::Deployment>,
    pub(super) is_provisioned: bool,
    /// Its tier: the first in which it is.
    pub(super) tier: u32,
    /// Its price per hour, if it has one.
    pub(super) per_hour: Option<Money>,
    /// Its PTUs, if the config says so.
    pub(super) units: Option<u32>,
    /// What it really takes, in input tokens per second, if it is provisioned.
    pub(super) per_second: Option<f64>,
}

/// A member of a model's route.
#[derive(Debug)]
pub(super) struct Member {
    /// Index of its deployment.
    pub(super) deployment: usize,
    pub(super) tier: u32,
    pub(super) service_tier: Option<ServiceTier>,
    pub(super) price: Option<DeploymentPrice>,
}

/// A model.
#[derive(Debug)]
pub(super) struct Model {
    /// Index of its pool.
    pub(super) pool: usize,
    pub(super) route: Route,
    /// In the route's order.
    pub(super) members: Vec<Member>,
    pub(super) durations: Durations,
    /// Members that can't serve an operation, by its place in [`Api::ALL`].
    excluded: Vec<Vec<usize>>,
    pub(super) elsewhere: Option<Elsewhere>,
    /// The price of its first member by pay-as-you-go.
    alone: Option<Box<Price>>,
}

/// What the config says of a consumer.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) group: Option<u64>,
    pub(super) class: Class,
    pub(super) deadline: Option<Duration>,
    pub(super) fence: Option<Vec<Arc<str>>>,
}

/// A pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) config: PoolConfig,
    pub(super) waiting: Waiting,
}

/// All that requests run on.
#[derive(Debug)]
pub(super) struct World {
    config: Config,
    pub(super) pools: Vec<Pool>,
    pub(super) models: Vec<Model>,
    by_name: HashMap<Arc<str>, usize>,
    pub(super) deployments: Vec<Deployment>,
    /// The model of each number in the traffic, as far as it was asked for.
    seen: Vec<Option<Option<usize>>>,
    consumers: HashMap<u32, Arc<Known>>,
    nameless: Arc<Known>,
    /// Whether targets tell consumers apart.
    are_several: bool,
}

impl World {
    /// Everything as at the start of a gateway, at `now`.
    pub(super) fn new(scenario: Scenario, assumptions: &Assumptions, now: Tick) -> Result<Self, WorldError> {
        let Scenario { config, units, .. } = scenario;
        let mut targets = Targets::after(None, now);
        let (mut models, mut by_name, mut deployments): (Vec<Model>, HashMap<Arc<str>, usize>, Vec<Deployment>) = Default::default();
        for (index, pool) in config.pools.iter().enumerate() {
            for name in &pool.models {
                let model = model(&config, index, name, &mut targets, &mut deployments, &units, assumptions)?;
                by_name.insert(name.as_str().into(), models.len());
                models.push(model);
            }
        }
        targets.share_quotas(&config.quota_pools, None);
        let is_paid = |id: &&TargetId| !deployments.iter().any(|deployment| deployment.id == **id && !deployment.is_provisioned);
        if let Some(unknown) = assumptions.limits.keys().find(is_paid) {
            return Err(WorldError::NoDeployment(unknown.clone()));
        }
        let auth = &config.plugins.auth;
        let are_several = config.consumers.len() + usize::from(!auth.required) > 1 || auth.tokens.is_some();
        let pools = config.pools.iter().map(|pool| Pool { config: pool.clone(), waiting: Waiting::default() }).collect();
        let nameless = Known { name: "".into(), number: 0, group: None, class: Class::default(), deadline: None, fence: None };
        let (seen, consumers, nameless) = (Vec::new(), HashMap::new(), Arc::new(nameless));
        Ok(World { config, pools, models, by_name, deployments, seen, consumers, nameless, are_several })
    }

    /// The config.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn model(&self, index: usize) -> &Model {
        &self.models[index]
    }

    /// The index of the model with this number; `None` if no pool has it.
    pub(super) fn index_of(&mut self, number: u32, names: &Names) -> Option<usize> {
        let place = number as usize;
        if self.seen.len() <= place {
            self.seen.resize(place + 1, None);
        }
        *self.seen[place].get_or_insert_with(|| self.by_name.get(&names.name(number)).copied())
    }

    /// The consumer with this number.
    pub(super) fn consumer(&mut self, number: Option<u32>, names: &Names) -> Arc<Known> {
        let Some(number) = number else { return Arc::clone(&self.nameless) };
        if let Some(known) = self.consumers.get(&number) {
            return Arc::clone(known);
        }
        let name = names.name(number);
        let listed = self.config.consumers.iter().find(|consumer| consumer.name == name);
        let unlisted = self.config.plugins.auth.tokens.as_ref().and_then(|tokens| tokens.unlisted.as_ref());
        let group = listed
            .map_or_else(|| unlisted.filter(|_| name.starts_with(UNLISTED)).and_then(|unlisted| unlisted.group), |consumer| consumer.group);
        let group = group.and_then(|group| self.config.groups.get(group));
        let known = Arc::new(Known {
            number: number_of(&name),
            group: group.map(|group| number_of(&group.name)),
            class: listed.map_or(Class::default(), |consumer| consumer.class),
            deadline: listed.and_then(|consumer| consumer.deadline),
            fence: listed.and_then(|consumer| consumer.rights.locations.clone()),
            name,
        });
        self.consumers.insert(number, Arc::clone(&known));
        known
    }

    /// The number by which targets know a consumer.
    pub(super) fn number_at_targets(&self, consumer: &Known) -> u64 {
        match (self.are_several, consumer.number) {
            (false, _) => 0,
            (true, 0) => u64::MAX,
            (true, number) => number,
        }
    }
}

impl Model {
    /// Members that can't serve this operation.
    pub(super) fn excluded(&self, api: Api) -> &[usize] {
        Api::ALL.iter().position(|known| *known == api).and_then(|at| self.excluded.get(at)).map_or(&[], Vec::as_slice)
    }

    /// What a usage costs by pay-as-you-go alone; `None` if that isn't known.
    pub(super) fn alone(&self, usage: &Usage) -> Option<Money> {
        self.alone.as_ref()?.cost(usage, None).map(|cost| cost.money)
    }
}

/// One model's route.
fn model(
    config: &Config,
    pool_index: usize,
    name: &str,
    targets: &mut Targets,
    deployments: &mut Vec<Deployment>,
    units: &BTreeMap<TargetId, u32>,
    assumptions: &Assumptions,
) -> Result<Model, WorldError> {
    let pool = &config.pools[pool_index];
    let (mut places, mut members) = (Vec::new(), Vec::new());
    for member in &pool.members {
        let backend = &config.backends[member.backend];
        // A mock is not a target.
        if backend.endpoint.is_none() {
            continue;
        }
        let (target, price) = (targets.get(backend, name), config.prices.of(backend, name));
        let id = &target.id;
        let deployment = match deployments.iter().position(|known| known.id == *id) {
            Some(known) => known,
            None => {
                let ptu = backend.ptu.get(&*id.deployment);
                let said = ptu.map(|ptu| ptu.per_second.ok_or_else(|| WorldError::NoCapacity(id.clone()))).transpose()?;
                let per_second = said.map(|said| said * (1.0 + assumptions.off));
                let seed = assumptions.seed ^ target.seed();
                let takes: Box<dyn bucket::Deployment> = match ptu.zip(per_second) {
                    Some((ptu, rate)) => Box::new(Mocked::ptu(rate, ptu.output_ratio, ptu.depth, assumptions.foreign, seed)),
                    None => Box::new(Mocked::pay_as_you_go(assumptions.limits.get(id).copied())),
                };
                let per_hour = if let Some(DeploymentPrice::Hourly(money)) = &price { *money } else { None };
                let (is_provisioned, units) = (ptu.is_some(), units.get(id).copied());
                let tier = member.priority;
                deployments.push(Deployment { id: id.clone(), takes, is_provisioned, tier, per_hour, units, per_second });
                deployments.len() - 1
            }
        };
        let by_use = price.as_ref().and_then(DeploymentPrice::by_use).cloned();
        members.push(Member { deployment, tier: member.priority, service_tier: member.service_tier, price });
        places.push(Place { member, backend, target, by_use, up: Default::default() });
    }
    // The price of the first tier that isn't provisioned.
    let paid = members.iter().filter(|member| !deployments[member.deployment].is_provisioned);
    let by_use = paid.filter_map(|member| Some((member.tier, member.price.as_ref()?.by_use()?)));
    let alone = by_use.min_by_key(|(tier, _)| *tier).map(|(_, price)| Box::new(price.clone()));
    let ModelRoute { route, excluded, elsewhere } = ModelRoute::new(pool, places);
    Ok(Model { pool: pool_index, route, members, durations: Durations::default(), excluded, elsewhere, alone })
}
