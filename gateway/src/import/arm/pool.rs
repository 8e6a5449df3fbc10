//! Pools of backends.

use super::node::{Node, unknown_keys};
use super::resources::Resource;
use crate::import::draft::DraftMember;
use crate::import::finding::Findings;
use crate::import::names::last_part;

/// A pool in API Management.
#[derive(Debug, Clone)]
pub(super) struct Balanced {
    pub(super) name: String,
    pub(super) place: String,
    pub(super) policy: Option<&'static str>,
    /// The names of API Management's backends, each with its position.
    pub(super) members: Vec<(String, DraftMember)>,
}

pub(super) fn is_pool(resource: &Resource) -> bool {
    let kind = resource.properties.get("type");
    let named = kind.and_then(|node| node.value.as_str().map(|kind| kind.eq_ignore_ascii_case("pool")));
    named.unwrap_or_else(|| resource.properties.get("pool").is_some())
}

pub(super) fn read(resource: &Resource, findings: &mut Findings) -> Option<Balanced> {
    let name = resource.own_name(findings)?;
    let place = &resource.properties.place;
    let Some(pool) = resource.properties.get("pool") else {
        findings.unsupported(place, format!("'{name}' is of type Pool, but has no 'pool'"));
        return None;
    };
    if let Some(copy) = pool.get("copy").or_else(|| resource.properties.get("copy")) {
        let loops = copy.items();
        let name = loops.first().unwrap_or(&copy).get("name").and_then(|node| node.text(findings)).unwrap_or_default();
        findings.unsupported(
            copy.place,
            format!("the loop '{name}' is not expanded; import its result: the backends as they are deployed (az rest --method get)"),
        );
    }
    let services = pool.get("services").map(|node| node.items()).unwrap_or_default();
    let given = |key: &str| services.iter().filter(|service| service.get(key).is_some()).count();
    let (priorities, weights) = (given("priority"), given("weight"));
    let mut members: Vec<(String, DraftMember)> = Vec::new();
    for service in &services {
        let Some(backend) = service.get("id").and_then(|id| own_name(&id, findings)) else { continue };
        if members.iter().any(|(_, member)| member.backend == backend) {
            findings.unsupported(&service.place, format!("'{backend}' is a member of '{name}' already"));
            continue;
        }
        let priority = number(service, "priority", priorities, findings);
        let weight = number(service, "weight", weights, findings);
        if let Some(carbon) = service.get("preferredCarbonEmission") {
            findings.unsupported(carbon.place, "Spillway doesn't choose by emissions");
        }
        unknown_keys(service, &["id", "priority", "weight", "preferredCarbonEmission"], findings);
        members.push((service.place.clone(), DraftMember { backend, priority, weight }));
    }
    if !members.is_empty() && members.iter().all(|(_, member)| member.weight == 0) {
        findings.approximate(&pool.place, "weight = 1 for each member", "all had weight 0, so none would get requests");
        members.iter_mut().for_each(|(_, member)| member.weight = 1);
    }
    let affinity = pool.get("sessionAffinity").filter(|node| !node.keys().is_empty());
    if let Some(node) = &affinity {
        findings.approximate(
            &node.place,
            "policy = \"affinity\"",
            "by consumer, session header, prompt_cache_key or the prompt's beginning instead of a cookie",
        );
    }
    if let Some(node) = pool.get("failureResponse") {
        findings.unsupported(node.place, "Spillway's status if no member can serve: 429 if all are throttled, else 503");
    }
    unknown_keys(&pool, &["services", "sessionAffinity", "failureResponse", "copy"], findings);
    let ignored = ["url", "protocol", "type", "pool", "title", "description", "resourceId", "provisioningState", "copy"];
    unknown_keys(&resource.properties, &ignored, findings);
    Some(Balanced { name, place: place.clone(), policy: affinity.map(|_| "affinity"), members })
}

/// The backend that an id names, in any of its forms.
fn own_name(id: &Node, findings: &mut Findings) -> Option<String> {
    let text = id.value.as_str().map(last_part).unwrap_or_default();
    let own = Node { value: text.into(), place: id.place.clone() };
    own.text(findings).filter(|name| !name.is_empty())
}

/// A priority or a weight; 1 if none is set.
fn number(service: &Node, key: &str, given_by: usize, findings: &mut Findings) -> u64 {
    if let Some(number) = service.get(key).and_then(|node| node.count(findings)) {
        return number.min(u64::from(u32::MAX));
    }
    if given_by > 0 {
        findings.approximate(
            format!("{}/{key}", service.place),
            format!("{key} = 1"),
            format!("not set, while other members have one; give each member a {key}"),
        );
    }
    1
}
