//! `quota_pool` of the pools' members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::balance::target::TargetId;
use crate::config::checker::Checker;
use crate::config::quota_pools::{OWN, RawQuotaPool};
use crate::config::raw::{RawMember, RawPool};
use crate::config::{BackendConfig, DeploymentPrice, Prices};
use crate::provider::BackendKind;

/// A member of a pool, with the model that it serves.
struct Labelled<'c> {
    label: &'c str,
    /// Its place in the config, without `.quota_pool`.
    key: String,
    target: TargetId,
}

/// Reads the labels: which targets share a quota.
pub(super) fn read(raw: &[RawPool], backends: &[BackendConfig], prices: &Prices, check: &mut Checker<'_>) -> BTreeMap<TargetId, Arc<str>> {
    let mut labelled: Vec<Labelled<'_>> = Vec::new();
    for (index, pool) in raw.iter().enumerate() {
        for (at, member) in pool.members.iter().enumerate() {
            let key = format!("pools[{index}].members[{at}]");
            let Some(backend) = backends.iter().find(|backend| *backend.name == *member.backend) else { continue };
            if let Some(label) = &member.quota_pool {
                labelled.extend(member_labels(pool, label, backend, prices, &key, check));
            }
        }
        warn_of_unlabelled(index, pool, backends, prices, check);
    }
    let mut labels: BTreeMap<TargetId, (&str, &str)> = BTreeMap::new();
    for one in &labelled {
        let (first, place) = *labels.entry(one.target.clone()).or_insert((one.label, &one.key));
        if first != one.label {
            check.problem(
                &format!("{}.quota_pool", one.key),
                format!("'{}' is in quota pool '{first}' at {place}, and in '{}' here; a deployment has one quota", one.target, one.label),
            );
        }
    }
    for one in labelled.iter().filter(|one| one.label != OWN) {
        if !labels.iter().any(|(target, (label, _))| *label == one.label && *target != one.target) {
            let what = format!(
                "only '{}' is in quota pool '{}', so that nothing shares it; if it has a quota of its own, write \"{OWN}\"",
                one.target, one.label
            );
            check.warn(&format!("{}.quota_pool", one.key), what);
        }
    }
    labels.into_iter().filter(|(_, (label, _))| *label != OWN).map(|(target, (label, _))| (target, label.into())).collect()
}

/// The labels of one member, by model.
fn member_labels<'c>(
    pool: &'c RawPool,
    label: &'c RawQuotaPool,
    backend: &BackendConfig,
    prices: &Prices,
    key: &str,
    check: &mut Checker<'_>,
) -> Vec<Labelled<'c>> {
    let place = format!("{key}.quota_pool");
    for (model, label) in label.labels() {
        if label.is_empty() || label.chars().any(|c| c.is_control() || c.is_whitespace()) {
            check.problem(&format!("{place}{model}"), "a name must not be empty or have spaces");
        }
    }
    if let RawQuotaPool::ByModel(labels) = label {
        for model in labels.keys().filter(|model| !pool.models.contains(model)) {
            check.unknown(&format!("{place}.{model}"), "model (not in this pool)", model, pool.models.iter().map(String::as_str));
        }
    }
    if backend.kind.provider().own_answer().is_some() {
        check.problem(&place, "has an effect only for a backend that is not a mock");
        return Vec::new();
    }
    let of_model = |model: &'c String| {
        let target = TargetId { backend: backend.name.clone(), deployment: backend.deployment(model).into() };
        Some((model, Labelled { label: label.of(model)?, key: key.to_owned(), target }))
    };
    let all: Vec<_> = pool.models.iter().filter_map(of_model).collect();
    let hourly = |model: &str| matches!(prices.of(backend, model), Some(DeploymentPrice::Hourly(_)));
    if let Some((_, one)) = all.iter().find(|(model, one)| one.label != OWN && hourly(model)) {
        check.warn(&place, format!("'{}' is provisioned: its capacity is its own, and it shares no quota", one.target));
    }
    let deployments: BTreeSet<&TargetId> = all.iter().map(|(_, one)| &one.target).collect();
    if deployments.len() > 1 && matches!(label, RawQuotaPool::All(label) if label != OWN) {
        let names: Vec<&str> = deployments.iter().map(|target| &*target.deployment).collect();
        check.warn(
            &place,
            format!(
                "puts '{}' into one quota pool, but Azure counts the quota of each model by itself; give each model its own: \
                 quota_pool = {{ \"MODEL\" = \"NAME\" }}",
                names.join("', '")
            ),
        );
    }
    all.into_iter().map(|(_, one)| one).collect()
}

/// Reports members of one tier that may share a quota, if the config doesn't say whether they do.
fn warn_of_unlabelled(index: usize, pool: &RawPool, backends: &[BackendConfig], prices: &Prices, check: &mut Checker<'_>) {
    let mut tiers: BTreeMap<u32, Vec<(usize, &RawMember, &BackendConfig)>> = BTreeMap::new();
    for (at, member) in pool.members.iter().enumerate().filter(|(_, member)| member.weight != Some(0)) {
        let Some(backend) = backends.iter().find(|backend| *backend.name == *member.backend) else { continue };
        if matches!(backend.kind, BackendKind::AzureOpenAi(_)) {
            tiers.entry(member.priority.unwrap_or(1)).or_default().push((at, member, backend));
        }
    }
    for tier in tiers.into_values() {
        for model in &pool.models {
            let by_use = |backend: &BackendConfig| !matches!(prices.of(backend, model), Some(DeploymentPrice::Hourly(_)));
            let alike: Vec<_> = tier.iter().filter(|(.., backend)| by_use(backend)).collect();
            let is_unlabelled = |member: &RawMember| member.quota_pool.as_ref().and_then(|label| label.of(model)).is_none();
            let Some((at, ..)) = alike.iter().find(|(_, member, _)| is_unlabelled(member)) else { continue };
            if alike.len() < 2 {
                continue;
            }
            let names: Vec<&str> = alike.iter().map(|(_, member, _)| member.backend.as_str()).collect();
            check.warn(
                &format!("pools[{index}].members[{at}].backend"),
                format!(
                    "'{}' may share one quota for '{model}': Azure counts it by subscription and model, for many models over all regions. \
                     Give those of one subscription the same quota_pool, and quota_pool = \"{OWN}\" to one that shares none",
                    names.join("', '")
                ),
            );
            // The other models have the same members.
            break;
        }
    }
}

#[cfg(test)]
mod tests;
