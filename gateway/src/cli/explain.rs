//! `spillway explain`: why a request went to a backend, as text.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin::{Connection, ask};

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    connection: Connection,
    /// The request's id: `x-request-id` of its answer, or `id` in the access log.
    id: String,
    /// Print what is known as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ExplainArguments) -> ExitCode {
    let id = percent_encoding::utf8_percent_encode(&arguments.id, percent_encoding::NON_ALPHANUMERIC);
    ask(&arguments.connection, reqwest::Method::GET, &format!("/api/requests/{id}"), |request| match arguments.json {
        true => format!("{request:#}"),
        false => explain(request),
    })
}

/// What is known of a request, as lines of text.
fn explain(request: &Value) -> String {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("?").to_owned();
    let mut lines = vec![format!(
        "{} of {} asked for {} ({}), pool {}",
        text(request, "id"),
        request["consumer"].as_str().unwrap_or("an unknown caller"),
        request["model"].as_str().unwrap_or("no known model"),
        text(request, "api"),
        request["pool"].as_str().unwrap_or("none"),
    )];
    for member in request["passed_over"].as_array().into_iter().flatten() {
        let until = member["reopens_in_ms"].as_u64().map_or(String::new(), |ms| format!(", for another {} s", ms.div_ceil(1000)));
        lines.push(format!(
            "  not used: {}/{} ({}), because it was {}{until}",
            text(member, "backend"),
            text(member, "deployment"),
            about(member),
            state(member["state"].as_str().unwrap_or("?")),
        ));
    }
    for attempt in request["attempts"].as_array().into_iter().flatten() {
        let status = attempt["status"].as_u64().map_or(String::new(), |status| format!(" ({status})"));
        lines.push(format!(
            "  tried: {}/{} ({}): {}{status} after {:.1} ms",
            text(attempt, "backend"),
            text(attempt, "deployment"),
            about(attempt),
            text(attempt, "outcome"),
            attempt["us"].as_f64().unwrap_or(0.0) / 1000.0,
        ));
        if attempt["stale"] == true {
            lines.push("    its connection was closed already: sent once more on a new one".to_owned());
        }
        if let Some(said) = attempt["said"].as_str() {
            lines.push(format!("    its message: {said}"));
        }
    }
    let how = match (request["cache"].as_str(), request["end"].as_str()) {
        (Some("hit" | "semantic"), _) => "answered from the cache".to_owned(),
        (_, Some("ok")) => "answered".to_owned(),
        (_, Some("last_resort")) => "answered by the pool's last resort".to_owned(),
        (_, Some("refused")) => {
            let limit = request["limit"].as_str().map_or(String::new(), |limit| format!(", by {limit}"));
            format!("refused by the gateway: {}{limit}", text(request, "code"))
        }
        (_, Some("cut")) => "cut off in the middle of its answer".to_owned(),
        _ => "the caller left".to_owned(),
    };
    let served = request["service_tier"].as_str().map_or(String::new(), |tier| format!(" in service tier {tier}"));
    lines.push(format!("  {how}{served}, status {}, after {:.1} ms", request["status"], request["us"].as_f64().unwrap_or(0.0) / 1000.0));
    lines.join("\n")
}

/// What is known of a target beside its name: its tier, the service tier that was asked for, whose place it took, and how
/// full its provisioned throughput was.
fn about(target: &Value) -> String {
    let mut about = vec![format!("tier {}", target["priority"])];
    about.extend(target["service_tier"].as_str().map(|tier| format!("service tier {tier}")));
    about.extend(target["spilled_from"].as_str().map(|from| format!("in place of {from}, by Azure's own spillover")));
    about.extend(target["ptu_percent"].as_u64().map(|percent| format!("its provisioned throughput {percent} % full")));
    about.join(", ")
}

/// A state, in the words of the sentence above.
fn state(state: &str) -> String {
    match state {
        "tried" => "tried before by this request".to_owned(),
        "not-for-this-api" => "not able to serve this API".to_owned(),
        "ptu-full" => "full by the gateway's account of its provisioned throughput".to_owned(),
        "not-for-this-class" => "for other classes of callers, or for late requests only".to_owned(),
        "location-not-allowed" => "outside the caller's locations".to_owned(),
        "quota-pool" => "closed by a 429 of another member of its quota pool".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_is_named_with_service_tier_spillover_and_level() {
        let request = json!({
            "id": "r", "consumer": "app", "model": "m", "api": "chat", "pool": "p", "end": "ok", "status": 200, "us": 1500,
            "service_tier": "default",
            "passed_over": [{ "backend": "ptu", "deployment": "d", "priority": 1, "state": "ptu-full", "reopens_in_ms": 1200, "ptu_percent": 104 }],
            "attempts": [
                { "backend": "ptu-2", "deployment": "standard", "spilled_from": "gpt", "priority": 1, "outcome": "ok", "status": 200, "us": 900,
                  "ptu_percent": 71 },
                { "backend": "flex", "deployment": "d", "priority": 2, "service_tier": "flex", "outcome": "throttled", "status": 429, "us": 100 },
            ],
        });
        let text = explain(&request);
        for line in [
            "  not used: ptu/d (tier 1, its provisioned throughput 104 % full), because it was full by the gateway's account of its \
             provisioned throughput, for another 2 s",
            "  tried: ptu-2/standard (tier 1, in place of gpt, by Azure's own spillover, its provisioned throughput 71 % full): ok (200) after 0.9 ms",
            "  tried: flex/d (tier 2, service tier flex): throttled (429) after 0.1 ms",
            "  answered in service tier default, status 200, after 1.5 ms",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
