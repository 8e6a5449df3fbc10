//! The config as text.

use std::fmt::Write as _;

use super::draft::{Draft, DraftAuth, DraftBackend, DraftCircuit, DraftKind, DraftLimits, DraftPool, DraftRetry, DraftTimeouts};
use super::finding::{Class, Finding};

/// Comment lines are wrapped at this column.
const WIDTH: usize = 118;

pub(super) fn config(draft: &Draft, sources: &[&str], findings: &[Finding]) -> String {
    let mut out = String::new();
    head(&mut out, sources, findings);
    out.push_str("\n[server]\nlisten = [\"127.0.0.1:8080\"]\n");
    for backend in &draft.backends {
        self::backend(&mut out, backend);
    }
    for pool in &draft.pools {
        self::pool(&mut out, pool);
    }
    plugins(&mut out, draft);
    for (from, limits) in &draft.per_consumer {
        consumer(&mut out, from, limits);
    }
    out
}

fn head(out: &mut String, sources: &[&str], findings: &[Finding]) {
    comment(out, &format!("Imported from {}.", sources.join(", ")));
    let count = |class| findings.iter().filter(|finding| finding.class == class).count();
    let counts: Vec<String> = Class::ALL.iter().map(|class| format!("{} {class}", count(*class))).collect();
    comment(out, &format!("Findings: {}.", counts.join(", ")));
    let variables: Vec<&str> = findings.iter().filter_map(|finding| finding.became.split("{ env = \"").nth(1)?.split('"').next()).collect();
    if !variables.is_empty() {
        let mut unique: Vec<&str> = Vec::new();
        variables.iter().for_each(|name| {
            if !unique.contains(name) {
                unique.push(name);
            }
        });
        comment(out, &format!("Environment variables to set before 'spillway check': {}.", unique.join(", ")));
    }
    for class in Class::ALL.into_iter().filter(|class| count(*class) > 0) {
        let title = match class {
            Class::Manual => "manual: left to do by hand",
            Class::Unsupported => "unsupported: not imported",
            Class::Approximate => "approximate: similar, but not in every case",
            Class::Exact => "exact: means the same",
        };
        let _ = writeln!(out, "#\n# {title}");
        for finding in findings.iter().filter(|finding| finding.class == class) {
            let text = finding.to_string();
            item(out, text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest));
        }
    }
}

/// Line ends are removed, so that no text of the source can end a comment.
fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn comment(out: &mut String, text: &str) {
    wrapped(out, text, "# ", "# ");
}

fn item(out: &mut String, text: &str) {
    wrapped(out, text, "#   - ", "#     ");
}

fn wrapped(out: &mut String, text: &str, first: &str, next: &str) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in words(text).split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            next.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// On one line, so that it can be a key, too.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", words(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn list<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(each).collect::<Vec<_>>().join(", "))
}

fn auth(auth: &DraftAuth) -> Option<String> {
    let optional = |key: &str, value: &Option<String>| value.as_ref().map_or(String::new(), |value| format!(", {key} = {}", quoted(value)));
    Some(match auth {
        DraftAuth::None => return None,
        DraftAuth::ApiKey(variable) => format!("{{ type = \"api-key\", key = {{ env = {} }} }}", quoted(variable)),
        DraftAuth::ManagedIdentity { client_id, scope } => {
            format!("{{ type = \"managed-identity\"{}{} }}", optional("client_id", client_id), optional("scope", scope))
        }
        DraftAuth::Client { tenant_id, client_id, secret } => format!(
            "{{ type = \"client-credentials\", tenant_id = {}, client_id = {}, secret = {{ env = {} }} }}",
            quoted(tenant_id),
            quoted(client_id),
            quoted(secret)
        ),
        DraftAuth::Auto => "{ type = \"auto\" }".to_owned(),
    })
}

fn backend(out: &mut String, backend: &DraftBackend) {
    out.push('\n');
    comment(out, &format!("from {}", backend.from));
    out.push_str("[[backends]]\n");
    let kind = match backend.kind {
        DraftKind::Azure => "azure-openai",
        DraftKind::OpenAi => "openai",
        DraftKind::Anthropic => "anthropic",
    };
    let _ = writeln!(out, "name = {}\nkind = \"{kind}\"\nurl = {}", quoted(&backend.name), quoted(&backend.url));
    if let (DraftKind::Azure, Some(version)) = (backend.kind, &backend.api_version) {
        let _ = writeln!(out, "api = \"dated\"\napi_version = {}", quoted(version));
    }
    put(out, "location", backend.location.as_deref().map(quoted));
    put(out, "auth", auth(&backend.auth));
    put(out, "max_concurrent", backend.max_concurrent);
    if !backend.deployments.is_empty() {
        let pairs: Vec<_> = backend.deployments.iter().collect();
        let pairs = pairs.iter().map(|(model, deployment)| format!("{} = {}", quoted(model), quoted(deployment))).collect::<Vec<_>>();
        let _ = writeln!(out, "deployments = {{ {} }}", pairs.join(", "));
    }
}

fn put(out: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        let _ = writeln!(out, "{key} = {value}");
    }
}

