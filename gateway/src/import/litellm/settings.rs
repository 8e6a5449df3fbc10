//! `router_settings`, `litellm_settings` and `general_settings`.

use super::groups::Group;
use super::yaml::At;
use crate::import::draft::{Draft, DraftCircuit, DraftKind, DraftPool, DraftTimeouts, Millis};
use crate::import::finding::Findings;

/// The settings of every pool, in LiteLLM's order of priority: the router's own, then the process's.
pub(super) fn template(parts: &[At<'_>], findings: &mut Findings) -> DraftPool {
    let mut pool = DraftPool::default();
    let first = |key: &str| parts.iter().find_map(|part| part.get(key));
    if let Some(node) = first("routing_strategy") {
        strategy(&node, &mut pool, findings);
    }
    if let Some(node) = first("num_retries")
        && let Some(retries) = node.whole(findings)
    {
        let attempts = retries.saturating_add(1).min(100);
        findings.approximate(
            node.place,
            format!("retry.max_attempts = {attempts}"),
            "the first attempt counts, too; each goes to another member, at once, and moves away from a throttled one don't count",
        );
        pool.retry.max_attempts = Some(attempts);
    }
    circuit(&first, &mut pool.circuit, findings);
    timeouts(&first, &mut pool.timeouts, findings);
    overruled(parts, findings);
    pool
}

/// LiteLLM's timeouts are for one attempt each.
fn timeouts<'v>(first: &impl Fn(&str) -> Option<At<'v>>, timeouts: &mut DraftTimeouts, findings: &mut Findings) {
    let mut longest = 0;
    if let Some(node) = first("timeout").or_else(|| first("request_timeout"))
        && let Some(time) = node.seconds(findings)
    {
        findings.approximate(
            node.place,
            format!("timeouts.answer = timeouts.first_token = \"{time}\""),
            "for one attempt: until an answer begins; models that think have timeouts.thinking",
        );
        (timeouts.answer, timeouts.first_token, longest) = (Some(time), Some(time), time.0);
    }
    if let Some(node) = first("stream_timeout")
        && let Some(time) = node.seconds(findings)
    {
        findings.approximate(node.place, format!("timeouts.first_token = \"{time}\""), "until a stream's first output");
        (timeouts.first_token, longest) = (Some(time), longest.max(time.0));
    }
    if longest > TOTAL {
        // A timeout that is longer than the total would never apply.
        timeouts.total = Some(Millis(longest));
    }
}

/// Spillway's own `timeouts.total`, in milliseconds.
const TOTAL: u64 = 600_000;

/// Settings that occur in several places: LiteLLM uses the first one.
fn overruled(parts: &[At<'_>], findings: &mut Findings) {
    let alike: [&[&str]; 6] = [
        &["routing_strategy"],
        &["num_retries"],
        &["allowed_fails"],
        &["cooldown_time"],
        &["timeout", "request_timeout"],
        &["stream_timeout"],
    ];
    for keys in alike {
        let mut given = keys.iter().flat_map(|key| parts.iter().filter_map(|part| part.get(key)));
        let Some(first) = given.next() else { continue };
        for node in given {
            findings.approximate(node.place, "", format!("'{}' is set, too, and has priority", first.place));
        }
    }
}

fn strategy(node: &At<'_>, pool: &mut DraftPool, findings: &mut Findings) {
    let (policy, why) = match node.text().unwrap_or_default().as_str() {
        "simple-shuffle" => return findings.exact(&node.place, "policy = \"weighted\""),
        "least-busy" => ("least-requests", "the less busy of two, by weight"),
        "latency-based-routing" => ("latency", "the faster of two, by a moving average of the time to the first token"),
        "usage-based-routing" | "usage-based-routing-v2" => ("headroom", "by what is left of the rate limits"),
        other => {
            return findings.unsupported(&node.place, format!("Spillway doesn't choose by '{other}'; policy = \"weighted\" stays"));
        }
    };
    findings.approximate(&node.place, format!("policy = \"{policy}\""), why);
    pool.policy = Some(policy);
}

fn circuit<'v>(first: &impl Fn(&str) -> Option<At<'v>>, circuit: &mut DraftCircuit, findings: &mut Findings) {
    if let Some(node) = first("allowed_fails")
        && let Some(allowed) = node.whole(findings)
    {
        let failures = allowed.saturating_add(1).min(10_000);
        findings.approximate(node.place, format!("circuit.failures = {failures}"), "one more than is allowed, within any minute");
        circuit.failures = Some(failures);
        circuit.interval = Some(Millis(60_000));
    }
    if let Some(node) = first("cooldown_time")
        && let Some(trip) = node.seconds(findings)
    {
        findings.approximate(
            node.place,
            format!("circuit.trip = \"{trip}\""),
            "for failures; a 429 throttles a target for its own Retry-After",
        );
        circuit.trip = Some(trip);
    }
}

