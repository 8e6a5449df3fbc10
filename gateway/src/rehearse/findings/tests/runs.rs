//! What findings say of outcomes.

use std::path::Path;
use std::time::Duration;

use super::kinds::GOOD;
use crate::config::{Config, Secrets};
use crate::rehearse::fault::{Fault, FaultKind};
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::{of_outcomes, sorted};
use crate::rehearse::outcome::{Attempt, FaultOutcome, PoolSums, RequestOutcome, Served};
use crate::rehearse::place::{Lines, Place};

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("t.toml"), &Secrets::stand_ins()).unwrap_or_else(|error| panic!("{error}"))
}

fn fault(kind: FaultKind, backends: &[usize]) -> Fault {
    let place = Place { line: Some(1), column: Some(1), key: "server".to_owned() };
    let (what, consumer) = ("x".to_owned(), (kind == FaultKind::Flood).then_some(0));
    Fault { kind, what, place, pools: vec![0], backends: backends.to_vec(), targets: Vec::new(), full: Vec::new(), consumer }
}

/// A request of the consumer `c` after attempts at these backends.
fn request(status: u16, served: Served, attempts: &[&str]) -> RequestOutcome {
    let attempt = |backend: &&str| Attempt {
        backend: (*backend).to_owned(),
        deployment: "gpt-4o".to_owned(),
        tier: 1,
        outcome: "failed",
        status: Some(500),
    };
    RequestOutcome {
        pool: "chat".to_owned(),
        model: "gpt-4o".to_owned(),
        stream: false,
        consumer: Some("c".to_owned()),
        at: Duration::ZERO,
        status,
        whole: true,
        retry_after: None,
        served,
        attempts: attempts.iter().map(attempt).collect(),
        added: Duration::ZERO,
        took: Duration::ZERO,
    }
}

fn good() -> RequestOutcome {
    request(200, Served::Member { tier: 1, backend: "a".to_owned(), deployment: "gpt-4o".to_owned() }, &["a"])
}

fn refused(status: u16, attempts: &[&str]) -> RequestOutcome {
    request(status, Served::Gateway { code: "upstream_error".to_owned() }, attempts)
}

fn outcome(fault: Fault, requests: Vec<RequestOutcome>) -> FaultOutcome {
    let sums = PoolSums {
        pool: "chat".to_owned(),
        requests: requests.len() as u64,
        good: requests.iter().filter(|request| request.is_good()).count() as u64,
        broken: 0,
        served: Vec::new(),
        statuses: Vec::new(),
        attempts: requests.iter().map(|request| request.attempts.len() as u64).sum(),
        added_most: Duration::ZERO,
        added_median: Duration::ZERO,
        cost_usd: 0.0,
        cost_unknown: 0,
    };
    FaultOutcome { fault, requests, pools: vec![sums], limits: Vec::new(), alerts: Vec::new(), notes: Vec::new() }
}

/// Errors and warnings of one fault: code and key.
fn alarms(text: &str, baseline: RequestOutcome, fault: FaultOutcome) -> Vec<(&'static str, String)> {
    let baseline = outcome(self::fault(FaultKind::None, &[]), vec![baseline]);
    let found = of_outcomes(&config(text), &Lines::new(text), &baseline, &[fault]);
    found.into_iter().filter(|finding| finding.severity > Severity::Note).map(|finding| (finding.code, finding.place.key)).collect()
}

#[test]
fn a_failure_that_callers_saw_is_told_with_the_setting_that_kept_the_others_out() {
    let budget = GOOD.replace("timeouts = { first_token = \"20s\" }", "retry = { budget = { percent = 5, floor_per_second = 0 } }");
    let narrow = GOOD.replace("url = \"https://b.openai.azure.com\"", "url = \"https://b.openai.azure.com\"\nmax_concurrent = 2");
    let fenced = GOOD.replace("keys = [", "locations = [\"swedencentral\"]\nkeys = [");
    let throttled = || request(429, Served::Member { tier: 1, backend: "a-ptu".to_owned(), deployment: "gpt-4o".to_owned() }, &["a-ptu"]);
    for (text, touched, requests, key) in [
        (budget.as_str(), vec![0, 1], vec![refused(502, &["a"])], "pools[0].retry.budget"),
        (narrow.as_str(), vec![0, 1], vec![refused(429, &[])], "backends[2].max_concurrent"),
        (fenced.as_str(), vec![0, 1], vec![refused(429, &["a"])], "consumers[0].locations"),
        (GOOD, vec![0], vec![throttled()], "pools[0].retry.statuses"),
        (GOOD, vec![0], vec![refused(504, &["a-ptu"])], "pools[0].timeouts.first_token"),
        (GOOD, vec![0], vec![refused(502, &["a-ptu"; 4])], "pools[0].retry.max_attempts"),
    ] {
        let found = alarms(text, good(), outcome(fault(FaultKind::Failing, &touched), requests));
        assert_eq!(found, [("caller-saw-failure", key.to_owned())]);
    }
}

