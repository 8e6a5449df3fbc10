//! Provisioned throughput that is paid for, and not used first.

use spillway_plugins::service_tier::ServiceTier;

use super::view::{MemberView, PoolView, View};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "ptu-below-pay-as-you-go";

/// Provisioned members in a tier with, or below, members that are paid by use.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let pools = view.pools();
    pools.iter().flat_map(|pool| pool.members.iter().filter_map(|member| one(view, pool, member))).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>, member: &MemberView<'_>) -> Option<Finding> {
    let (model, how) = pool.config.models.iter().find_map(|model| Some((model, view.provisioned(member.backend, model)?)))?;
    let takes_all = |other: &&MemberView<'_>| {
        let serves = other.config.serves;
        let is_always = serves.classes.iter().all(|serves| *serves) && !serves.late_only;
        let is_special = matches!(other.config.service_tier, Some(ServiceTier::Flex));
        is_always && !is_special && view.provisioned(other.backend, model).is_none()
    };
    let others = pool.members.iter().filter(takes_all);
    let first = others.filter(|other| other.config.priority <= member.config.priority).min_by_key(|other| other.config.priority)?;
    let (this, paid) = (&member.backend.name, &first.backend.name);
    let text = if first.config.priority < member.config.priority {
        format!(
            "'{this}' is provisioned ({how}) and is paid for whether it is used or not, but gets requests for '{model}' only when '{paid}', \
             which is paid by use, is full or out."
        )
    } else {
        format!(
            "'{this}' is provisioned ({how}) and is in one tier with '{paid}', which is paid by use: a part of the requests for '{model}' is \
             paid for although the provisioned throughput has room."
        )
    };
    let remedy = format!("Give '{this}' a smaller 'priority' number than '{paid}'.");
    Some(view.finding(CODE, Severity::Warning, &member.key, text, remedy))
}
