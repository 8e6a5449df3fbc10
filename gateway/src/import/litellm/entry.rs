//! One entry of `model_list`.

use super::yaml::At;
use crate::import::address::{is_undated, take_apart};
use crate::import::draft::{DraftAuth, DraftKind};
use crate::import::finding::Findings;
use crate::import::names::{placeholder_url, variable};

/// What two entries must have in common to share a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) kind: DraftKind,
    pub(super) url: String,
    pub(super) api_version: Option<String>,
    pub(super) auth: DraftAuth,
    pub(super) location: Option<String>,
    pub(super) max_concurrent: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) model: String,
    pub(super) deployment: String,
    pub(super) place: String,
    pub(super) resource: Resource,
    pub(super) order: Option<u64>,
    /// In thousandths.
    pub(super) weight: Option<u64>,
    pub(super) rpm: Option<u64>,
    pub(super) tpm: Option<u64>,
}

/// LiteLLM's name for Azure's hosts with models of several vendors.
const FOUNDRY: &str = "azure_ai";

/// Providers with OpenAI's API at a configurable address.
const COMPATIBLE: [&str; 10] = [
    "hosted_vllm",
    "openai_like",
    "custom_openai",
    "vllm",
    "lm_studio",
    "llamafile",
    "litellm_proxy",
    "text-completion-openai",
    FOUNDRY,
    "xinference",
];

pub(super) fn read(at: &At<'_>, findings: &mut Findings) -> Option<Entry> {
    let Some(model) = at.get("model_name").and_then(|node| node.text()).filter(|name| !name.is_empty()) else {
        findings.unsupported(&at.place, "has no model_name");
        return None;
    };
    let Some(params) = at.get("litellm_params") else {
        findings.unsupported(&at.place, "has no litellm_params");
        return None;
    };
    let named = params.get("model").and_then(|node| node.text()).unwrap_or_default();
    let place = params.path("model");
    if model.contains('*') || named.contains('*') {
        findings.unsupported(place, "a pool lists its models by name, without wildcards: add an entry for each");
        return None;
    }
    let custom = params.get("custom_llm_provider").and_then(|node| node.text());
    let (provider, deployment) = match (custom, named.split_once('/')) {
        (Some(provider), _) => (provider, named.clone()),
        (None, Some((provider, deployment))) => (provider.to_owned(), deployment.to_owned()),
        (None, None) if named.starts_with("claude") => ("anthropic".to_owned(), named.clone()),
        (None, None) => ("openai".to_owned(), named.clone()),
    };
    let kind = match provider.as_str() {
        "azure" | "azure_text" => DraftKind::Azure,
        "openai" => DraftKind::OpenAi,
        "anthropic" => DraftKind::Anthropic,
        // LiteLLM uses Anthropic's API here, too.
        FOUNDRY if deployment.starts_with("claude") => DraftKind::Anthropic,
        other if COMPATIBLE.contains(&other) && params.get("api_base").is_some() => {
            findings.approximate(&place, "kind = \"openai\"", format!("'{other}' is called with OpenAI's API at its api_base"));
            DraftKind::OpenAi
        }
        other => {
            findings.unsupported(place, format!("the provider '{other}' is not supported; '{model}' loses this deployment"));
            return None;
        }
    };
    // Azure's prefixes for kinds of deployments, as in `azure/responses/gpt-4o`.
    let deployment = deployment.rsplit('/').next().filter(|_| kind == DraftKind::Azure).map_or(deployment.clone(), str::to_owned);
    // Only Azure's names are part of the path.
    let bad = |c: char| "?#%".contains(c) || (kind == DraftKind::Azure && c == '/') || c.is_control() || c.is_whitespace();
    if deployment.is_empty() || deployment.contains(bad) {
        findings.unsupported(place, format!("'{deployment}' can't be the name of a deployment"));
        return None;
    }
    findings.exact(&place, format!("model '{model}' = deployment '{deployment}'"));
    let resource = resource(&params, kind, &provider, &model, findings);
    // Some configs have the rates outside of litellm_params.
    let rate = |key: &str, findings: &mut Findings| params.get(key).or_else(|| at.get(key)).and_then(|node| node.whole(findings));
    let (rpm, tpm) = (rate("rpm", findings), rate("tpm", findings));
    let weight = params.get("weight").and_then(|node| node.number(findings));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let weight = weight.map(|weight| (weight.min(1e6) * 1_000.0).round() as u64);
    let order = params.get("order").and_then(|node| node.whole(findings));
    rest(at, &params, findings);
    Some(Entry { model, deployment, place: at.place.clone(), resource, order, weight, rpm, tpm })
}

