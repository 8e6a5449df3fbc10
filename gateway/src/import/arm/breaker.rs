//! Circuit breakers of backends.

use super::node::{Node, unknown_keys};
use crate::import::draft::{Circuit, Millis};
use crate::import::finding::Findings;

/// Spillway's maximum of `failures`.
const MOST_FAILURES: u64 = 10_000;
/// Spillway's default for `max_retry_after`.
const LONGEST_RETRY_AFTER: &str = "2m";

pub(super) fn read(breaker: &Node, findings: &mut Findings) -> Option<Circuit> {
    if let Some(copy) = breaker.get("copy") {
        findings.unsupported(copy.place, "a loop over rules is not expanded; import the backends as they are deployed");
    }
    let rules = breaker.get("rules")?.items();
    for other in rules.iter().skip(1) {
        findings.unsupported(&other.place, "a further rule: a circuit has one rule here, and the first one is used");
    }
    let rule = rules.first()?;
    let mut circuit = Circuit::default();
    let condition = rule.get("failureCondition");
    match &condition {
        Some(condition) => failures(condition, &mut circuit, findings),
        None => findings.unsupported(&rule.place, "has no failureCondition; Spillway's default stays: 5 failures within a minute"),
    }
    if let Some(trip) = rule.get("tripDuration")
        && let Some(millis) = trip.duration(findings)
    {
        findings.exact(trip.place, format!("circuit.trip = \"{millis}\""));
        circuit.trip = Some(millis);
    }
    retry_after(rule, &mut circuit, findings);
    if let Some(response) = rule.get("failureResponse") {
        findings.unsupported(response.place, "Spillway's status if no member can serve: 429 if all are throttled, else 503");
    }
    let known = ["name", "failureCondition", "tripDuration", "acceptRetryAfter", "failureResponse"];
    unknown_keys(rule, &known, findings);
    Some(circuit)
}

fn retry_after(rule: &Node, circuit: &mut Circuit, findings: &mut Findings) {
    let given = rule.get("acceptRetryAfter");
    let place = given.as_ref().map_or_else(|| format!("{}/acceptRetryAfter", rule.place), |node| node.place.clone());
    let accepts = given.and_then(|node| node.flag(findings));
    circuit.honour_retry_after = Some(accepts.unwrap_or(false));
    match accepts {
        Some(true) => findings.approximate(
            place,
            "circuit.honour_retry_after = true",
            format!("a Retry-After of more than {LONGEST_RETRY_AFTER} is cut to that; raise circuit.max_retry_after for longer ones"),
        ),
        Some(false) => findings.exact(place, "circuit.honour_retry_after = false"),
        None => findings.approximate(
            place,
            "circuit.honour_retry_after = false",
            "not set, so API Management does not honour it; with true, targets are used again after their own Retry-After",
        ),
    }
}

fn failures(condition: &Node, circuit: &mut Circuit, findings: &mut Findings) {
    if let Some(count) = condition.get("count")
        && let Some(number) = count.count(findings)
    {
        let bounded = number.clamp(1, MOST_FAILURES);
        circuit.failures = Some(bounded);
        let became = format!("circuit.failures = {bounded}");
        if bounded == number {
            findings.exact(count.place, became);
        } else {
            findings.approximate(count.place, became, format!("{number} is outside of 1 to {MOST_FAILURES}"));
        }
    }
    if let Some(percentage) = condition.get("percentage")
        && let Some(number) = percentage.count(findings)
    {
        if circuit.failures.is_some() {
            findings.unsupported(percentage.place, "a circuit has either a count or a percentage; the count is used");
        } else {
            let bounded = number.clamp(1, 100);
            circuit.failure_percent = Some(bounded);
            findings.approximate(
                percentage.place,
                format!("circuit.failure_percent = {bounded}"),
                "Spillway waits for circuit.min_calls calls (10) within the interval before a percentage counts",
            );
        }
    }
    if let Some(interval) = condition.get("interval")
        && let Some(millis) = interval.duration(findings)
    {
        findings.exact(interval.place, format!("circuit.interval = \"{millis}\""));
        circuit.interval = Some(millis);
    }
    circuit.statuses = statuses(condition, findings);
    reasons(condition, circuit, findings);
    unknown_keys(condition, &["count", "percentage", "interval", "statusCodeRanges", "errorReasons"], findings);
}

