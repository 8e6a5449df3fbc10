//! Azure API Management: backends and pools in ARM JSON, with the policies that use them.

mod backend;
mod breaker;
mod duration;
mod expr;
mod models;
mod node;
mod pool;
mod resources;

use backend::Single;
use models::Deployments;
use pool::Balanced;
use resources::{Given, Resource, Type};

pub(super) use node::DEPLOYED;

use super::draft::{Draft, DraftBackend, DraftMember, DraftPool};
use super::error::ImportError;
use super::finding::Findings;
use super::names::{name, unused};
use super::policy::{self, Wishes};

/// With `alone`, policies are imported without backends.
pub(super) fn import(inputs: &[(&str, &str)], alone: bool, findings: &mut Findings) -> Result<Draft, ImportError> {
    let mut given = Given::new();
    let mut documents = Vec::new();
    let mut wishes = Wishes::default();
    for (file, text) in inputs {
        if text.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
            policy::read(file, text, &mut wishes, findings)?;
            continue;
        }
        let json = resources::parse(file, text)?;
        match resources::parameters_file(&json) {
            Some(values) => given.extend(values),
            None => documents.push((*file, json)),
        }
    }
    let mut found = Vec::new();
    for (file, json) in &documents {
        let resources = resources::collect(file, json, &given, findings);
        if resources.is_empty() {
            findings.unsupported(*file, "contains no backend, pool or policy");
        }
        found.extend(resources);
    }
    for resource in found.iter().filter(|resource| resource.kind == Type::Policy) {
        policy_of(resource, &mut wishes, findings)?;
    }
    let mut draft = build(&found, &wishes, findings);
    if alone && draft.pools.is_empty() {
        policy::stand_in(&wishes, &mut draft, findings);
    }
    policy::apply(&wishes, &mut draft, findings);
    Ok(draft)
}

fn policy_of(resource: &Resource, wishes: &mut Wishes, findings: &mut Findings) -> Result<(), ImportError> {
    let Some(value) = resource.properties.get("value") else { return Ok(()) };
    let link = resource.properties.get("format").and_then(|node| node.text(findings)).is_some_and(|format| format.ends_with("-link"));
    if link {
        findings.unsupported(value.place, "a linked policy is not fetched; pass it as a separate file");
        return Ok(());
    }
    let Some(text) = value.text(findings) else { return Ok(()) };
    policy::read(&value.place, &text, wishes, findings)
}

fn build(found: &[Resource], wishes: &Wishes, findings: &mut Findings) -> Draft {
    let (mut singles, mut pools): (Vec<Single>, Vec<Balanced>) = (Vec::new(), Vec::new());
    for resource in found.iter().filter(|resource| resource.kind == Type::Backend) {
        if pool::is_pool(resource) {
            pools.extend(pool::read(resource, findings));
        } else if let Some(single) = backend::read(resource, findings) {
            if singles.iter().any(|other| other.name == single.name) {
                findings.approximate(&single.place, "", format!("a backend '{}' exists already; this one was left out", single.name));
            } else {
                singles.push(single);
            }
        }
    }
    let deployments = Deployments::collect(found, findings);
    let mut draft = Draft::default();
    for balanced in &pools {
        add_pool(balanced, &singles, &deployments, &mut draft, findings);
    }
    for single in &singles {
        if draft.backends.iter().any(|backend| backend.from == single.place) || wishes.is_safety(&single.name) {
            continue;
        }
        let other = super::address::may_be_content_safety(&single.address.host) && !says_openai(single);
        if (single.address.kind.is_none() || other) && !wishes.names(&single.name) {
            findings.unsupported(
                &single.place,
                format!(
                    "backend '{}' is in no pool, no policy names it, and its URL doesn't look like a model's; it was left out",
                    single.name
                ),
            );
            continue;
        }
        let member = DraftMember { backend: single.name.clone(), priority: 1, weight: 1 };
        let alone = Balanced {
            name: single.name.clone(),
            place: single.place.clone(),
            policy: None,
            members: vec![(single.place.clone(), member)],
        };
        add_pool(&alone, &singles, &deployments, &mut draft, findings);
    }
    wishes.know(singles.iter().map(|single| (single.name.as_str(), single.address.root.as_str(), &single.auth)), &mut draft);
    draft
}

/// Whether a host of several services has OpenAI in its URL or name.
fn says_openai(single: &Single) -> bool {
    let name = single.name.to_ascii_lowercase();
    name.contains("openai") || name.contains("aoai") || single.address.names_openai
}

fn add_pool(balanced: &Balanced, singles: &[Single], known: &Deployments, draft: &mut Draft, findings: &mut Findings) {
    let mut members: Vec<(&Single, &DraftMember)> = Vec::new();
    for (place, member) in &balanced.members {
        match singles.iter().find(|single| single.name.eq_ignore_ascii_case(&member.backend)) {
            Some(single) => {
                let DraftMember { backend, priority, weight } = member;
                findings.exact(place, format!("pool '{}': member '{backend}', priority {priority}, weight {weight}", balanced.name));
                members.push((single, member));
            }
            None => findings.manual(
                place,
                "",
                format!("the member '{}' of '{}' is in no file: import it as well, or add it by hand", member.backend, balanced.name),
            ),
        }
    }
    if members.is_empty() {
        return findings.unsupported(&balanced.place, format!("pool '{}' has no member that could be read", balanced.name));
    }
    let list: Vec<&Single> = members.iter().map(|(single, _)| *single).collect();
    let taken: Vec<String> = draft.pools.iter().flat_map(|pool| pool.models.clone()).collect();
    let pool_name = unused(&name(&balanced.name), |name| draft.pools.iter().any(|pool| pool.name == name));
    let served = models::served(&pool_name, &balanced.place, &list, known, &taken, findings);
    let circuits: Vec<_> = list.iter().map(|single| (single.name.clone(), single.circuit.clone())).collect();
    let circuit = breaker::shared(&balanced.place, &circuits, findings);
    let mut pool = DraftPool {
        name: pool_name,
        from: balanced.place.clone(),
        models: served.models,
        policy: balanced.policy,
        circuit,
        ..DraftPool::default()
    };
    for ((single, member), deployments) in members.into_iter().zip(served.deployments) {
        let backend = backend_of(single, draft, findings);
        backend.deployments.extend(deployments);
        pool.members.push(DraftMember { backend: backend.name.clone(), ..member.clone() });
    }
    draft.pools.push(pool);
}

/// The backend that was made from `single`; made now if there is none.
fn backend_of<'d>(single: &Single, draft: &'d mut Draft, findings: &mut Findings) -> &'d mut DraftBackend {
    let at = draft.backends.iter().position(|backend| backend.from == single.place).unwrap_or_else(|| {
        backend::url_findings(&format!("{}/url", single.place), &single.name, &single.address, findings);
        let kind = single.kind(findings);
        draft.backends.push(DraftBackend {
            name: unused(&name(&single.name), |name| draft.backends.iter().any(|backend| backend.name == name)),
            from: single.place.clone(),
            kind,
            url: single.address.root.clone(),
            api_version: single.address.api_version.clone().filter(|version| !super::address::is_undated(version)),
            location: single.location.clone(),
            auth: single.auth.clone(),
            deployments: std::collections::BTreeMap::new(),
            max_concurrent: None,
        });
        draft.backends.len() - 1
    });
    &mut draft.backends[at]
}
