//! Consumers' rights and limits: who may use what, and what a request reserves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::limits::{Demand, LimitKind, Path, Permit, Rank, Refused, Rules, Scope, Timestamps, Used, admit};
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use crate::clock::Tick;
use crate::config::{Config, ConsumerLimits, DeploymentPrice, Group, Rights, UNLISTED, consumer_name, group_name, model_name, pool_name};

use crate::simulate::request::Request;
use crate::simulate::world::Model;

/// Most consumers that are not listed.
const STRANGERS: usize = 10_000;
/// Larger than any limit; sums of it don't overflow.
const MOST: u64 = 1 << 48;

/// Rights and limits of a config.
#[derive(Debug)]
pub(in crate::simulate) struct Limits {
    consumers: HashMap<Arc<str>, Account>,
    /// What callers may use that a token makes a consumer, and their limits.
    unlisted: Option<(Rights, ConsumerLimits, Option<usize>)>,
    groups: Vec<(Group, Option<Arc<Scope>>)>,
    pools: Vec<Option<Arc<Scope>>>,
    /// Tokens that are reserved for a completion without a cap.
    assumed: u64,
}

#[derive(Debug)]
struct Account {
    rights: Rights,
    own: Option<Arc<Scope>>,
    models: HashMap<String, Arc<Scope>>,
    group: Option<usize>,
}

/// A limit that refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulate) struct Limit {
    /// Whose it is: `consumer 'crm-bot'`.
    pub(in crate::simulate) owner: Arc<str>,
    pub(in crate::simulate) kind: LimitKind,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulate) enum NotAdmitted {
    Limit(Limit),
    /// Its consumer may not use the model, or must be known.
    NotAllowed,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(in crate::simulate) struct Asks<'a> {
    pub(in crate::simulate) consumer: &'a str,
    pub(in crate::simulate) model: &'a str,
    /// Index of its pool.
    pub(in crate::simulate) pool: usize,
    pub(in crate::simulate) pool_name: &'a str,
}

fn scope(rank: Rank, name: String, rules: &Rules) -> Option<Arc<Scope>> {
    (!rules.is_empty()).then(|| Scope::new(rank, name, rules.clone(), false))
}