fn resource(params: &At<'_>, kind: DraftKind, provider: &str, model: &str, findings: &mut Findings) -> Resource {
    let mut api_version = params.get("api_version");
    let mut location = None;
    let base = params.get("api_base").or_else(|| params.get("base_url"));
    let default = match kind {
        DraftKind::Azure => None,
        _ if provider == FOUNDRY => None,
        DraftKind::OpenAi => Some("https://api.openai.com"),
        DraftKind::Anthropic => Some("https://api.anthropic.com"),
    };
    let variable = if provider == FOUNDRY { "AZURE_AI_API_BASE" } else { "AZURE_API_BASE" };
    let mut in_url = None;
    let url = match (&base, default) {
        (None, Some(default)) => default.to_owned(),
        (None, None) => {
            let todo = format!("is not set, so LiteLLM read {variable}: fill in 'url'");
            findings.manual(params.path("api_base"), "a URL to be replaced", todo);
            placeholder_url(variable)
        }
        (Some(base), _) => match (base.variable(), base.text().map(|text| take_apart(&text))) {
            (Some(name), _) => {
                findings.manual(
                    &base.place,
                    "a URL to be replaced",
                    format!("is in the variable {name}: fill in 'url', which is not a secret"),
                );
                placeholder_url(name)
            }
            (None, Some(Ok(mut address))) => {
                if provider == FOUNDRY && kind == DraftKind::Anthropic && !address.root.ends_with("/anthropic") {
                    address.root.push_str("/anthropic");
                }
                findings.exact(&base.place, format!("url = \"{}\"", address.root));
                in_url = address.api_version;
                address.root
            }
            (None, problem) => {
                let problem = problem.and_then(Result::err).unwrap_or_else(|| "is not a text".to_owned());
                findings.manual(&base.place, "a URL to be replaced", format!("it {problem}: fill in 'url'"));
                placeholder_url(model)
            }
        },
    };
    if let Some(region) = params.get("region_name").and_then(|node| node.text()) {
        findings.exact(params.path("region_name"), format!("location = \"{region}\""));
        location = Some(region);
    }
    if kind != DraftKind::Azure
        && let Some(version) = api_version.take()
    {
        findings.unsupported(version.place, "only Azure has versions in the query");
    }
    let api_version = version(api_version.as_ref(), in_url, findings).filter(|_| kind == DraftKind::Azure);
    let max_concurrent = params.get("max_parallel_requests").and_then(|node| {
        let most = node.whole(findings).filter(|most| (1..=u64::from(u32::MAX)).contains(most))?;
        findings.exact(node.place, format!("max_concurrent = {most}"));
        Some(most)
    });
    Resource { kind, url, api_version, auth: auth(params, kind, provider, model, findings), location, max_concurrent }
}

fn version(given: Option<&At<'_>>, in_url: Option<String>, findings: &mut Findings) -> Option<String> {
    let Some(given) = given else { return in_url.filter(|version| !is_undated(version)) };
    if let Some(name) = given.variable() {
        findings.manual(
            &given.place,
            "api = \"v1\"",
            format!("is in the variable {name}: for that version, set api = \"dated\" and api_version"),
        );
        return None;
    }
    let version = given.text()?;
    if is_undated(&version) {
        findings.exact(&given.place, "api = \"v1\"");
        return None;
    }
    findings.exact(&given.place, format!("api = \"dated\", api_version = \"{version}\""));
    Some(version)
}

