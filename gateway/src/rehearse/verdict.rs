//! Findings from what faults showed: where callers got errors, waited, or lost streams.

use std::collections::BTreeSet;
use std::time::Duration;

use super::derive::takes_requests;
use super::fault::{Fault, FaultKind};
use super::finding::{Finding, Severity};
use super::outcome::{FaultOutcome, PoolSums, Rehearsal, RequestOutcome};
use crate::config::Config;

/// Callers notice more than this.
const LONG: Duration = Duration::from_secs(10);

/// All findings, the worst first, then in the order of the file.
pub(super) fn findings(config: &Config, rehearsal: &Rehearsal) -> Vec<Finding> {
    let mut found: Vec<Finding> = rehearsal.faults.iter().flat_map(|outcome| of_fault(config, outcome)).collect();
    found.extend(of_baseline(&rehearsal.baseline));
    found.sort_by(|one, other| (other.severity, &one.place, one.code).cmp(&(one.severity, &other.place, other.code)));
    found
}

fn of_baseline(outcome: &FaultOutcome) -> impl Iterator<Item = Finding> {
    outcome.pools.iter().filter(|sums| sums.good < sums.requests).map(|sums| Finding {
        code: "fails-without-fault",
        severity: Severity::Error,
        place: outcome.fault.place.clone(),
        text: format!(
            "{}: {} of {} requests fail although nothing is wrong: {}",
            sums.pool,
            sums.requests - sums.good,
            sums.requests,
            seen(sums)
        ),
        remedy: "see what the config refuses: limits, rights, request rules, the guard".to_owned(),
    })
}

fn of_fault(config: &Config, outcome: &FaultOutcome) -> Vec<Finding> {
    let fault = &outcome.fault;
    let mut found = Vec::new();
    let add = |found: &mut Vec<Finding>, code, severity, text: String, remedy: &str| {
        found.push(Finding { code, severity, place: fault.place.clone(), text, remedy: remedy.to_owned() });
    };
    for sums in outcome.pools.iter().filter(|_| is_ours(fault.kind)) {
        let failed = sums.requests - sums.good - sums.broken;
        if failed > 0 {
            let (left, remedy) = remedy(config, fault, &sums.pool);
            let severity = if left { Severity::Error } else { Severity::Warning };
            let what = format!("{}, {}: {failed} of {} requests fail: {}", fault.name(), fault.kind.says(), sums.requests, seen(sums));
            add(&mut found, "callers-see-errors", severity, what, remedy);
        }
        if sums.broken > 0 {
            let text = format!("{}: {} of {} requests lose their answer in the middle", fault.name(), sums.broken, sums.requests);
            add(
                &mut found,
                "answers-break",
                Severity::Note,
                text,
                "`streams.rescue = \"verified\"` in the pool continues chats that break; it costs a second answer",
            );
        }
        if sums.added_most > LONG && failed < sums.requests {
            let text = format!("{}: callers wait up to {:.0} s longer", fault.name(), sums.added_most.as_secs_f64());
            let remedy = "shorten the timeout that ends such an attempt (`timeouts.connect`, `first_token`, `answer`) if no answer needs so long, or let the circuit open for it (`circuit.errors`)";
            add(&mut found, "callers-wait", Severity::Warning, text, remedy);
        }
    }
    for limit in outcome.limits.iter().filter(|limit| !limit.kept) {
        let text = format!("{}: {} got through where {} are allowed", limit.limit, limit.used, limit.allowed);
        add(&mut found, "limit-not-kept", Severity::Error, text, "this is a defect: please report it");
    }
    let is_hurt = |request: &RequestOutcome| fault.consumer.is_some() && !request.is_good();
    let flooder = fault.consumer.map(|at| config.consumers[at].name.to_string());
    let hurt = outcome.requests.iter().filter(|request| is_hurt(request) && request.consumer != flooder).count();
    if hurt > 0 {
        let text = format!("{}: {hurt} requests of other consumers fail", fault.name());
        add(
            &mut found,
            "flood-hurts-others",
            Severity::Error,
            text,
            "set `limits.requests_per_minute` or `concurrent` for this consumer, and classes for the others",
        );
    }
    found
}

/// Whether the gateway could help: a prompt that is refused is its caller's, and a flood is judged by its limits.
fn is_ours(kind: FaultKind) -> bool {
    !matches!(kind, FaultKind::ContentFilter | FaultKind::ContextTooLong | FaultKind::Flood | FaultKind::None)
}

/// Whether the pool has a member that the fault doesn't touch, and what helps.
fn remedy(config: &Config, fault: &Fault, pool: &str) -> (bool, &'static str) {
    let Some(pool) = config.pools.iter().find(|known| *known.name == *pool) else { return (false, "") };
    let members = (0..pool.members.len()).filter(|at| takes_requests(config, pool, *at));
    let all: BTreeSet<usize> = members.map(|at| pool.members[at].backend).collect();
    let untouched = all.iter().any(|backend| !fault.backends.contains(backend));
    match (fault.kind, fault.backends.is_empty(), untouched) {
        (FaultKind::LedgerFull, ..) => (true, "`ledger.required = false` answers requests while the ledger can't be written"),
        (FaultKind::RedisSlow | FaultKind::RedisGone, ..) => {
            (true, "`redis.quotas_when_lost = \"share\"` goes on with this node's share while Redis is gone")
        }
        (FaultKind::CallerIssuerGone, ..) => {
            (false, "keep a gateway running: one that has the issuer's keys goes on with them; a key for urgent consumers needs no issuer")
        }
        (_, true, _) => (true, "see the statuses: every backend works"),
        (_, _, true) => (
            true,
            "let the request go on to the next member: check `retry.max_attempts`, `retry.statuses`, `timeouts.total`, the consumers' `locations`",
        ),
        (_, _, false) => {
            (false, "add a member in another resource, and for a location in another location; or a last resort (`kind = \"mock\"`)")
        }
    }
}

/// `503 20 times, 200 4 times`
fn seen(sums: &PoolSums) -> String {
    let one = |status: u16, requests: u64| match status {
        0 => format!("no answer {requests} times"),
        status => format!("{status} {requests} times"),
    };
    sums.statuses.iter().map(|count| one(count.status, count.requests)).collect::<Vec<_>>().join(", ")
}
