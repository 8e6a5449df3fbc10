//! Limits that never apply, because a wider one always refuses first.

use spillway_plugins::limits::{LimitId, Rules};

use super::view::{CallerView, View, refuses};
use crate::config::{always_below, lineage};
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
    let too_high = inner.rules.limits().filter_map(|(id, limit)| always_below(id, limit, outer).map(|why| (id, why)));
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
    if rules.windows_of(id.kind).count() > 1 { id.to_string() } else { id.kind.label().to_owned() }
}