/// Secrets become references to variables, and are never copied.
fn auth(params: &At<'_>, kind: DraftKind, provider: &str, model: &str, findings: &mut Findings) -> DraftAuth {
    if let Some(key) = params.get("api_key") {
        let literal = key.variable().is_none();
        let name = key.variable().map_or_else(|| variable(model, "API_KEY"), str::to_owned);
        if literal {
            findings.manual(
                &key.place,
                format!("key = {{ env = \"{name}\" }}"),
                format!("the key is in the file: set {name} to it, or make a new one; secrets are not copied"),
            );
        } else {
            findings.exact(&key.place, format!("key = {{ env = \"{name}\" }}"));
        }
        return DraftAuth::ApiKey(name);
    }
    let parts = ["tenant_id", "client_id", "client_secret"].map(|key| params.get(key));
    if let [Some(tenant), Some(client), Some(secret)] = &parts {
        let texts = [tenant, client].map(|node| node.text().filter(|_| node.variable().is_none()));
        if let [Some(tenant_id), Some(client_id)] = texts {
            let name = secret.variable().map_or_else(|| variable(model, "CLIENT_SECRET"), str::to_owned);
            findings.manual(&secret.place, format!("secret = {{ env = \"{name}\" }}"), format!("set {name}; secrets are not copied"));
            return DraftAuth::Client { tenant_id, client_id, secret: name };
        }
    }
    if kind != DraftKind::Azure {
        let name = match kind {
            _ if provider == FOUNDRY => "AZURE_AI_API_KEY",
            DraftKind::OpenAi => "OPENAI_API_KEY",
            _ => "ANTHROPIC_API_KEY",
        };
        findings.exact(params.path("api_key"), format!("key = {{ env = \"{name}\" }}"));
        return DraftAuth::ApiKey(name.to_owned());
    }
    if parts.iter().any(Option::is_some) || params.get("azure_ad_token").is_some() {
        findings.manual(
            &params.place,
            "auth = { type = \"auto\" }",
            "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use the machine's identity; tokens are fetched and renewed",
        );
        return DraftAuth::Auto;
    }
    findings.manual(
        params.path("api_key"),
        "key = { env = \"AZURE_API_KEY\" }",
        "is not set: LiteLLM read AZURE_API_KEY; if it used an identity instead, set auth = { type = \"auto\" }",
    );
    DraftAuth::ApiKey("AZURE_API_KEY".to_owned())
}

fn rest(at: &At<'_>, params: &At<'_>, findings: &mut Findings) {
    for key in ["rpm", "tpm"] {
        if let Some(node) = params.get(key).or_else(|| at.get(key)) {
            findings.approximate(
                node.place,
                "the member's weight, if there is no 'weight'",
                "Spillway needs no rates of backends: it reads their rate-limit headers, and moves on after a 429",
            );
        }
    }
    for key in ["timeout", "stream_timeout", "max_retries", "cooldown_time"] {
        if let Some(node) = params.get(key) {
            findings.manual(node.place, "", "a pool has one such setting for all its members: see timeouts, retry and circuit");
        }
    }
    for key in
        ["temperature", "max_tokens", "top_p", "seed", "stop", "max_completion_tokens", "reasoning_effort", "extra_headers", "headers"]
    {
        if let Some(node) = params.get(key) {
            findings.manual(node.place, "", format!("set '{key}' in pools[].transform (default, set or request_headers), if it is needed"));
        }
    }
    for key in ["input_cost_per_token", "output_cost_per_token"] {
        if let Some(node) = params.get(key) {
            findings.manual(node.place, "", "set backends[].prices, in US dollars per million tokens");
        }
    }
    if let Some(info) = at.get("model_info") {
        if let Some(base) = info.get("base_model") {
            let text = base.text().unwrap_or_default();
            findings.manual(
                base.place,
                "",
                format!("for costs: set backends[].prices with table = \"{text}\", if the deployment's name doesn't show the model"),
            );
        }
        info.unknown(&["base_model", "id", "mode", "db_model", "description"], findings);
    }
    let known = [
        "model",
        "api_base",
        "base_url",
        "api_key",
        "api_version",
        "rpm",
        "tpm",
        "weight",
        "order",
        "timeout",
        "stream_timeout",
        "max_retries",
        "cooldown_time",
        "temperature",
        "max_tokens",
        "top_p",
        "seed",
        "stop",
        "max_completion_tokens",
        "reasoning_effort",
        "extra_headers",
        "headers",
        "tenant_id",
        "client_id",
        "client_secret",
        "azure_ad_token",
        "max_parallel_requests",
        "region_name",
        "custom_llm_provider",
        "input_cost_per_token",
        "output_cost_per_token",
    ];
    params.unknown(&known, findings);
    at.unknown(&["model_name", "litellm_params", "model_info", "rpm", "tpm"], findings);
}