fn span(value: Option<impl std::fmt::Display>) -> Option<String> {
    value.map(|value| format!("\"{value}\""))
}

pub(super) fn statuses_text(ranges: &[(u16, u16)]) -> String {
    list(ranges, |(low, high)| if low == high { low.to_string() } else { format!("\"{low}-{high}\"") })
}

fn statuses(ranges: Option<&Vec<(u16, u16)>>) -> Option<String> {
    ranges.map(|ranges| statuses_text(ranges))
}

fn pool(out: &mut String, pool: &DraftPool) {
    out.push('\n');
    comment(out, &format!("from {}", pool.from));
    let _ = writeln!(out, "[[pools]]\nname = {}\nmodels = {}", quoted(&pool.name), list(&pool.models, |model| quoted(model)));
    put(out, "policy", pool.policy.map(quoted));
    out.push_str("members = [\n");
    for member in &pool.members {
        let _ = writeln!(out, "  {{ backend = {}, priority = {}, weight = {} }},", quoted(&member.backend), member.priority, member.weight);
    }
    out.push_str("]\n");
    if pool.circuit != DraftCircuit::default() {
        let circuit = &pool.circuit;
        out.push_str("\n[pools.circuit]\n");
        put(out, "failures", circuit.failures);
        put(out, "failure_percent", circuit.failure_percent);
        put(out, "interval", span(circuit.interval));
        put(out, "statuses", statuses(circuit.statuses.as_ref()));
        put(out, "errors", circuit.errors.as_ref().map(|errors| list(errors, |error| quoted(error))));
        // The other gateways' circuits are always open for the same time.
        put(out, "first_trip", span(circuit.trip));
        put(out, "trip", span(circuit.trip));
        put(out, "honour_retry_after", circuit.honour_retry_after);
        put(out, "default_retry_after", span(circuit.default_retry_after));
    }
    if pool.retry != DraftRetry::default() {
        out.push_str("\n[pools.retry]\n");
        put(out, "max_attempts", pool.retry.max_attempts);
        put(out, "statuses", statuses(pool.retry.statuses.as_ref()));
    }
    if pool.timeouts != DraftTimeouts::default() {
        out.push_str("\n[pools.timeouts]\n");
        put(out, "first_token", span(pool.timeouts.first_token));
        put(out, "answer", span(pool.timeouts.answer));
        put(out, "idle", span(pool.timeouts.idle));
        put(out, "total", span(pool.timeouts.total));
    }
    if pool.limits != DraftLimits::default() {
        out.push_str("\n[pools.limits]\n");
        limits(out, &pool.limits);
    }
}

fn limits(out: &mut String, limits: &DraftLimits) {
    put(out, "requests_per_minute", limits.requests_per_minute);
    put(out, "tokens_per_minute", limits.tokens_per_minute);
    put(out, "concurrent_requests", limits.concurrent_requests);
    put(out, "token_quota", limits.token_quota.map(|(tokens, period)| format!("{{ tokens = {tokens}, period = \"{period}\" }}")));
}

fn plugins(out: &mut String, draft: &Draft) {
    if draft.exact_cache.is_some() || draft.semantic_cache.is_some() {
        out.push_str("\n[plugins.cache.exact]\n");
        put(out, "ttl", span(draft.exact_cache));
    }
    if let Some(semantic) = &draft.semantic_cache {
        out.push_str("\n[plugins.cache.semantic]\n");
        put(out, "embeddings", Some(quoted(&semantic.pool)));
        put(out, "threshold", Some(format!("{}.{:04}", semantic.threshold / 10_000, semantic.threshold % 10_000)));
        put(out, "ttl", span(semantic.ttl));
        put(out, "max_messages", semantic.max_messages);
        put(out, "ignore_system", semantic.ignore_system.then_some(true));
        put(out, "dry_run", semantic.dry_run.then_some(true));
    }
    if let Some(safety) = &draft.safety {
        out.push_str("\n[plugins.guard.content_safety]\n");
        put(out, "url", Some(quoted(&safety.url)));
        put(out, "auth", auth(&safety.auth));
        let categories: Vec<String> = safety.categories.iter().map(|(name, from)| format!("{name} = {from}")).collect();
        put(out, "categories", (!categories.is_empty()).then(|| format!("{{ {} }}", categories.join(", "))));
        put(out, "severities", safety.eight.then_some("\"eight\""));
        put(out, "blocklists", (!safety.blocklists.is_empty()).then(|| list(&safety.blocklists, |name| quoted(name))));
        put(out, "prompt_shield", safety.prompt_shield.then_some(true));
    }
}

/// A consumer needs a key, which only its owner can make, so it is written as a comment.
fn consumer(out: &mut String, from: &str, limits: &DraftLimits) {
    out.push('\n');
    comment(
        out,
        &format!("Limits of each caller, from {from}: add one such block for each caller, with the hash that 'spillway keys new' prints."),
    );
    let mut block = "[[consumers]]\nname = \"NAME\"\nkeys = [{ sha256 = \"HASH\" }]\n\n[consumers.limits]\n".to_owned();
    self::limits(&mut block, limits);
    for line in block.lines() {
        let _ = writeln!(out, "{}", format!("# {line}").trim_end());
    }
}
