//! Limits that never apply, because a wider one always refuses first.

use spillway_plugins::limits::{LimitKind, Period, Rules};

use super::view::{CallerView, View, refuses};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "limit-never-applies";

/// A limit and what contains it.
struct Inner<'r> {
    /// Its key: `consumers[0].limits`.
    key: String,
    /// Whose it is.
    name: String,
    rules: &'r Rules,
}

/// Limits of consumers that are above those of their group or pool, and limits of models above their consumer's.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let callers = view.callers();
    let mut found: Vec<_> = callers.iter().flat_map(|caller| of_caller(view, caller)).collect();
    for (at, group) in view.config.groups.iter().enumerate() {
        if !view.config.consumers.iter().any(|consumer| consumer.group == Some(at)) {
            let text = format!("No consumer is in group '{}': its limits never apply.", group.name);
            let remedy = format!("Set group = \"{}\" for its consumers, or remove the group.", group.name);
            found.push(view.finding(CODE, Severity::Warning, &format!("groups[{at}].name"), text, remedy));
        }
    }
    found
}

fn of_caller(view: &View<'_>, caller: &CallerView<'_>) -> Vec<Finding> {
    let own = Inner { key: format!("{}.limits", caller.key), name: caller.name.clone(), rules: &caller.limits.rules };
    let models: Vec<Inner<'_>> = caller
        .limits
        .models
        .iter()
        .map(|(model, rules)| Inner {
            key: format!("{}.limits.models.{model}", caller.key),
            name: format!("{} for '{model}'", caller.name),
            rules,
        })
        .collect();
    let group = caller.group.and_then(|at| view.config.groups.get(at));
    let pools: Vec<_> = view.config.pools.iter().filter(|pool| caller.may_use(pool)).collect();
    let mut wider: Vec<(String, &Rules)> = group.map(|group| (format!("group '{}'", group.name), &group.rules)).into_iter().collect();
    // The limits of a pool bound a caller only if it can use no other.
    if let [pool] = pools.as_slice() {
        wider.push((format!("pool '{}'", pool.name), &pool.limits));
    }
    let mut found = Vec::new();
    for inner in &models {
        found.extend(below(view, inner, &own.name, own.rules));
    }
    for (name, rules) in &wider {
        for inner in models.iter().chain([&own]) {
            found.extend(below(view, inner, name, rules));
        }
    }
    found
}

/// What of `inner` never applies because of `wider`.
fn below(view: &View<'_>, inner: &Inner<'_>, wider: &str, outer: &Rules) -> Vec<Finding> {
    if !refuses(inner.rules) || !refuses(outer) {
        return Vec::new();
    }
    let too_high = LimitKind::ALL.into_iter().filter_map(|kind| bound(kind, inner.rules, outer).map(|why| (kind, why)));
    too_high
        .map(|(kind, why)| {
            let name = key_of(kind);
            let text = format!("'{name}' of {} never applies: {wider} allows {why}.", inner.name);
            let remedy = "Make it smaller than the wider limit, or leave it out.";
            view.finding(CODE, Severity::Warning, &format!("{}.{name}", inner.key), text, remedy)
        })
        .collect()
}

/// The key of a limit in the config.
fn key_of(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Requests => "requests_per_minute",
        LimitKind::Tokens => "tokens_per_minute",
        LimitKind::Concurrent => "concurrent_requests",
        LimitKind::Quota => "token_quota",
        LimitKind::Budget => "budget",
    }
}

/// What `outer` allows, if that is always less than the limit of this kind in `inner`.
fn bound(kind: LimitKind, inner: &Rules, outer: &Rules) -> Option<String> {
    let limit = inner.limit(kind)?;
    match kind {
        LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent => {
            outer.limit(kind).filter(|wider| limit > *wider).map(|wider| format!("{wider}"))
        }
        LimitKind::Quota => {
            let (period, _) = inner.quota?;
            let by_quota = outer.quota.filter(|(wider, tokens)| limit > tokens.saturating_mul(times(period, *wider)));
            let by_quota = by_quota.map(|(wider, tokens)| format!("{tokens} tokens per {}", wider.name()));
            by_quota.or_else(|| {
                let rate = outer.tokens_per_minute.filter(|rate| limit > rate.saturating_mul(minutes(period)))?;
                Some(format!("{rate} tokens per minute, which is less in a whole {}", period.name()))
            })
        }
        LimitKind::Budget => {
            let (period, _) = inner.budget?;
            let wider = outer.budget.filter(|(wider, money)| limit > money.0.saturating_mul(times(period, *wider)));
            wider.map(|(wider, money)| format!("{} US dollars per {}", money.usd(), wider.name()))
        }
    }
}

/// The most minutes of a period.
fn minutes(period: Period) -> u64 {
    match period {
        Period::Hour => 60,
        Period::Day => 1_440,
        Period::Week => 10_080,
        Period::Month => 44_640,
        Period::Year => 527_040,
    }
}

/// How many calendar periods `wider` can overlap with one `period`.
fn times(period: Period, wider: Period) -> u64 {
    let (inner, outer) = (minutes(period), minutes(wider));
    // A week lies across the bounds of months and years.
    let across = u64::from(period != wider && (period == Period::Week || wider == Period::Week));
    if inner <= outer { 1 + across } else { inner.div_ceil(outer) + across }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_overlap_at_least_as_often_as_they_fit() {
        assert_eq!(times(Period::Day, Period::Day), 1);
        assert_eq!(times(Period::Day, Period::Hour), 24);
        assert_eq!(times(Period::Month, Period::Day), 31);
        assert_eq!(times(Period::Hour, Period::Year), 1);
        assert_eq!(times(Period::Week, Period::Month), 2, "a week may begin in one month and end in the next");
    }

    #[test]
    fn a_quota_is_bounded_by_a_quota_of_another_period_and_by_a_rate() {
        let quota = |period, tokens| Rules { quota: Some((period, tokens)), ..Rules::default() };
        let rate = Rules { tokens_per_minute: Some(100), ..Rules::default() };
        assert!(bound(LimitKind::Quota, &quota(Period::Month, 1000), &quota(Period::Day, 10)).is_some());
        assert!(bound(LimitKind::Quota, &quota(Period::Month, 300), &quota(Period::Day, 10)).is_none());
        assert!(bound(LimitKind::Quota, &quota(Period::Day, 11), &quota(Period::Month, 10)).is_some());
        assert!(bound(LimitKind::Quota, &quota(Period::Hour, 6001), &rate).is_some());
        assert!(bound(LimitKind::Quota, &quota(Period::Hour, 6000), &rate).is_none());
    }
}
