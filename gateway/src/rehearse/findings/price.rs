//! Budgets that don't count what is used.

use spillway_plugins::limits::{LimitKind, Rules};

use super::view::{CallerView, MemberView, PoolView, View, list};
use crate::config::{DeploymentPrice, lineage};
use crate::rehearse::finding::{Finding, Severity};

/// Models without a price that a budget applies to, and budgets of pools in which nothing costs by use.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let (pools, callers) = (view.pools(), view.callers());
    let free = pools.iter().flat_map(|pool| pool.members.iter().filter_map(|member| unpriced(view, pool, member, &callers)));
    free.chain(callers.iter().filter_map(|caller| all_hourly(view, caller, &pools))).collect()
}

fn counts(rules: &Rules) -> bool {
    rules.has(LimitKind::Budget) && !rules.shadow
}

/// Whose budget applies to a model of a pool.
fn budget_of(view: &View<'_>, pool: &PoolView<'_>, model: &str, callers: &[CallerView<'_>]) -> Option<String> {
    if counts(&pool.config.limits) {
        return Some(format!("pool '{}'", pool.config.name));
    }
    callers.iter().filter(|caller| caller.may_use_model(pool.config, model)).find_map(|caller| {
        let group = lineage(&view.config.groups, caller.group).map(|(_, group)| group).find(|group| counts(&group.rules));
        let own = counts(&caller.limits.rules) || caller.limits.models.get(model).is_some_and(counts);
        if own { Some(caller.name.clone()) } else { group.map(|group| format!("group '{}'", group.name)) }
    })
}

fn unpriced(view: &View<'_>, pool: &PoolView<'_>, member: &MemberView<'_>, callers: &[CallerView<'_>]) -> Option<Finding> {
    let has_none = |model: &&String| view.config.prices.of(member.backend, model).is_none();
    let (model, whose) =
        pool.config.models.iter().filter(has_none).find_map(|model| Some((model, budget_of(view, pool, model, callers)?)))?;
    let text = format!(
        "The budget of {whose} doesn't count '{model}' at '{}', which has no price: whatever it costs there, the budget never ends it.",
        member.backend.name
    );
    let remedy = "Set backends.prices for it, or limit its tokens with token_quota.";
    Some(view.finding("budget-counts-nothing", Severity::Warning, &format!("{}.backend", member.key), text, remedy))
}

/// A budget of a caller that uses only what is paid by the hour.
fn all_hourly(view: &View<'_>, caller: &CallerView<'_>, pools: &[PoolView<'_>]) -> Option<Finding> {
    if !counts(&caller.limits.rules) {
        return None;
    }
    let used: Vec<_> = pools.iter().filter(|pool| caller.may_use(pool.config) && !pool.members.is_empty()).collect();
    let is_hourly = |pool: &&PoolView<'_>, member: &MemberView<'_>| {
        let price = |model: &String| view.config.prices.of(member.backend, model);
        pool.config.models.iter().all(|model| matches!(price(model), Some(DeploymentPrice::Hourly(_))))
    };
    if used.is_empty() || !used.iter().all(|pool| pool.members.iter().all(|member| is_hourly(pool, member))) {
        return None;
    }
    let names = list(used.iter().map(|pool| &*pool.config.name));
    let text =
        format!("The budget of {} never applies: all members of {names} are paid by the hour, and cost a budget nothing.", caller.name);
    let key = format!("{}.limits.budget", caller.key);
    Some(view.finding("limit-never-applies", Severity::Warning, &key, text, "Limit tokens with token_quota instead."))
}
