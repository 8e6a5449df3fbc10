//! Members that look like several, and are one.

use super::view::{MemberView, PoolView, View, list};
use crate::config::{BackendAuth, Endpoint};
use crate::provider::BackendKind;
use crate::rehearse::finding::{Finding, Severity};

/// Backends that are one resource, and pools whose pay-as-you-go members share one quota.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.pools().iter().flat_map(|pool| same_resource(view, pool).into_iter().chain(one_quota(view, pool))).collect()
}

/// Whether two backends are one resource with one quota. Azure's resources have hosts of their own. At other vendors many
/// accounts share a host, and only keys tell them apart, which aren't compared.
fn is_same(a: &MemberView<'_>, b: &MemberView<'_>) -> bool {
    let root = |endpoint: &Endpoint| (endpoint.server_name.to_ascii_lowercase(), endpoint.port, endpoint.prefix.clone());
    let (Some(one), Some(other)) = (&a.backend.endpoint, &b.backend.endpoint) else { return false };
    let azure = |member: &MemberView<'_>| matches!(member.backend.kind, BackendKind::AzureOpenAi(_));
    let keyless = |member: &MemberView<'_>| !matches!(member.backend.auth, BackendAuth::ApiKey(_));
    let is_account = [a, b].into_iter().all(|member| azure(member) || keyless(member));
    a.backend.name != b.backend.name && root(one) == root(other) && is_account
}

fn same_resource(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, member) in pool.members.iter().enumerate() {
        let shares = |model: &&String| {
            let same =
                |other: &&MemberView<'_>| is_same(other, member) && other.backend.deployment(model) == member.backend.deployment(model);
            pool.members[..at].iter().any(|other| same(&other))
        };
        let Some(model) = pool.config.models.iter().find(shares) else { continue };
        let Some(first) = pool.members[..at].iter().find(|other| is_same(other, member)) else { continue };
        let text = format!(
            "'{}' and '{}' are the same deployment '{}' of one resource: when one is full or out, so is the other, and pool '{}' has one \
             way out less than it seems.",
            first.backend.name,
            member.backend.name,
            member.backend.deployment(model),
            pool.config.name
        );
        let Some(index) = view.config.backends.iter().position(|backend| backend.name == member.backend.name) else { continue };
        let remedy = "Correct 'url' or 'deployments' of the second one, or remove it.";
        found.push(view.finding("same-resource-twice", Severity::Error, &format!("backends[{index}].url"), text, remedy));
    }
    found
}

/// All members that are paid by use have one label.
fn one_quota(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let by_use: Vec<_> = pool.members.iter().filter(|member| !view.is_provisioned(pool, member)).collect();
    let label = |member: &&MemberView<'_>, model: &String| {
        let deployment = member.backend.deployment(model);
        let mut labels = view.config.quota_pools.iter();
        labels
            .find(|(target, _)| target.backend == member.backend.name && *target.deployment == *deployment)
            .map(|(_, label)| label.clone())
    };
    if PoolView::backends(by_use.iter().copied()).len() < 2 {
        return None;
    }
    let shared = |model: &&String| {
        let mut labels = by_use.iter().map(|member| label(member, model));
        labels.next().flatten().filter(|first| labels.all(|label| label.as_ref() == Some(first))).is_some()
    };
    let model = pool.config.models.iter().find(shared)?;
    let text = format!(
        "All members of pool '{}' that are paid by use ({}) share one quota for '{model}': one 429 about it closes them all.",
        pool.config.name,
        list(PoolView::backends(by_use.iter().copied()))
    );
    let remedy = "If callers must be served then, add a member of another subscription or vendor.";
    Some(view.finding("one-quota", Severity::Note, &format!("{}.quota_pool", by_use[0].key), text, remedy))
}
