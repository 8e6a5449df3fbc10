//! Classes of callers that have one backend only, because others are reserved for other classes.

use spillway_plugins::limits::Class;
use spillway_plugins::service_tier::ServiceTier;

use super::view::{MemberView, PoolView, View, list};
use crate::rehearse::finding::{Finding, Severity};

/// Classes with callers, for which `classes` and `late_only` leave one backend, or provisioned throughput only.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let callers = view.callers();
    let pools = view.pools();
    let several = pools.iter().filter(|pool| pool.choices() > 1);
    several
        .flat_map(|pool| {
            let used = |class: &Class| callers.iter().any(|caller| caller.class == *class && caller.may_use(pool.config));
            Class::ALL.into_iter().filter(used).filter_map(|class| one(view, pool, class)).collect::<Vec<_>>()
        })
        .collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>, class: Class) -> Option<Finding> {
    let is_shut = |member: &MemberView<'_>| !member.config.serves.accepts(class, false);
    let serves = |member: &&MemberView<'_>| !is_shut(member) && member.config.service_tier != Some(ServiceTier::Flex);
    let open: Vec<_> = pool.members.iter().filter(serves).collect();
    let left = PoolView::backends(open.iter().copied());
    let is_reserved = |member: &MemberView<'_>| view.is_provisioned(pool, member);
    let only_reserved = open.iter().all(|member| is_reserved(member)) && !pool.members.iter().all(is_reserved);
    // None at all: `check` warns of it.
    if left.is_empty() || !(left.len() == 1 || only_reserved) {
        return None;
    }
    let shut = pool.members.iter().find(|member| is_shut(member))?;
    let text = format!(
        "Requests of class '{}' have only {} in pool '{}': when that is full or out, they get 429 or 503, although others have room.",
        class.label(),
        list(left.iter().copied()),
        pool.config.name
    );
    let remedy = format!("Let a member of a lower tier serve '{}', too.", class.label());
    let key = view.written(&["classes", "late_only"].map(|name| format!("{}.{name}", shut.key))).to_owned();
    Some(view.finding("class-without-way-out", Severity::Error, &key, text, remedy))
}
