//! Azure-Samples/openai-aca-lb: its environment variables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::address;
use super::draft::{Draft, DraftAuth, DraftBackend, DraftCircuit, DraftKind, DraftMember, DraftPool, DraftRetry, DraftTimeouts, Millis};
use super::error::ImportError;
use super::finding::Findings;
use super::names::{placeholder_model, variable};

/// A variable; the value is `None` if it is stored elsewhere, as a secret.
struct Variable {
    value: Option<String>,
    place: String,
}

type Variables = BTreeMap<String, Variable>;

pub(super) fn import(inputs: &[(&str, &str)], findings: &mut Findings) -> Result<Draft, ImportError> {
    let mut variables = Variables::new();
    for (file, text) in inputs {
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with(['{', '[']) {
            let json = serde_json::from_str(text).map_err(|error| ImportError::Unreadable {
                place: format!("{file}:{}:{}", error.line(), error.column()),
                problem: format!("is not JSON: {error}"),
                remedy: "give the output of az containerapp show, or NAME=value lines".to_owned(),
            })?;
            from_json(&json, &format!("{file}#"), &mut variables);
        } else {
            from_lines(file, text, &mut variables)?;
        }
    }
    let mut numbers: Vec<String> = Vec::new();
    for name in variables.keys() {
        let number = name.strip_prefix("BACKEND_").and_then(|rest| rest.split('_').next()).unwrap_or("").to_owned();
        if !number.is_empty() && !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers.sort_by_key(|number| (number.parse::<u64>().unwrap_or(u64::MAX), number.clone()));
    let mut draft = Draft::default();
    let mut pool = DraftPool { name: "default".to_owned(), from: "BACKEND_*".to_owned(), ..DraftPool::default() };
    let mut deployments: Vec<Option<String>> = Vec::new();
    for number in &numbers {
        if let Some((backend, priority, deployment)) = backend(number, &variables, findings)? {
            pool.members.push(DraftMember { backend: backend.name.clone(), priority, weight: 1 });
            draft.backends.push(backend);
            deployments.push(deployment);
        }
    }
    if pool.members.is_empty() {
        return Ok(draft);
    }
    models(&mut pool, &mut draft, &deployments, findings);
    behaviour(&mut pool, &variables, findings);
    draft.pools.push(pool);
    for (name, variable) in variables.iter().filter(|(name, _)| !is_known(name)) {
        if name.starts_with("BACKEND_") {
            findings.unsupported(&variable.place, format!("{name} is not a variable of openai-aca-lb"));
        } else if name.starts_with("AZURE_") || name.starts_with("APPLICATIONINSIGHTS") || name.starts_with("ASPNETCORE") {
            findings.manual(&variable.place, "", format!("{name}: set it for Spillway, too, if its identity or its telemetry needs it"));
        }
    }
    Ok(draft)
}

fn is_known(name: &str) -> bool {
    let mut parts = name.splitn(3, '_');
    let of_backend = parts.next() == Some("BACKEND") && parts.next().is_some();
    name == "HTTP_TIMEOUT_SECONDS"
        || of_backend && parts.next().is_some_and(|what| ["URL", "PRIORITY", "APIKEY", "DEPLOYMENT_NAME"].contains(&what))
}

/// `NAME=value`, as in .env files and shell scripts.
fn from_lines(file: &str, text: &str, variables: &mut Variables) -> Result<(), ImportError> {
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start_matches("- ").trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=').or_else(|| line.split_once(": ")) else {
            // The line is not repeated: it may be a key.
            return Err(ImportError::Unreadable {
                place: format!("{file}:{}", at + 1),
                problem: "is not a NAME=value line".to_owned(),
                remedy: "give one variable a line, such as BACKEND_1_URL=https://contoso.openai.azure.com".to_owned(),
            });
        };
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value);
        let name = name.trim().to_ascii_uppercase();
        let place = format!("{file}:{} {name}", at + 1);
        variables.insert(name, Variable { value: Some(bare.trim().to_owned()), place });
    }
    Ok(())
}

