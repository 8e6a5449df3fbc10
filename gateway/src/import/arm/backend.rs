//! Single backends.

use super::breaker;
use super::node::{Node, unknown_keys};
use super::resources::Resource;
use crate::import::address::{self, Address};
use crate::import::draft::{DraftAuth, DraftCircuit, DraftKind};
use crate::import::finding::Findings;
use crate::import::names::{named_value, scope, variable};

/// A single backend in API Management.
#[derive(Debug, Clone)]
pub(super) struct Single {
    pub(super) name: String,
    pub(super) place: String,
    pub(super) address: Address,
    pub(super) auth: DraftAuth,
    pub(super) circuit: Option<DraftCircuit>,
    pub(super) location: Option<String>,
}

impl Single {
    /// Its API, guessed if its URL doesn't show it.
    pub(super) fn kind(&self, findings: &mut Findings) -> DraftKind {
        self.address.kind.unwrap_or_else(|| {
            findings.manual(
                format!("{}/url", self.place),
                "kind = \"openai\"",
                format!("the API of '{}' is not known; correct 'kind' if it is azure-openai or anthropic", self.address.host),
            );
            DraftKind::OpenAi
        })
    }
}

pub(super) fn read(resource: &Resource, findings: &mut Findings) -> Option<Single> {
    let name = resource.own_name(findings)?;
    let properties = &resource.properties;
    let url = properties.get("url");
    let Some(url) = url else {
        findings.unsupported(&properties.place, format!("backend '{name}' has no url"));
        return None;
    };
    let text = url.text(findings)?;
    let address = match address::take_apart(&text) {
        Ok(address) => address,
        // The URL is not repeated: it may contain a password.
        Err(problem) => {
            findings.unsupported(url.place, format!("the URL of '{name}' {problem}"));
            return None;
        }
    };
    let auth = properties.get("credentials").map_or(DraftAuth::None, |node| credentials(&node, &name, &address, findings));
    let circuit = properties.get("circuitBreaker").and_then(|node| breaker::read(&node, findings));
    let location = properties.get("azureRegion").and_then(|node| {
        let region = node.text(findings)?;
        findings.exact(node.place, format!("location = \"{region}\""));
        Some(region)
    });
    rest(properties, findings);
    Some(Single { name, place: properties.place.clone(), address, auth, circuit, location })
}

/// Findings about the URL of a backend that serves models.
pub(super) fn url_findings(place: &str, name: &str, address: &Address, findings: &mut Findings) {
    findings.exact(place, format!("backend '{name}': url = \"{}\"", address.root));
    if let Some(left_out) = &address.left_out {
        findings.approximate(place, format!("without '{left_out}'"), "Spillway needs only a root URL and adds the path of the API");
    }
    if let Some(version) = address.api_version.as_ref().filter(|version| !address::is_undated(version)) {
        findings.exact(place, format!("api = \"dated\", api_version = \"{version}\""));
    } else if address.kind == Some(DraftKind::Azure) {
        findings.approximate(
            place,
            "api = \"v1\"",
            "callers may use either of Azure's APIs, this backend is called with /openai/v1/; set api = \"dated\" and api_version to pin one version",
        );
    }
}

fn credentials(node: &Node, name: &str, address: &Address, findings: &mut Findings) -> DraftAuth {
    let mut auth = DraftAuth::None;
    if let Some(identity) = node.get("managedIdentity") {
        let client_id = identity.get("clientId").and_then(|node| node.text(findings));
        let resource = identity.get("resource").and_then(|node| node.text(findings));
        let scope = scope(resource.as_deref());
        findings.manual(
            identity.place,
            "auth = { type = \"managed-identity\" }",
            "the identity is now that of the machine that Spillway runs on: give it the role Cognitive Services OpenAI User there",
        );
        auth = DraftAuth::ManagedIdentity { client_id, scope };
    }
    let header = node.get("header");
    for key in header.iter().flat_map(Node::keys) {
        let Some(value) = header.as_ref().and_then(|header| header.get(&key)) else { continue };
        let lower = key.to_ascii_lowercase();
        if ["api-key", "authorization", "x-api-key", "ocp-apim-subscription-key"].contains(&lower.as_str()) && auth == DraftAuth::None {
            auth = DraftAuth::ApiKey(secret(&value, name, findings));
        } else {
            findings.unsupported(value.place, format!("the header '{key}' is not sent; pools[].transform.request_headers can set one"));
        }
    }
    if let Some(authorization) = node.get("authorization") {
        let scheme = authorization.get("scheme").and_then(|node| node.text(findings)).unwrap_or_default();
        match authorization.get("parameter") {
            Some(parameter) if scheme.eq_ignore_ascii_case("bearer") && auth == DraftAuth::None => {
                auth = DraftAuth::ApiKey(secret(&parameter, name, findings));
                if address.kind == Some(DraftKind::Azure) {
                    findings.approximate(authorization.place, "auth.type = \"api-key\"", "sent as the header api-key");
                }
            }
            _ => findings.unsupported(authorization.place, format!("the scheme '{scheme}' is not supported")),
        }
    }
    for key in ["query", "certificate", "certificateIds"] {
        if let Some(node) = node.get(key).filter(|_| node.keys().iter().any(|known| known.eq_ignore_ascii_case(key))) {
            findings.unsupported(node.place, "Spillway supports a key or a token in a header");
        }
    }
    unknown_keys(node, &["managedIdentity", "header", "authorization", "query", "certificate", "certificateIds"], findings);
    auth
}

/// The variable that must get a secret; its present value is never repeated.
fn secret(node: &Node, owner: &str, findings: &mut Findings) -> String {
    let mut texts = node.value.as_str().into_iter().chain(node.value.as_array().into_iter().flatten().filter_map(|value| value.as_str()));
    let named = texts.find_map(named_value);
    let name = named.as_ref().map_or_else(|| variable(owner, "API_KEY"), |name| variable(name, ""));
    let from = named.map_or("the key".to_owned(), |name| format!("the content of the named value '{name}'"));
    findings.manual(&node.place, format!("key = {{ env = \"{name}\" }}"), format!("set {name} to {from}; secrets are not copied"));
    name
}

/// The other settings of a backend.
fn rest(properties: &Node, findings: &mut Findings) {
    if let Some(protocol) = properties.get("protocol")
        && protocol.text(findings).is_some_and(|protocol| !protocol.eq_ignore_ascii_case("http"))
    {
        findings.unsupported(protocol.place, "only HTTP APIs are served");
    }
    let tls = properties.get("tls");
    for key in ["validateCertificateChain", "validateCertificateName"] {
        if let Some(node) = tls.as_ref().and_then(|tls| tls.get(key))
            && node.flag(findings) == Some(false)
        {
            findings.unsupported(node.place, "certificates are always checked; name the backend's own CA in 'ca'");
        }
    }
    if let Some(tls) = &tls {
        unknown_keys(tls, &["validateCertificateChain", "validateCertificateName"], findings);
    }
    if let Some(node) = properties.get("proxy") {
        findings.unsupported(node.place, "backends are reached directly, not through a proxy");
    }
    if let Some(node) = properties.get("properties").filter(|node| !node.keys().is_empty()) {
        findings.unsupported(node.place, "Service Fabric clusters are not supported");
    }
    let known = [
        "url",
        "protocol",
        "type",
        "pool",
        "circuitBreaker",
        "credentials",
        "title",
        "description",
        "resourceId",
        "tls",
        "proxy",
        "properties",
        "azureRegion",
        "provisioningState",
    ];
    unknown_keys(properties, &known, findings);
}
