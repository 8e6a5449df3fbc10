//! The resources in a file: a template, a listing, one resource or a list of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::expr::{Scope, unknowns};
use super::node::{Node, pointer};
use crate::import::error::ImportError;
use crate::import::finding::Findings;
use crate::import::names::last_part;

/// What kind of resource it is for an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Backend,
    Policy,
    /// A deployment of an Azure OpenAI resource: it names the model.
    Deployment,
}

#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) kind: Type,
    /// With the names of its parents.
    pub(super) name: String,
    pub(super) properties: Node,
}

/// Values from parameters files, by name.
pub(super) type Given = BTreeMap<String, Value>;

pub(super) fn parse(name: &str, text: &str) -> Result<Value, ImportError> {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| ImportError::Unreadable {
        place: format!("{name}:{}:{}", error.line(), error.column()),
        problem: format!("is not JSON: {error}"),
        remedy: "give the output of az rest, or an exported template; compile Bicep first with az bicep build".to_owned(),
    })
}

/// The values of a parameters file; `None` if the file is something else.
pub(super) fn parameters_file(json: &Value) -> Option<Given> {
    let schema = json.get("$schema").and_then(Value::as_str)?;
    let parameters = json.get("parameters")?.as_object()?;
    schema.contains("deploymentParameters").then(|| values(parameters))
}

fn values(parameters: &Map<String, Value>) -> Given {
    parameters.iter().filter_map(|(name, given)| Some((name.clone(), given.get("value")?.clone()))).collect()
}

pub(super) fn collect(file: &str, json: &Value, given: &Given, findings: &mut Findings) -> Vec<Resource> {
    let mut found = Vec::new();
    let place = format!("{file}#");
    if json.get("resources").is_some() && json.get("type").is_none() {
        template(json, given, &place, &mut found, findings);
    } else {
        let scope = Scope::default();
        let (list, place) = match json.get("value") {
            Some(Value::Array(list)) => (list.as_slice(), format!("{place}/value")),
            _ => (json.as_array().map_or(std::slice::from_ref(json), Vec::as_slice), place),
        };
        if json.get("nextLink").is_some_and(|link| !link.is_null()) {
            findings.manual(
                format!("{file}#/nextLink"),
                "",
                "the listing continues on another page; fetch that, too, and import both files",
            );
        }
        let one = json.get("value").is_none() && !json.is_array();
        for (at, item) in list.iter().enumerate() {
            resource(item, "", &scope, if one { place.clone() } else { pointer(&place, &at.to_string()) }, &mut found, findings);
        }
    }
    found
}

fn template(json: &Value, given: &Given, place: &str, found: &mut Vec<Resource>, findings: &mut Findings) {
    let mut scope = Scope::default();
    let declared = json.get("parameters").and_then(Value::as_object);
    for (name, declared) in declared.into_iter().flatten() {
        let secret = declared.get("type").and_then(Value::as_str).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("secure"));
        let value = given.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        if let Some(value) = value.or_else(|| declared.get("defaultValue")).filter(|_| !secret) {
            scope.parameters.insert(name.clone(), value.clone());
        }
    }
    scope.variables = json.get("variables").and_then(Value::as_object).cloned().unwrap_or_default();
    match json.get("resources") {
        Some(Value::Array(list)) => {
            for (at, item) in list.iter().enumerate() {
                resource(item, "", &scope, format!("{place}/resources/{at}"), found, findings);
            }
        }
        Some(Value::Object(map)) => {
            for (name, item) in map {
                resource(item, "", &scope, pointer(&format!("{place}/resources"), name), found, findings);
            }
        }
        _ => {}
    }
}

fn resource(item: &Value, parent: &str, scope: &Scope, place: String, found: &mut Vec<Resource>, findings: &mut Findings) {
    let Some(written) = item.as_object() else { return };
    if written.get("existing").and_then(Value::as_bool) == Some(true) {
        return;
    }
    let kind = written.get("type").and_then(Value::as_str).unwrap_or("").to_ascii_lowercase();
    let kind = if parent.is_empty() || kind.starts_with("microsoft.") { kind } else { format!("{parent}/{kind}") };
    let properties = written.get("properties").unwrap_or(&Value::Null);
    if kind == "microsoft.resources/deployments" {
        return nested(item, properties, scope, &place, found, findings);
    }
    if let Some(children) = written.get("resources").and_then(Value::as_array) {
        for (at, child) in children.iter().enumerate() {
            resource(child, &kind, scope, format!("{place}/resources/{at}"), found, findings);
        }
    }
    let apim = kind.starts_with("microsoft.apimanagement/");
    let wanted = match kind.rsplit('/').next().unwrap_or("") {
        "backends" if apim => Type::Backend,
        "policies" if apim => Type::Policy,
        "deployments" if kind.starts_with("microsoft.cognitiveservices/accounts/") => Type::Deployment,
        "" if properties.get("url").is_some() || properties.get("pool").is_some() => Type::Backend,
        "" if properties.get("format").is_some() && properties.get("value").is_some() => Type::Policy,
        "loggers" | "apis" | "products" | "subscriptions" | "namedvalues" | "operations" | "service" | "policyfragments" if apim => {
            return;
        }
        other => {
            if apim {
                findings.unsupported(place, format!("resources of type '{other}' are ignored"));
            }
            return;
        }
    };
    let name = scope.value(written.get("name").unwrap_or(&Value::Null));
    let name = name.as_str().unwrap_or("").to_owned();
    if written.contains_key("copy") {
        let name = written["copy"].get("name").and_then(Value::as_str).unwrap_or("without a name");
        return findings.unsupported(
            format!("{place}/copy"),
            format!("the loop '{name}' is not expanded; import its result: the backends as they are deployed (az rest --method get)"),
        );
    }
    match written.get("condition").map(|condition| scope.value(condition)) {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return findings.unsupported(format!("{place}/condition"), "is false: the resource is not deployed"),
        Some(_) => {
            findings.manual(format!("{place}/condition"), "taken as true", "if this resource is not deployed, remove what was made from it")
        }
    }
    if kind == "microsoft.cognitiveservices/accounts/deployments" && !unknowns(&name).is_empty() {
        return;
    }
    found.push(Resource { kind: wanted, name, properties: Node::new(properties, scope, format!("{place}/properties")) });
}

/// A template inside a template, which a Bicep module becomes.
fn nested(item: &Value, properties: &Value, scope: &Scope, place: &str, found: &mut Vec<Resource>, findings: &mut Findings) {
    if item.get("copy").is_some() {
        return findings.unsupported(
            format!("{place}/copy"),
            format!("the loop '{}' is not expanded; import its result", item["copy"].get("name").and_then(Value::as_str).unwrap_or("")),
        );
    }
    let Some(inner) = properties.get("template") else {
        return findings.unsupported(place, "a linked template is not fetched; pass it as a separate file");
    };
    let mut given = properties.get("parameters").and_then(Value::as_object).map(values).unwrap_or_default();
    for value in given.values_mut() {
        *value = scope.value(value);
    }
    template(inner, &given, &format!("{place}/properties/template"), found, findings);
}

impl Resource {
    /// Its own name, without those of its parents.
    pub(super) fn own_name(&self, findings: &mut Findings) -> Option<String> {
        let own =
            Node { value: Value::String(last_part(&self.name).to_owned()), place: self.properties.place.replace("/properties", "/name") };
        own.text(findings).filter(|name| !name.is_empty())
    }
}