fn statuses(condition: &Node, findings: &mut Findings) -> Option<Vec<(u16, u16)>> {
    let list = condition.get("statusCodeRanges")?;
    let mut ranges = Vec::new();
    for range in list.items() {
        let mut bound = |key| range.get(key).and_then(|node| node.count(findings)).and_then(|number| u16::try_from(number).ok());
        let (low, high) = (bound("min"), bound("max"));
        let (low, high) = (low.or(high), high.or(low));
        match low.zip(high).filter(|(low, high)| (100..=999).contains(low) && low <= high && *high <= 999) {
            Some(range) => ranges.push(range),
            None => findings.unsupported(range.place, "is not a range of statuses from 100 to 999, such as {\"min\": 500, \"max\": 599}"),
        }
    }
    if ranges.is_empty() {
        return None;
    }
    let counts_429 = ranges.iter().any(|(low, high)| (*low..=*high).contains(&429));
    findings.exact(&list.place, format!("circuit.statuses = {}", crate::import::write::statuses_text(&ranges)));
    if !counts_429 {
        findings.approximate(
            list.place,
            "a 429 throttles its target all the same",
            "API Management would send more requests after a 429; Spillway sends none until the throttle ends, and the circuit stays closed",
        );
    }
    Some(ranges)
}

/// What counts besides statuses. API Management's reasons are free texts; these are the ones in its documentation.
fn reasons(condition: &Node, circuit: &mut Circuit, findings: &mut Findings) {
    let Some(list) = condition.get("errorReasons").filter(|list| !list.items().is_empty()) else {
        return findings.approximate(
            format!("{}/errorReasons", condition.place),
            "every failure to connect, to answer in time or to finish counts, too",
            "none are listed; Spillway counts these failures",
        );
    };
    let mut errors: Vec<&'static str> = Vec::new();
    for reason in list.items() {
        let Some(text) = reason.text(findings) else { continue };
        let known: &[&'static str] = match text.to_ascii_lowercase().replace(' ', "").as_str() {
            "backendconnectionfailure" => &["connect", "tls", "reset"],
            "timeout" => &["timeout", "first_token", "idle"],
            "servererrors" if circuit.statuses.is_some() => {
                findings.exact(reason.place, "covered by circuit.statuses already");
                continue;
            }
            "servererrors" => {
                circuit.statuses = Some(vec![(500, 599)]);
                findings.approximate(reason.place, "circuit.statuses = [\"500-599\"]", "interpreted as these statuses");
                continue;
            }
            _ => {
                findings.unsupported(reason.place, format!("no kind of error in Spillway corresponds to '{text}'"));
                continue;
            }
        };
        findings.approximate(reason.place, format!("circuit.errors: {}", known.join(", ")), "Spillway has several kinds of errors here");
        errors.extend(known);
    }
    if errors.is_empty() {
        return findings.approximate(
            list.place,
            "every failure to connect, to answer in time or to finish counts, too",
            "none of the reasons names one of them; to count statuses only, set circuit.errors = []",
        );
    }
    circuit.errors = Some(errors);
    if circuit.statuses.is_none() {
        circuit.statuses = Some(Vec::new());
    }
}

/// A circuit as text.
fn describe(circuit: &Circuit) -> String {
    let count = |count: Option<u64>, what: &str| count.map(|count| format!("{count}{what}"));
    let span = |span: Option<Millis>, begin: &str| span.map(|span| format!("{begin} {span}"));
    let parts = [
        count(circuit.failures, " failures"),
        count(circuit.failure_percent, "% failures"),
        span(circuit.interval, "within"),
        span(circuit.trip, "open for"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "other statuses or errors".to_owned() } else { parts.join(", ") }
}

/// One circuit for a pool, whose members may each have had one of their own.
pub(super) fn shared(place: &str, members: &[(String, Option<Circuit>)], findings: &mut Findings) -> Circuit {
    let Some((owner, chosen)) = members.iter().find_map(|(name, circuit)| Some((name, circuit.clone()?))) else {
        findings.approximate(
            place,
            "circuit: Spillway's default, 5 failures within 1m open it for 30s",
            "no member has a circuit breaker; API Management would send requests to a failing one",
        );
        return Circuit::default();
    };
    for (name, circuit) in members {
        match circuit {
            Some(circuit) if *circuit == chosen => {}
            Some(circuit) => findings.approximate(
                place,
                format!("'{name}' gets the circuit of '{owner}'"),
                format!(
                    "a pool has one circuit for all its members; its own was: {}; that of '{owner}' is: {}",
                    describe(circuit),
                    describe(&chosen)
                ),
            ),
            None => findings.approximate(
                place,
                format!("'{name}' gets the circuit of '{owner}'"),
                "it had none; a pool has one circuit for all its members",
            ),
        }
    }
    chosen
}
