//! Limits that never apply, because a wider one always refuses first.

use spillway_plugins::limits::{Calendar, LimitId, LimitKind, Period, Rules};
use spillway_plugins::prices::Money;

use super::view::{CallerView, View, refuses};
use crate::config::lineage;
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

/// Limits of consumers that are above those of their groups or pool, of groups above those that they are in, and of models
/// above their consumer's; and groups without consumers.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let callers = view.callers();
    let mut found: Vec<_> = callers.iter().flat_map(|caller| of_caller(view, caller)).collect();
    let groups = &view.config.groups;
    let mut used = vec![false; groups.len()];
    callers.iter().flat_map(|caller| lineage(groups, caller.group)).for_each(|(at, _)| used[at] = true);
    for (at, group) in groups.iter().enumerate() {
        if !used[at] {
            let text = format!("No consumer is in group '{}': its limits never apply.", group.name);
            let remedy = format!("Set group = \"{}\" for its consumers, or remove the group.", group.name);
            found.push(view.finding(CODE, Severity::Warning, &format!("groups[{at}].name"), text, remedy));
        }
        let inner = Inner { key: format!("groups[{at}].limits"), name: format!("group '{}'", group.name), rules: &group.rules };
        let wider = lineage(groups, group.parent);
        found.extend(wider.flat_map(|(_, wider)| below(view, &inner, &format!("group '{}'", wider.name), &wider.rules)));
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
    let pools: Vec<_> = view.config.pools.iter().filter(|pool| caller.may_use(pool)).collect();
    let groups = lineage(&view.config.groups, caller.group);
    let mut wider: Vec<(String, &Rules)> = groups.map(|(_, group)| (format!("group '{}'", group.name), &group.rules)).collect();
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
    let too_high = inner.rules.limits().filter_map(|(id, limit)| bound(id, limit, outer).map(|why| (id, why)));
    too_high
        .map(|(id, why)| {
            let name = shown(id, inner.rules);
            let text = format!("'{name}' of {} never applies: {wider} allows {why}.", inner.name);
            let remedy = "Make it smaller than the wider limit, or leave it out.";
            view.finding(CODE, Severity::Warning, &key(view, &inner.key, id, inner.rules), text, remedy)
        })
        .collect()
}

/// The key of a limit in the config.
fn key(view: &View<'_>, limits: &str, id: LimitId, rules: &Rules) -> String {
    let name = format!("{limits}.{}", id.kind.label());
    let at = rules.windows_of(id.kind).position(|window| Some(window.calendar) == id.calendar);
    let of_list = at.map(|at| format!("{name}[{at}]")).filter(|key| view.lines.has(key));
    of_list.unwrap_or(name)
}

/// A limit; with its period if there are several of its kind.
fn shown(id: LimitId, rules: &Rules) -> String {
    let calendar = id.calendar.filter(|_| rules.windows_of(id.kind).count() > 1);
    calendar.map_or_else(|| id.kind.label().to_owned(), |calendar| format!("{} per {calendar}", id.kind.label()))
}

/// What `outer` allows, if that is always less than this limit.
fn bound(id: LimitId, limit: u64, outer: &Rules) -> Option<String> {
    let Some(calendar) = id.calendar else { return outer.rate(id.kind).filter(|wider| limit > *wider).map(|wider| format!("{wider}")) };
    let (rate, what) = match id.kind {
        LimitKind::RequestQuota => (outer.requests_per_minute, "requests"),
        LimitKind::Quota => (outer.tokens_per_minute, "tokens"),
        _ => (None, ""),
    };
    let by_window = outer.windows_of(id.kind).find(|wider| limit > wider.limit.saturating_mul(times(calendar, wider.calendar)));
    let by_window = by_window.map(|wider| {
        let amount = if id.kind == LimitKind::Budget {
            format!("{} US dollars", Money(wider.limit).usd())
        } else {
            format!("{} {what}", wider.limit)
        };
        format!("{amount} per {}", wider.calendar)
    });
    by_window.or_else(|| {
        let rate = rate.filter(|rate| limit > rate.saturating_mul(calendar.minutes()))?;
        Some(format!("{rate} {what} per minute, which is less in a whole {}", calendar.period.name()))
    })
}

/// How many calendar periods of `wider` can overlap with one of `inner`.
fn times(inner: Calendar, wider: Calendar) -> u64 {
    let minutes = |calendar: Calendar| Calendar::utc(calendar.period).minutes();
    let (shorter, longer) = (minutes(inner), minutes(wider));
    // A week lies across the bounds of months and years, and a period of one time zone across those of another.
    let weeks = inner.period != wider.period && (inner.period == Period::Week || wider.period == Period::Week);
    let across = u64::from(weeks || inner.zone != wider.zone);
    if shorter <= longer { 1 + across } else { shorter.div_ceil(longer) + across }
}

#[cfg(test)]
mod tests {
    use spillway_plugins::limits::{Window, Zone};

    use super::*;

    #[test]
    fn periods_overlap_at_least_as_often_as_they_fit() {
        let times = |inner, wider| super::times(Calendar::utc(inner), Calendar::utc(wider));
        assert_eq!(times(Period::Day, Period::Day), 1);
        assert_eq!(times(Period::Day, Period::Hour), 24);
        assert_eq!(times(Period::Month, Period::Day), 31);
        assert_eq!(times(Period::Hour, Period::Year), 1);
        assert_eq!(times(Period::Week, Period::Month), 2, "a week may begin in one month and end in the next");
        let berlin = Calendar { period: Period::Day, zone: Zone::named("Europe/Berlin").unwrap() };
        assert_eq!(super::times(berlin, Calendar::utc(Period::Day)), 2, "a day there is in two days of UTC");
    }

    #[test]
    fn a_quota_is_bounded_by_a_quota_of_another_period_and_by_a_rate() {
        let quota = |period, tokens| Rules { windows: vec![Window::utc(LimitKind::Quota, period, tokens)], ..Rules::default() };
        let bound = |period, tokens, outer: &Rules| super::bound(quota(period, tokens).limits().next().unwrap().0, tokens, outer);
        let rate = Rules { tokens_per_minute: Some(100), ..Rules::default() };
        assert!(bound(Period::Month, 1000, &quota(Period::Day, 10)).is_some());
        assert!(bound(Period::Month, 300, &quota(Period::Day, 10)).is_none());
        assert!(bound(Period::Day, 11, &quota(Period::Month, 10)).is_some());
        assert!(bound(Period::Hour, 6001, &rate).is_some());
        assert!(bound(Period::Hour, 6000, &rate).is_none());
    }
}
