//! The config of a LiteLLM proxy.

mod entry;
mod groups;
mod settings;
mod yaml;

use serde_json::Value;

use super::draft::Draft;
use super::error::ImportError;
use super::finding::Findings;
use yaml::At;

/// Known keys of `router_settings` and `litellm_settings`.
const ROUTER: [&str; 14] = [
    "routing_strategy",
    "num_retries",
    "allowed_fails",
    "cooldown_time",
    "timeout",
    "request_timeout",
    "stream_timeout",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "default_fallbacks",
    "model_group_alias",
    "cache",
    "cache_params",
];

pub(super) fn import(inputs: &[(&str, &str)], findings: &mut Findings) -> Result<Draft, ImportError> {
    let mut draft = Draft::default();
    for (file, text) in inputs {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| ImportError::Unreadable {
            place: error.location().map_or_else(|| (*file).to_owned(), |at| format!("{file}:{}:{}", at.line(), at.column())),
            // The parser's own message would show lines of the file, and with them keys.
            problem: "is not valid YAML".to_owned(),
            remedy: "give the config.yaml that the proxy is started with".to_owned(),
        })?;
        one(&At { value: &value, place: format!("{file}#") }, &mut draft, findings);
    }
    Ok(draft)
}

fn one(root: &At<'_>, draft: &mut Draft, findings: &mut Findings) {
    let entries: Vec<_> = root.get("model_list").iter().flat_map(At::items).filter_map(|item| entry::read(&item, findings)).collect();
    let parts: Vec<At<'_>> = ["router_settings", "litellm_settings"].iter().filter_map(|key| root.get(key)).collect();
    let template = settings::template(&parts, findings);
    let groups = groups::of(&entries, findings);
    let mut groups = settings::fallbacks(&parts, &groups, findings);
    settings::aliases(&parts, &mut groups, findings);
    for group in &groups {
        if draft.pools.iter().any(|pool| pool.models.contains(&group.model)) {
            findings.manual(&root.place, "", format!("'{}' is in an earlier file already; this one was left out", group.model));
        } else {
            groups::add(group, &template, draft, findings);
        }
    }
    if let Some(part) = root.get("router_settings") {
        redis(&part, findings);
        let more = ["redis_host", "redis_port", "redis_password", "redis_url", "enable_pre_call_checks"];
        part.unknown(&[ROUTER.as_slice(), &more].concat(), findings);
        if let Some(node) = part.get("enable_pre_call_checks") {
            findings.approximate(
                node.place,
                "",
                "targets whose headers say that nothing is left are skipped; prompts are not measured beforehand",
            );
        }
    }
    if let Some(part) = root.get("litellm_settings") {
        settings::cache(&part, draft, findings);
        litellm(&part, findings);
    }
    if let Some(part) = root.get("general_settings") {
        settings::general(&part, findings);
    }
    for (name, node) in root.get("environment_variables").iter().flat_map(At::entries) {
        findings.manual(node.place, "", format!("set {name} in Spillway's environment, if anything here needs it; values are not copied"));
    }
    root.unknown(&["model_list", "router_settings", "litellm_settings", "general_settings", "environment_variables"], findings);
}

fn redis(part: &At<'_>, findings: &mut Findings) {
    if ["redis_host", "redis_url"].iter().any(|key| part.get(key).is_some()) {
        findings.manual(
            part.path("redis_host"),
            "",
            "for several nodes of Spillway, set [redis] url = { env = ... }; one node needs none; no settings were copied",
        );
    }
}

fn litellm(part: &At<'_>, findings: &mut Findings) {
    for key in ["callbacks", "success_callback", "failure_callback"] {
        if let Some(node) = part.get(key) {
            findings.manual(node.place, "", "Spillway has metrics, a ledger, and a prompt log that can go to an OpenTelemetry collector");
        }
    }
    if let Some(node) = part.get("drop_params") {
        findings.manual(
            node.place,
            "",
            "parameters are sent to backends unchanged; pools[].transform.remove removes those that a backend doesn't know",
        );
    }
    let more = ["callbacks", "success_callback", "failure_callback", "drop_params", "set_verbose", "json_logs"];
    part.unknown(&[ROUTER.as_slice(), &more].concat(), findings);
}