/// Fallbacks to other models: their entries come after those of the model itself, the router's own first.
pub(super) fn fallbacks(parts: &[At<'_>], groups: &[Group], findings: &mut Findings) -> Vec<Group> {
    let mut out = groups.to_vec();
    let lists: Vec<At<'_>> = parts.iter().filter_map(|part| part.get("fallbacks")).collect();
    let mut added: Vec<(String, String)> = Vec::new();
    for (number, item) in lists.iter().enumerate().flat_map(|(number, list)| list.items().into_iter().map(move |item| (number, item))) {
        for (model, targets) in item.entries() {
            if number > 0 && added.iter().any(|(other, _)| other == model) {
                let first = &lists[0].place;
                findings.approximate(
                    &targets.place,
                    "",
                    format!("'{first}' has fallbacks of '{model}', too: they have priority, and come before these"),
                );
            }
            let Some(group) = out.iter_mut().find(|group| group.model == model) else {
                findings.unsupported(&targets.place, format!("no model '{model}' was imported"));
                continue;
            };
            for target in targets.items() {
                let name = target.text().unwrap_or_default();
                let Some(source) = groups.iter().find(|group| group.model == name) else {
                    findings.unsupported(&target.place, format!("no model '{name}' was imported"));
                    continue;
                };
                let claude = |group: &Group| group.tiers.iter().flatten().any(|entry| entry.resource.kind == DraftKind::Anthropic);
                if claude(source) != claude(group) {
                    findings.unsupported(&target.place, "a request in OpenAI's form is not translated into Anthropic's, nor back");
                    continue;
                }
                if added.iter().any(|(from, to)| from == model && *to == name) {
                    findings.exact(&target.place, format!("'{name}' is a fallback of '{model}' already"));
                    continue;
                }
                added.push((model.to_owned(), name.clone()));
                group.tiers.extend(source.tiers.iter().cloned());
                findings.approximate(
                    &target.place,
                    format!("members of '{model}' in later tiers, with the deployments of '{name}'"),
                    "used as soon as no member of the earlier tiers is usable, after throttling and after failures",
                );
            }
        }
    }
    for key in ["context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks"] {
        for node in parts.iter().filter_map(|part| part.get(key)).filter(|node| !node.items().is_empty()) {
            findings
                .unsupported(node.place, "a request that is too long, or filtered, must be changed by the caller: the answer is sent on");
        }
    }
    out
}

/// Further names of groups.
pub(super) fn aliases(parts: &[At<'_>], groups: &mut Vec<Group>, findings: &mut Findings) {
    let maps: Vec<At<'_>> = parts.iter().filter_map(|part| part.get("model_group_alias")).collect();
    for (alias, target) in maps.iter().flat_map(At::entries) {
        let name = target.get("model").as_ref().unwrap_or(&target).text().unwrap_or_default();
        if groups.iter().any(|group| group.model == alias) {
            findings.unsupported(target.place, format!("'{alias}' is a model of its own already"));
        } else if let Some(group) = groups.iter().find(|group| group.model == name).cloned() {
            findings.exact(&target.place, format!("model '{alias}', served as '{name}'"));
            if target.get("hidden").and_then(|node| node.flag()) == Some(true) {
                findings.unsupported(target.path("hidden"), "all models are listed, under any name");
            }
            groups.push(Group { model: alias.to_owned(), ..group });
        } else {
            findings.unsupported(target.place, format!("no model '{name}' was imported"));
        }
    }
}

pub(super) fn cache(settings: &At<'_>, draft: &mut Draft, findings: &mut Findings) {
    let Some(node) = settings.get("cache") else { return };
    if node.flag() != Some(true) {
        return;
    }
    let params = settings.get("cache_params");
    let kind = params.as_ref().and_then(|params| params.get("type"));
    let ttl = params.as_ref().and_then(|params| params.get("ttl")).and_then(|node| node.seconds(findings));
    let ttl = ttl.unwrap_or(Millis(600_000));
    draft.exact_cache = Some(ttl);
    findings.approximate(node.place, format!("plugins.cache.exact.ttl = \"{ttl}\""), "in memory; each consumer has its own answers");
    if let Some(kind) = kind {
        let text = kind.text().unwrap_or_default();
        if text.ends_with("semantic") {
            findings.manual(kind.place, "", "set [plugins.cache.semantic] with a pool for embeddings, and a threshold");
        } else if text != "local" {
            findings.approximate(kind.place, "memory", format!("not '{text}'; [redis] shares it among several nodes of Spillway"));
        }
    }
    if let Some(params) = params {
        params.unknown(&["type", "ttl"], findings);
    }
}

pub(super) fn general(settings: &At<'_>, findings: &mut Findings) {
    if let Some(key) = settings.get("master_key") {
        findings.manual(
            key.place,
            "",
            "Spillway has no key for everything: 'spillway keys new' makes one for each consumer, server.admin_token guards the admin API; \
             the key was not copied",
        );
    }
    for key in ["database_url", "store_model_in_db"] {
        if let Some(node) = settings.get(key) {
            findings.manual(
                node.place,
                "",
                "keys, teams, budgets and models that are kept in LiteLLM's database are not in this file: make consumers of them",
            );
        }
    }
    settings.unknown(&["master_key", "database_url", "store_model_in_db"], findings);
}
