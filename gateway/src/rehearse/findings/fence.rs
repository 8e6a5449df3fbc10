//! Fences that leave a caller nowhere to go.

use spillway_plugins::api::Api;

use super::view::{CallerView, MemberView, PoolView, View, list};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "fence-without-way-out";

/// Locations, pools, models and kinds of API that leave a caller one backend, or none.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let pools = view.pools();
    view.callers().iter().flat_map(|caller| of_caller(view, caller, &pools)).collect()
}

fn of_caller(view: &View<'_>, caller: &CallerView<'_>, pools: &[PoolView<'_>]) -> Vec<Finding> {
    let allowed: Vec<_> = pools.iter().filter(|pool| caller.may_use(pool.config)).collect();
    if allowed.is_empty() {
        let key = format!("{}.{}", caller.key, if caller.rights.pools.is_some() { "pools" } else { "models" });
        let text = format!("No pool has a model that {} may use: its requests get 403.", caller.name);
        return vec![view.finding(CODE, Severity::Error, &key, text, "List models of the pools that it may use, or their pools.")];
    }
    apis(view, caller, &allowed).into_iter().chain(locations(view, caller, &allowed)).collect()
}

fn apis(view: &View<'_>, caller: &CallerView<'_>, pools: &[&PoolView<'_>]) -> Vec<Finding> {
    let served = |api: &Api| pools.iter().flat_map(|pool| &pool.members).any(|member| member.backend.kind.provider().serves(*api));
    let any = pools.iter().any(|pool| !pool.members.is_empty());
    let unserved = caller.rights.apis.iter().flatten().enumerate().filter(|(_, api)| any && !served(api));
    unserved
        .map(|(at, api)| {
            let text = format!("No backend that {} may use serves '{}': such requests get 404.", caller.name, api.label());
            let key = format!("{}.apis[{at}]", caller.key);
            view.finding(CODE, Severity::Warning, &key, text, "Allow a pool whose backends serve it, or leave it out.")
        })
        .collect()
}

fn locations(view: &View<'_>, caller: &CallerView<'_>, pools: &[&PoolView<'_>]) -> Vec<Finding> {
    let Some(fence) = &caller.rights.locations else { return Vec::new() };
    let fence = list(fence.iter().map(|location| &**location));
    let key = format!("{}.locations", caller.key);
    let is_inside = |member: &&MemberView<'_>| caller.may_be_at(member.backend);
    let none_at_all = pools.iter().all(|pool| !pool.members.iter().any(|member| is_inside(&member)));
    let mut found = Vec::new();
    for pool in pools.iter().filter(|pool| !pool.members.is_empty()) {
        let (inside, outside): (Vec<_>, Vec<_>) = pool.members.iter().partition(is_inside);
        // A member without a location is outside of every fence.
        let unknown = list(PoolView::backends(outside.iter().copied().filter(|member| member.backend.location.is_none())));
        let hint = if unknown.is_empty() { String::new() } else { format!(" ({unknown} has no 'location', and counts as outside)") };
        let (caller_name, pool_name) = (&caller.name, &pool.config.name);
        if inside.is_empty() {
            let severity = if none_at_all || !unknown.is_empty() { Severity::Error } else { Severity::Note };
            let text = format!("No backend of pool '{pool_name}' is in {fence}{hint}: requests of {caller_name} for it get 403.");
            found.push(view.finding(CODE, severity, &key, text, "Add a location, or set 'location' of the backends."));
            continue;
        }
        let only_reserved = inside.iter().all(|member| view.is_provisioned(pool, member));
        let left = PoolView::backends(inside.iter().copied());
        let names = list(left.iter().copied());
        if left.len() == 1 && pool.choices() > 1 {
            let text = format!(
                "Of pool '{pool_name}', {caller_name} may use only {names}, because of its locations {fence}{hint}: when that is full or \
                 out, its callers get 429 or 503, although the pool has others."
            );
            let severity = if only_reserved || !unknown.is_empty() { Severity::Error } else { Severity::Warning };
            found.push(view.finding(CODE, severity, &key, text, remedy(&unknown)));
        } else if only_reserved && !outside.is_empty() {
            let text = format!(
                "Of pool '{pool_name}', {caller_name} may use only provisioned throughput ({names}), because of its locations \
                 {fence}{hint}: when that is full, its callers get 429."
            );
            found.push(view.finding(CODE, Severity::Error, &key, text, remedy(&unknown)));
        } else if !unknown.is_empty() {
            let text = format!("{unknown} of pool '{pool_name}' has no 'location', so that {caller_name} is never served by it.");
            found.push(view.finding(CODE, Severity::Warning, &key, text, remedy(&unknown)));
        }
    }
    // One finding for each key: the worst.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found.truncate(1);
    found
}

fn remedy(unknown: &str) -> String {
    if unknown.is_empty() {
        "Add a second backend in these locations, or allow a further location.".to_owned()
    } else {
        format!("Set 'location' of {unknown}, if it is inside; else add a second backend in these locations.")
    }
}