#[test]
fn a_failure_without_a_way_out_or_of_a_pool_that_fails_anyway_is_no_finding_of_its_fault() {
    let all = outcome(fault(FaultKind::Failing, &[0, 1, 2]), vec![refused(502, &["a"])]);
    assert_eq!(alarms(GOOD, good(), all), []);
    let some = || outcome(fault(FaultKind::Failing, &[0]), vec![refused(502, &["a-ptu"])]);
    assert_eq!(alarms(GOOD, refused(429, &[]), some()), [("fails-without-fault", "pools[0].name".to_owned())]);
    let full = FaultOutcome { fault: Fault { full: vec![1, 2], ..some().fault }, ..some() };
    assert_eq!(alarms(GOOD, good(), full), [], "the others were full");
    let shared = GOOD
        .replace("priority = 2 }", "priority = 2, quota_pool = \"q\" }")
        .replace("priority = 3 }", "priority = 3, quota_pool = \"q\" }");
    let throttled =
        |touched: &[usize]| outcome(Fault { full: vec![0], ..fault(FaultKind::Throttled, touched) }, vec![refused(429, &["a"])]);
    assert_eq!(alarms(&shared, good(), throttled(&[1])), [], "the other one shares its quota");
    assert_ne!(alarms(GOOD, good(), throttled(&[1])), []);
}

#[test]
fn what_stops_all_callers_although_backends_work_is_told() {
    let redis = format!("{GOOD}\n[redis]\nurl = {{ env = \"REDIS_URL\" }}\nquotas_when_lost = \"refuse\"\n");
    let gone = |bad: usize| {
        let requests = (0..4).map(|at| if at < bad { refused(503, &[]) } else { good() }).collect();
        outcome(fault(FaultKind::RedisGone, &[]), requests)
    };
    assert_eq!(alarms(&redis, good(), gone(4)), [("dependency-stops-all", "redis.quotas_when_lost".to_owned())]);
    assert_eq!(alarms(&redis, good(), gone(1)), []);
    let other = RequestOutcome { consumer: Some("d".to_owned()), ..refused(503, &[]) };
    let flood = outcome(fault(FaultKind::Flood, &[]), vec![refused(429, &[]), other]);
    assert_eq!(alarms(GOOD, good(), flood), [("flood-hurts-others", "consumers[0].limits".to_owned())]);
    let alone = outcome(fault(FaultKind::Flood, &[]), vec![refused(429, &[]), good()]);
    assert_eq!(alarms(GOOD, good(), alone), [], "it may be refused itself");
}

#[test]
fn an_answer_after_its_deadline_is_told() {
    let hurried = GOOD.replace("keys = [", "deadline = \"30s\"\nkeys = [");
    let late = |seconds| RequestOutcome { added: Duration::from_secs(seconds), ..good() };
    let slow = |seconds| outcome(fault(FaultKind::Silence, &[0]), vec![late(seconds)]);
    assert_eq!(alarms(&hurried, good(), slow(40)), [("deadline-before-failover", "pools[0].timeouts.answer".to_owned())]);
    assert_eq!(alarms(&hurried, good(), slow(20)), []);
}

#[test]
fn of_equal_findings_the_worst_stays_and_common_notes_are_told_once() {
    let finding = |code, severity, line: usize| Finding {
        code,
        severity,
        place: Place { line: Some(line), column: Some(1), key: format!("key{line}") },
        text: "It is so.".to_owned(),
        remedy: "Do so.".to_owned(),
    };
    let all = sorted(vec![
        finding("one-location", Severity::Note, 7),
        finding("one-location", Severity::Warning, 7),
        finding("answers-break", Severity::Note, 9),
        finding("answers-break", Severity::Note, 4),
        finding("answers-break", Severity::Note, 6),
        finding("one-quota", Severity::Error, 8),
    ]);
    let told: Vec<_> = all.iter().map(|finding| (finding.code, finding.severity, finding.place.line, finding.text.as_str())).collect();
    assert_eq!(
        told,
        [
            ("one-quota", Severity::Error, Some(8), "It is so."),
            ("one-location", Severity::Warning, Some(7), "It is so."),
            ("answers-break", Severity::Note, Some(4), "It is so. Likewise: lines 6, 9."),
        ]
    );
}
