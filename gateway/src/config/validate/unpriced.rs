//! Models without a price: their usage counts against no budget. If a budget applies to such a model, the config must
//! say that this is intended.

use std::sync::Arc;

use spillway_plugins::limits::{LimitKind, Rules};
use spillway_plugins::service_tier::ServiceTier;

use crate::config::checker::Checker;
use crate::config::{BackendConfig, Consumer, ConsumerLimits, DeploymentPrice, Group, PoolConfig, Prices, Rights, TokenRules, lineage};

/// The budgets of a config.
pub(super) struct Budgets<'c> {
    pub(super) consumers: &'c [Consumer],
    pub(super) groups: &'c [Group],
    pub(super) tokens: Option<&'c TokenRules>,
}

/// Reports members whose usage will have no cost: an error if a budget applies, unless such models are `free`.
pub(super) fn check(
    pools: &[PoolConfig],
    backends: &[BackendConfig],
    prices: &Prices,
    budgets: &Budgets<'_>,
    free: bool,
    check: &mut Checker<'_>,
) {
    for (index, pool) in pools.iter().enumerate() {
        for (at, member) in pool.members.iter().enumerate() {
            let Some(backend) = backends.get(member.backend).filter(|backend| backend.endpoint.is_some()) else { continue };
            let unknown: Vec<&str> = pool.models.iter().filter(|model| prices.of(backend, model).is_none()).map(String::as_str).collect();
            if let Some(tier) = member.service_tier.filter(|tier| *tier != ServiceTier::Default) {
                let has_none = |model: &&String| match prices.of(backend, model) {
                    Some(DeploymentPrice::ByUse(price)) => price.tiers.iter().all(|prices| prices.tier != tier),
                    Some(DeploymentPrice::Hourly(_)) | None => false,
                };
                if let Some(model) = pool.models.iter().find(has_none) {
                    let what = format!(
                        "no price of the tier '{tier}' is known for '{model}' at '{}': its cost will be that of the default tier, marked as an \
                         estimate; set backends.prices or prices.file",
                        backend.name,
                        tier = tier.label()
                    );
                    check.warn(&format!("pools[{index}].members[{at}].service_tier"), what);
                }
            }
            if unknown.is_empty() {
                continue;
            }
            let key = format!("pools[{index}].members[{at}].backend");
            let what = format!("no price is known for '{}' at '{}'", unknown.join("', '"), backend.name);
            let mut applies = unknown.iter().filter_map(|model| budgets.of(pool, model, backend.location.as_ref()));
            match applies.next().filter(|_| !free) {
                Some(whose) => check.problem(
                    &key,
                    format!(
                        "{what}, and the budget of {whose} couldn't count it; set backends.prices or prices.file, or prices.unknown = \"free\" \
                         if it is to cost a budget nothing"
                    ),
                ),
                None => {
                    check.warn(&key, format!("{what}: its cost will be unknown, and budgets can't count it; set backends.prices or prices.file"));
                }
            }
        }
    }
}

impl Budgets<'_> {
    /// Whose budget applies to a model of a pool at this location, if any.
    fn of(&self, pool: &PoolConfig, model: &str, location: Option<&Arc<str>>) -> Option<String> {
        if counts(&pool.limits) {
            return Some(format!("pool '{}'", pool.name));
        }
        let by_model = |limits: &ConsumerLimits| counts(&limits.rules) || limits.models.get(model).is_some_and(counts);
        let of_consumer = self.consumers.iter().filter(|consumer| may_use(&consumer.rights, pool, model, location)).find_map(|consumer| {
            if by_model(&consumer.limits) { Some(format!("consumer '{}'", consumer.name)) } else { self.of_groups(consumer.group) }
        });
        let unlisted = || {
            let unlisted = self.tokens.and_then(|tokens| tokens.unlisted.as_ref())?;
            let own = by_model(&unlisted.limits).then(|| "callers that aren't listed (plugins.auth.jwt.unlisted)".to_owned());
            own.or_else(|| self.of_groups(unlisted.group)).filter(|_| may_use(&unlisted.rights, pool, model, location))
        };
        of_consumer.or_else(unlisted)
    }

    /// The nearest group with a budget, from this one up.
    fn of_groups(&self, group: Option<usize>) -> Option<String> {
        let found = lineage(self.groups, group).find(|(_, group)| counts(&group.rules));
        found.map(|(_, group)| format!("group '{}'", group.name))
    }
}

/// Whether there is a budget that refuses requests.
fn counts(rules: &Rules) -> bool {
    rules.has(LimitKind::Budget) && !rules.shadow
}

fn may_use(rights: &Rights, pool: &PoolConfig, model: &str, location: Option<&Arc<str>>) -> bool {
    rights.models.as_ref().is_none_or(|models| models.iter().any(|known| known == model))
        && rights.pools.as_ref().is_none_or(|pools| pools.iter().any(|known| **known == *pool.name))
        && rights.locations.as_ref().is_none_or(|fence| location.is_some_and(|location| fence.contains(location)))
}
