//! Model groups become pools.

use super::entry::{Entry, Resource};
use crate::import::draft::{Draft, DraftBackend, DraftKind, DraftMember, DraftPool};
use crate::import::finding::Findings;
use crate::import::names::{name, unused};

/// A model, and the entries that serve it, each with its tier.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) model: String,
    pub(super) tiers: Vec<Vec<Entry>>,
}

/// The groups of `model_list`, in its order.
pub(super) fn of(entries: &[Entry], findings: &mut Findings) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for entry in entries {
        if groups.iter().any(|group| group.model == entry.model) {
            continue;
        }
        let own: Vec<&Entry> = entries.iter().filter(|other| other.model == entry.model).collect();
        let mut orders: Vec<u64> = own.iter().filter_map(|entry| entry.order).collect();
        orders.sort_unstable();
        orders.dedup();
        let mut tiers: Vec<Vec<Entry>> = orders
            .iter()
            .map(|order| own.iter().filter(|entry| entry.order == Some(*order)).map(|entry| (*entry).clone()).collect())
            .collect();
        let rest: Vec<Entry> = own.iter().filter(|entry| entry.order.is_none()).map(|entry| (*entry).clone()).collect();
        for entry in own.iter().filter(|entry| entry.order.is_some()) {
            let priority = orders.iter().position(|order| Some(*order) == entry.order).map_or(1, |at| at + 1);
            findings.exact(format!("{}.litellm_params.order", entry.place), format!("priority = {priority}"));
        }
        if !rest.is_empty() {
            if !orders.is_empty() {
                for entry in &rest {
                    findings.approximate(&entry.place, "the last tier", "others of its model have an 'order', this one doesn't");
                }
            }
            tiers.push(rest);
        }
        groups.push(Group { model: entry.model.clone(), tiers });
    }
    groups
}

/// Makes the pool of a group; a group with the same members as an earlier one is added to that one's pool.
pub(super) fn add(group: &Group, template: &DraftPool, draft: &mut Draft, findings: &mut Findings) {
    let mut members: Vec<DraftMember> = Vec::new();
    for (tier, entries) in group.tiers.iter().enumerate() {
        let weights = weights(entries, findings);
        for (entry, weight) in entries.iter().zip(weights) {
            let backend = backend(entry, &group.model, &members, draft);
            members.push(DraftMember { backend, priority: tier as u64 + 1, weight });
        }
    }
    let own =
        |pool: &DraftPool| DraftPool { members: Vec::new(), models: Vec::new(), name: String::new(), from: String::new(), ..pool.clone() };
    let same = |pool: &&mut DraftPool| pool.members == members && own(pool).retry == template.retry;
    if let Some(pool) = draft.pools.iter_mut().find(same) {
        pool.models.push(group.model.clone());
        return;
    }
    let from = group.tiers.first().and_then(|tier| tier.first()).map(|entry| entry.place.clone()).unwrap_or_default();
    let name = unused(&name(&group.model), |name| draft.pools.iter().any(|pool| pool.name == name));
    draft.pools.push(DraftPool { name, from, models: vec![group.model.clone()], members, ..template.clone() });
}

/// The backend of an entry: an existing one with the same settings, unless it serves this model with another deployment
/// already.
fn backend(entry: &Entry, model: &str, members: &[DraftMember], draft: &mut Draft) -> String {
    let fits = |backend: &&mut DraftBackend| {
        same(backend, &entry.resource)
            && backend.deployments.get(model).is_none_or(|deployment| *deployment == entry.deployment)
            && !members.iter().any(|member| member.backend == backend.name)
    };
    if let Some(backend) = draft.backends.iter_mut().find(fits) {
        backend.deployments.insert(model.to_owned(), entry.deployment.clone());
        return backend.name.clone();
    }
    let resource = entry.resource.clone();
    let host = resource.url.split("://").nth(1).unwrap_or(&resource.url);
    let label = host.split(['/', ':']).next().unwrap_or(host);
    let wanted = match resource.kind {
        DraftKind::OpenAi if label == "api.openai.com" => "openai",
        DraftKind::Anthropic if label == "api.anthropic.com" => "anthropic",
        DraftKind::Azure => label.split('.').next().unwrap_or(label),
        _ => label,
    };
    let name = unused(&name(wanted), |name| draft.backends.iter().any(|backend| backend.name == name));
    draft.backends.push(DraftBackend {
        name: name.clone(),
        from: entry.place.clone(),
        kind: resource.kind,
        url: resource.url,
        api_version: resource.api_version,
        location: resource.location,
        auth: resource.auth,
        deployments: [(model.to_owned(), entry.deployment.clone())].into(),
        max_concurrent: resource.max_concurrent,
    });
    name
}

fn same(backend: &DraftBackend, resource: &Resource) -> bool {
    backend.kind == resource.kind
        && backend.url == resource.url
        && backend.api_version == resource.api_version
        && backend.auth == resource.auth
        && backend.location == resource.location
        && backend.max_concurrent == resource.max_concurrent
}

/// What an entry's share is computed from.
type Share = fn(&Entry) -> Option<u64>;

/// As in simple-shuffle: by `weight` if any entry has one, else by `rpm`, else by `tpm`.
fn weights(entries: &[Entry], findings: &mut Findings) -> Vec<u64> {
    let by: [(&str, Share); 3] = [("weight", |entry| entry.weight), ("rpm", |entry| entry.rpm), ("tpm", |entry| entry.tpm)];
    let Some((key, of)) = by.into_iter().find(|(_, of)| entries.iter().any(|entry| of(entry).is_some_and(|value| value > 0))) else {
        return vec![1; entries.len()];
    };
    let values: Vec<u64> = entries.iter().map(|entry| of(entry).unwrap_or(0)).collect();
    let divisor = values.iter().copied().fold(0, gcd).max(1);
    for (entry, value) in entries.iter().zip(&values) {
        let place = format!("{}.litellm_params.{key}", entry.place);
        let weight = (value / divisor).min(u64::from(u32::MAX));
        if of(entry).is_some() {
            findings.exact(place, format!("weight = {weight}"));
        } else {
            findings.approximate(
                place,
                "weight = 0",
                format!("others have a '{key}', this one doesn't: LiteLLM sent it no requests, either"),
            );
        }
    }
    values.into_iter().map(|value| (value / divisor).min(u64::from(u32::MAX))).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