/// Lists of `{"name", "value"}`, at any depth, and plain objects.
fn from_json(json: &Value, place: &str, variables: &mut Variables) {
    match json {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, item)| from_json(item, &format!("{place}/{at}"), variables));
        }
        Value::Object(map) => {
            let named = map.get("name").and_then(Value::as_str).filter(|_| map.contains_key("value") || map.contains_key("secretRef"));
            if let Some(name) = named {
                let value = map.get("value").and_then(scalar);
                variables.insert(name.to_ascii_uppercase(), Variable { value, place: format!("{place} {name}") });
                return;
            }
            for (name, value) in map {
                match scalar(value) {
                    Some(text) if name.to_ascii_uppercase().starts_with("BACKEND_") || name == "HTTP_TIMEOUT_SECONDS" => {
                        variables.insert(name.to_ascii_uppercase(), Variable { value: Some(text), place: format!("{place}/{name}") });
                    }
                    _ => from_json(value, &format!("{place}/{name}"), variables),
                }
            }
        }
        _ => {}
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn backend(
    number: &str,
    variables: &Variables,
    findings: &mut Findings,
) -> Result<Option<(DraftBackend, u64, Option<String>)>, ImportError> {
    let find = |what: &str| variables.get(&format!("BACKEND_{number}_{what}"));
    let Some(url) = find("URL") else {
        findings.unsupported(format!("BACKEND_{number}_URL"), "is not set; openai-aca-lb would not start; the backend is left out here");
        return Ok(None);
    };
    let address = match url.value.as_deref().map(address::take_apart) {
        Some(Ok(address)) => address,
        Some(Err(problem)) => {
            let remedy = "give the resource's root, such as https://contoso.openai.azure.com".to_owned();
            return Err(ImportError::Unreadable { place: url.place.clone(), problem: format!("the URL {problem}"), remedy });
        }
        None => {
            findings.manual(&url.place, "", format!("the URL is a secret of the container app: add backend {number} by hand"));
            return Ok(None);
        }
    };
    let name = format!("backend-{number}");
    findings.exact(&url.place, format!("backend '{name}': url = \"{}\"", address.root));
    let priority = match find("PRIORITY") {
        Some(Variable { value: Some(value), place }) => {
            let priority = value.parse::<u32>().map_err(|_| ImportError::Unreadable {
                place: place.clone(),
                problem: format!("'{value}' is not a priority"),
                remedy: "give a whole number; lower goes first".to_owned(),
            })?;
            findings.exact(place, format!("priority = {priority}"));
            u64::from(priority)
        }
        _ => {
            findings.manual(format!("BACKEND_{number}_PRIORITY"), "priority = 1", "is not set; openai-aca-lb would not start");
            1
        }
    };
    let auth = match find("APIKEY").filter(|key| key.value.as_ref().is_none_or(|value| !value.is_empty())) {
        Some(key) => {
            let name = variable(&format!("BACKEND_{number}"), "APIKEY");
            findings.manual(
                &key.place,
                format!("key = {{ env = \"{name}\" }}"),
                format!("set {name} for Spillway to its present value; secrets are not copied"),
            );
            DraftAuth::ApiKey(name)
        }
        None => {
            findings.approximate(
                format!("BACKEND_{number}_APIKEY"),
                "auth = { type = \"auto\" }",
                "is not set: openai-aca-lb used DefaultAzureCredential; give the identity of Spillway's machine the role Cognitive Services OpenAI User",
            );
            DraftAuth::Auto
        }
    };
    let deployment = find("DEPLOYMENT_NAME").and_then(|name| name.value.clone()).filter(|name| !name.is_empty());
    let kind = address.kind.unwrap_or(DraftKind::Azure);
    let backend = DraftBackend {
        name,
        from: url.place.clone(),
        kind,
        url: address.root,
        api_version: None,
        location: None,
        auth,
        deployments: BTreeMap::new(),
        max_concurrent: None,
    };
    Ok(Some((backend, priority, deployment.or(address.deployment))))
}

fn models(pool: &mut DraftPool, draft: &mut Draft, deployments: &[Option<String>], findings: &mut Findings) {
    let first = deployments.iter().flatten().next();
    let model = first.cloned().unwrap_or_else(|| placeholder_model(&pool.name));
    for (backend, deployment) in draft.backends.iter_mut().zip(deployments) {
        if let Some(deployment) = deployment {
            backend.deployments.insert(model.clone(), deployment.clone());
        }
    }
    let became = format!("pool 'default': models = [\"{model}\"]");
    if first.is_some() {
        findings.manual(
            "BACKEND_*_DEPLOYMENT_NAME",
            became,
            "openai-aca-lb replaced any name that a caller used: list the names that callers use in 'models', and map each in 'deployments'",
        );
    } else {
        findings.manual(
            "BACKEND_*_DEPLOYMENT_NAME",
            became,
            "openai-aca-lb sent every name on: list the deployments that callers ask for in 'models'; equal names need no 'deployments'",
        );
    }
    pool.models = vec![model];
}

fn behaviour(pool: &mut DraftPool, variables: &Variables, findings: &mut Findings) {
    let place = "openai-aca-lb";
    pool.circuit = DraftCircuit {
        failures: Some(1),
        interval: Some(Millis(60_000)),
        statuses: Some(vec![(429, 429), (500, 599)]),
        trip: Some(Millis(10_000)),
        honour_retry_after: Some(true),
        default_retry_after: Some(Millis(10_000)),
        ..DraftCircuit::default()
    };
    findings.approximate(
        place,
        "pools.circuit: one 429 or 5xx takes a target out for its Retry-After, else for 10s",
        "as in openai-aca-lb; a Retry-After of more than 2m is cut to that (circuit.max_retry_after), and errors of connections count, too",
    );
    let attempts = pool.members.len() as u64;
    pool.retry = DraftRetry { max_attempts: Some(attempts.clamp(1, 100)), statuses: Some(vec![(429, 429), (500, 599)]) };
    findings.exact(place, format!("pools.retry: every backend once ({attempts}), on 429 and 5xx"));
    let timeout = variables.get("HTTP_TIMEOUT_SECONDS");
    let seconds =
        timeout.and_then(|variable| variable.value.as_ref()?.parse::<u64>().ok()).filter(|seconds| (1..=315_360_000).contains(seconds));
    let span = Millis(seconds.unwrap_or(100) * 1_000);
    pool.timeouts = DraftTimeouts { first_token: Some(span), answer: Some(span), idle: Some(span), total: None };
    // A timeout that is longer than the total would never apply.
    if span.0 > 600_000 {
        pool.timeouts.total = Some(span);
    }
    findings.approximate(
        timeout.map_or("HTTP_TIMEOUT_SECONDS", |variable| variable.place.as_str()),
        format!("timeouts.first_token, answer and idle = \"{span}\""),
        "openai-aca-lb had one timeout of silence (100s unless set)",
    );
}
