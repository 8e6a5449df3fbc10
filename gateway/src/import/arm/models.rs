//! The models of a pool. API Management doesn't have them; URLs and deployments in the same template may show them.

use std::collections::BTreeMap;

use super::backend::Single;
use super::resources::{Resource, Type};
use crate::import::finding::Findings;
use crate::import::names::placeholder_model;

/// The deployments of Azure OpenAI resources: by resource, model = deployment.
#[derive(Debug, Default)]
pub(super) struct Deployments(BTreeMap<String, BTreeMap<String, String>>);

impl Deployments {
    pub(super) fn collect(resources: &[Resource], findings: &mut Findings) -> Self {
        let mut all = Deployments::default();
        for resource in resources.iter().filter(|resource| resource.kind == Type::Deployment) {
            let Some((account, deployment)) = resource.name.rsplit_once('/') else { continue };
            let model = resource.properties.get("model").and_then(|model| model.get("name"));
            let Some(model) = model.and_then(|model| model.text(findings)) else { continue };
            let account = all.0.entry(account.to_ascii_lowercase()).or_default();
            if let Some(first) = account.get(&model) {
                findings.approximate(
                    &resource.properties.place,
                    "",
                    format!("'{deployment}' is a further deployment of '{model}' at the same resource; '{first}' is used"),
                );
                continue;
            }
            findings.exact(&resource.properties.place, format!("model '{model}' = deployment '{deployment}'"));
            account.insert(model, deployment.to_owned());
        }
        all
    }

    /// The deployments at the resource with this host.
    fn at(&self, host: &str) -> Option<&BTreeMap<String, String>> {
        self.0.get(host.split('.').next().unwrap_or(host))
    }
}

/// A pool's models, and the deployment of each at each member.
pub(super) struct Served {
    pub(super) models: Vec<String>,
    /// For each member, model = deployment.
    pub(super) deployments: Vec<BTreeMap<String, String>>,
}

pub(super) fn served(
    pool: &str,
    place: &str,
    members: &[&Single],
    known: &Deployments,
    taken: &[String],
    findings: &mut Findings,
) -> Served {
    let in_url: Vec<Option<&String>> = members.iter().map(|member| member.address.deployment.as_ref()).collect();
    let mut models: Vec<String> = Vec::new();
    let mut deployments: Vec<BTreeMap<String, String>> = vec![BTreeMap::new(); members.len()];
    if let Some(first) = in_url.iter().flatten().next() {
        let model = model_of(members, known, first);
        for (index, member) in members.iter().enumerate() {
            let deployment = in_url[index].cloned().or_else(|| known.at(&member.address.host)?.get(&model).cloned());
            if let Some(deployment) = deployment {
                deployments[index].insert(model.clone(), deployment);
            }
        }
        findings.approximate(
            place,
            format!("pool '{pool}': models = [\"{model}\"]"),
            "the URLs name the deployments: callers ask for this model, and each member gets its own deployment's name",
        );
        models.push(model);
    } else {
        for (index, member) in members.iter().enumerate() {
            for (model, deployment) in known.at(&member.address.host).into_iter().flatten() {
                if !models.contains(model) {
                    models.push(model.clone());
                }
                deployments[index].insert(model.clone(), deployment.clone());
            }
        }
        if !models.is_empty() {
            findings.exact(place, format!("pool '{pool}': models = {models:?}, as deployed in the same template"));
        }
    }
    if models.is_empty() {
        let model = placeholder_model(pool);
        findings.manual(
            place,
            format!("pool '{pool}': models = [\"{model}\"]"),
            "API Management doesn't say which models a backend serves: list the models that callers use, and put model = deployment into \
             'deployments' if the names differ",
        );
        models.push(model);
    }
    apart(pool, place, taken, &mut models, &mut deployments, findings);
    Served { models, deployments }
}

/// The model of a deployment, if the template has it; else the deployment's name.
fn model_of(members: &[&Single], known: &Deployments, deployment: &str) -> String {
    let all = members.iter().filter_map(|member| known.at(&member.address.host)).flatten();
    all.filter(|(_, name)| *name == deployment).map(|(model, _)| model.clone()).next().unwrap_or_else(|| deployment.to_owned())
}

/// A model belongs to one pool: if another pool has it, it gets a different name here.
fn apart(
    pool: &str,
    place: &str,
    taken: &[String],
    models: &mut [String],
    deployments: &mut [BTreeMap<String, String>],
    findings: &mut Findings,
) {
    for model in models.iter_mut().filter(|model| taken.contains(model)) {
        let name = crate::import::names::unused(&format!("{model}-{pool}"), |name| taken.iter().any(|other| other == name));
        for map in &mut *deployments {
            let deployment = map.remove(model).unwrap_or_else(|| model.clone());
            map.insert(name.clone(), deployment);
        }
        findings.manual(
            place,
            format!("pool '{pool}': model '{name}'"),
            format!(
                "a model belongs to one pool, and '{model}' belongs to another: callers of this pool must use '{name}', or merge the pools"
            ),
        );
        *model = name;
    }
}