impl Account {
    fn new(name: &str, rights: &Rights, limits: &ConsumerLimits, group: Option<usize>) -> Self {
        let one = |(model, rules): (&String, &Rules)| Some((model.clone(), scope(Rank::ConsumerModel, model_name(name, model), rules)?));
        Account {
            rights: rights.clone(),
            own: scope(Rank::Consumer, consumer_name(name), &limits.rules),
            models: limits.models.iter().filter_map(one).collect(),
            group,
        }
    }
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let consumers = config.consumers.iter().map(|consumer| {
            let account = Account::new(&consumer.name, &consumer.rights, &consumer.limits, consumer.group);
            (Arc::clone(&consumer.name), account)
        });
        let unlisted = config.plugins.auth.tokens.as_ref().and_then(|tokens| tokens.unlisted.as_ref());
        Limits {
            consumers: consumers.collect(),
            unlisted: unlisted.map(|unlisted| (unlisted.rights.clone(), unlisted.limits.clone(), unlisted.group)),
            groups: config.groups.iter().map(|group| (group.clone(), scope(Rank::Group, group_name(&group.name), &group.rules))).collect(),
            pools: config.pools.iter().map(|pool| scope(Rank::Pool, pool_name(&pool.name), &pool.limits)).collect(),
            assumed: config.usage.assume_completion,
        }
    }

    /// Whether the config lists a consumer of this name.
    pub(in crate::simulate) fn knows(&self, consumer: &str) -> bool {
        self.consumers.contains_key(consumer)
    }

    /// Admits a request to all of its scopes, or to none; `None` if none applies. A consumer that the config doesn't list has
    /// no limits of its own, and may use everything: logs name consumers in other ways than keys and tokens do.
    ///
    /// # Errors
    /// [`NotAdmitted`]
    pub(in crate::simulate) fn admit(
        &mut self,
        asks: Asks<'_>,
        request: &Request,
        demand: Demand,
        now: Tick,
    ) -> Result<Option<Permit>, NotAdmitted> {
        if !self.consumers.contains_key(asks.consumer)
            && asks.consumer.starts_with(UNLISTED)
            && self.consumers.len() < STRANGERS
            && let Some((rights, limits, group)) = &self.unlisted
        {
            self.consumers.insert(asks.consumer.into(), Account::new(asks.consumer, rights, limits, *group));
        }
        let account = self.consumers.get(asks.consumer);
        if account.is_some_and(|account| !account.may_use(asks, request.api)) {
            return Err(NotAdmitted::NotAllowed);
        }
        let mut path = Path::new();
        if let Some(account) = account {
            path.extend(account.own.clone());
            path.extend(account.models.get(asks.model).cloned());
            let mut below = consumer_name(asks.consumer);
            for (scope, name) in self.above(account.group) {
                if let Some(scope) = scope {
                    path.push(Arc::clone(scope), scope.guarantee_of(&below));
                }
                below = name;
            }
        }
        path.extend(self.pools.get(asks.pool).cloned().flatten());
        if path.is_empty() {
            return Ok(None);
        }
        match admit(&path, demand, timestamps(now), |_, _| ()) {
            Ok(permit) => Ok(Some(permit)),
            Err(Refused::Limit { scope, id, .. }) => Err(NotAdmitted::Limit(Limit { owner: scope.into(), kind: id.kind })),
            // Scopes here are not shared with other nodes.
            Err(Refused::Share(_)) => Ok(None),
        }
    }

    /// The scopes and names of a group and of those that it is in.
    fn above(&self, group: Option<usize>) -> impl Iterator<Item = (&Option<Arc<Scope>>, String)> {
        let at = |index: Option<usize>| self.groups.get(index?);
        let all = std::iter::successors(at(group), move |(group, _)| at(group.parent));
        all.map(|(group, scope)| (scope, group_name(&group.name)))
    }

    /// What a request reserves.
    pub(in crate::simulate) fn demand(&self, request: &Request, model: &Model, class: spillway_plugins::limits::Class) -> Demand {
        let seen = request.seen.as_deref();
        if let Some((tokens, cost)) = seen.and_then(|seen| seen.demand) {
            return Demand { tokens, cost, class };
        }
        let generates = !matches!(request.api, Api::Embeddings | Api::Speech);
        let bound = Usage {
            input: seen.and_then(|seen| seen.prompt_bound).unwrap_or(request.usage.input).min(MOST),
            output: request.cap.unwrap_or(if generates { self.assumed } else { 0 }).min(MOST),
            ..Usage::default()
        };
        let prices = model.members.iter().filter_map(|member| member.price.as_ref());
        let cost = prices.map(|price| match price {
            DeploymentPrice::ByUse(price) => price.at_most(&bound, None),
            DeploymentPrice::Hourly(_) => Money::default(),
        });
        Demand { tokens: bound.tokens(), cost: cost.max().unwrap_or_default(), class }
    }
}

impl Account {
    fn may_use(&self, asks: Asks<'_>, api: Api) -> bool {
        let Rights { models, pools, apis, .. } = &self.rights;
        models.as_ref().is_none_or(|models| models.iter().any(|model| model == asks.model))
            && pools.as_ref().is_none_or(|pools| pools.iter().any(|pool| pool == asks.pool_name))
            && apis.as_ref().is_none_or(|apis| apis.contains(&api))
    }
}

/// Replaces what was reserved by what was used.
pub(in crate::simulate) fn settle(permit: Option<Permit>, tokens: u64, cost: Money, now: Tick) {
    if let Some(permit) = permit {
        permit.settle(Used { tokens, cost }, timestamps(now), |_, _| ());
    }
}

/// Adds what an attempt used to what is reserved.
pub(in crate::simulate) fn book(permit: Option<&Permit>, tokens: u64, cost: Money, now: Tick) {
    if let Some(permit) = permit {
        permit.book(Used { tokens, cost }, timestamps(now), |_, _| ());
    }
}

/// Both clocks at a time of the log.
fn timestamps(now: Tick) -> Timestamps {
    let monotonic = Duration::from_nanos(now.0);
    Timestamps { monotonic, unix: i64::try_from(monotonic.as_secs()).unwrap_or(i64::MAX) }
}
