//! `[[pools]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_plugins::limits::Class;
use spillway_plugins::retry::StatusSet;
use spillway_plugins::service_tier::ServiceTier;

use super::{limits, steering};
use crate::balance::budget::BudgetRules;
use crate::balance::circuit::{CircuitRules, ErrorKind, Threshold};
use crate::balance::member::Serves;
use crate::config::checker::Checker;
use crate::config::error::did_you_mean;
use crate::config::raw::{
    RawBackend, RawCircuit, RawCircuitError, RawHealth, RawMember, RawPool, RawRescue, RawRetry, RawStreams, RawTimeouts,
};
use crate::config::scalar::StatusText;
use crate::config::{HealthRules, MemberConfig, PoolConfig, RetryRules, Timeouts, transform};
use crate::provider::RawKind;

pub(super) fn read(raw: &[RawPool], backends: &[RawBackend], check: &mut Checker<'_>) -> Vec<PoolConfig> {
    if raw.is_empty() && check.problems.is_empty() {
        check.problem("pools", "at least one [[pools]] is needed: it says which backends serve which models");
    }
    check.names("pools", raw.iter().map(|pool| pool.name.as_str()));
    let mut models: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, pool) in raw.iter().enumerate() {
        if pool.models.is_empty() {
            check.problem(&format!("pools[{index}].models"), "a pool without models takes no requests");
        }
        for (at, model) in pool.models.iter().enumerate() {
            let key = format!("pools[{index}].models[{at}]");
            if model.is_empty() || model.chars().any(char::is_control) {
                check.problem(&key, "a model needs a name");
            }
            if let Some(other) = models.insert(model, &pool.name) {
                check.problem(&key, format!("'{model}' is served by pool '{other}' already; a model belongs to one pool"));
            }
        }
    }
    for (index, backend) in backends.iter().enumerate() {
        if !raw.iter().any(|pool| pool.members.iter().any(|member| member.backend == backend.name)) {
            check.warn(&format!("backends[{index}].name"), format!("'{}' is a member of no pool and takes no traffic", backend.name));
        }
        for model in backend.deployments.keys().filter(|model| !models.contains_key(model.as_str())) {
            let known = did_you_mean(model, models.keys().copied());
            check.problem(&format!("backends[{index}].deployments.{model}"), format!("model '{model}' is in no pool{known}"));
        }
    }
    raw.iter().enumerate().map(|(index, pool)| one(pool, backends, &format!("pools[{index}]"), check)).collect()
}

fn one(raw: &RawPool, backends: &[RawBackend], key: &str, check: &mut Checker<'_>) -> PoolConfig {
    let timeouts = timeouts(raw.timeouts.as_ref(), key, check);
    let retry = retry(raw.retry.as_ref(), key, check);
    if raw.retry.as_ref().is_some_and(|retry| retry.wait.is_some()) && retry.wait > timeouts.total {
        check.problem(&format!("{key}.retry.wait"), "is longer than timeouts.total: no request can ever wait that long");
    }
    let members = members(raw, backends, key, check);
    PoolConfig {
        name: raw.name.as_str().into(),
        models: raw.models.clone(),
        policy: raw.policy.unwrap_or_default(),
        steering: steering::pool(raw, &members, backends, key, check),
        members,
        circuit: circuit(raw.circuit.as_ref(), key, check),
        retry,
        timeouts,
        rescue: rescue(raw.streams.as_ref(), key, check),
        roles: raw.roles.clone().unwrap_or_default(),
        scopes: raw.scopes.clone().unwrap_or_default(),
        limits: limits::pool(raw.limits.as_ref(), &format!("{key}.limits"), check),
        health: raw.health.as_ref().map(|health| self::health(health, key, check)),
        transform: transform::read(raw.transform.as_ref(), &format!("{key}.transform"), check),
    }
}

fn members(raw: &RawPool, backends: &[RawBackend], key: &str, check: &mut Checker<'_>) -> Vec<MemberConfig> {
    let mut members: Vec<MemberConfig> = Vec::new();
    for (at, member) in raw.members.iter().enumerate() {
        let at = format!("{key}.members[{at}].backend");
        let Some(backend) = backends.iter().position(|backend| backend.name == member.backend) else {
            check.unknown(&at, "backend", &member.backend, backends.iter().map(|backend| backend.name.as_str()));
            continue;
        };
        let service_tier = member.service_tier.map(ServiceTier::from);
        if members.iter().any(|other| other.backend == backend && other.service_tier == service_tier) {
            let again = "it can be one again only with another 'service_tier'";
            check.problem(&at, format!("'{}' is a member of this pool already; {again}", member.backend));
        }
        let kind = backends[backend].kind;
        if service_tier.is_some() && !matches!(kind, RawKind::AzureOpenai | RawKind::Openai) {
            check.problem(&at.replace(".backend", ".service_tier"), "has an effect only at backends of kind azure-openai or openai");
        }
        if member.context == Some(0) {
            check.problem(&at.replace(".backend", ".context"), "must be at least 1");
        }
        members.push(MemberConfig {
            backend,
            priority: member.priority.unwrap_or(1),
            weight: member.weight.unwrap_or(1),
            context: member.context,
            service_tier,
            serves: serves(member, &at, check),
        });
    }
    let takes = |member: &&MemberConfig| member.weight > 0 && backends[member.backend].kind != RawKind::Mock;
    for class in Class::ALL {
        let always = |member: &MemberConfig| member.serves.accepts(class, false) && member.service_tier != Some(ServiceTier::Flex);
        if members.iter().any(|member| takes(&member)) && !members.iter().filter(takes).any(always) {
            let what = format!(
                "no member always serves requests of class '{}': add one without 'late_only' that is not of the tier 'flex'",
                class.label()
            );
            check.warn(&format!("{key}.members"), what);
        }
    }
    let mocks = members.iter().filter(|member| backends[member.backend].kind == RawKind::Mock).count();
    if mocks > 1 {
        check.problem(&format!("{key}.members"), "a pool has at most one last resort (kind = \"mock\")");
    }
    if raw.members.is_empty() {
        check.problem(&format!("{key}.members"), "a pool needs at least one member");
    } else if !members.is_empty()
        && members.iter().all(|member| member.weight == 0 || backends[member.backend].kind == RawKind::Mock)
        && mocks < members.len()
    {
        check.problem(&format!("{key}.members"), "every real member has weight 0, so none of them takes traffic");
    }
    members
}

fn serves(member: &RawMember, at: &str, check: &mut Checker<'_>) -> Serves {
    let mut serves = Serves { late_only: member.late_only.unwrap_or(false), ..Serves::default() };
    if let Some(classes) = &member.classes {
        serves.classes = Class::ALL.map(|class| classes.iter().any(|given| limits::class(Some(*given)) == class));
        if classes.is_empty() {
            check.problem(&at.replace(".backend", ".classes"), "a member for no class takes no requests; leave it out instead");
        }
    }
    serves
}

fn statuses(given: Option<&Vec<StatusText>>, default: StatusSet) -> StatusSet {
    given.map_or(default, |list| StatusSet::new(list.iter().map(|status| status.0)))
}

fn circuit(raw: Option<&RawCircuit>, key: &str, check: &mut Checker<'_>) -> CircuitRules {
    let key = format!("{key}.circuit");
    let default = CircuitRules::default();
    let none = RawCircuit::default();
    let raw = raw.unwrap_or(&none);
    if raw.failures.is_some() && raw.failure_percent.is_some() {
        check.problem(&format!("{key}.failure_percent"), "give either 'failures' or 'failure_percent'");
    }
    if raw.min_calls.is_some() && raw.failure_percent.is_none() {
        check.problem(&format!("{key}.min_calls"), "has an effect only with 'failure_percent'");
    }
    for (given, name) in [(raw.failures, "failures"), (raw.min_calls, "min_calls")] {
        if given.is_some_and(|count| count == 0 || count > 10_000) {
            check.problem(&format!("{key}.{name}"), "must be from 1 to 10000");
        }
    }
    if raw.failure_percent.is_some_and(|percent| percent == 0 || percent > 100) {
        check.problem(&format!("{key}.failure_percent"), "must be from 1 to 100");
    }
    let errors = raw.errors.as_ref().map_or(default.errors, |errors| errors.iter().map(|error| error_kind(*error)).collect());
    if let (Some(default), Some(max)) = (raw.default_retry_after, raw.max_retry_after)
        && default.0 > max.0
    {
        check.problem(&format!("{key}.default_retry_after"), "is longer than 'max_retry_after'");
    }
    let trip = check.span(raw.trip, 30, &format!("{key}.trip"));
    let first_trip = check.span(raw.first_trip, 5, &format!("{key}.first_trip"));
    if raw.first_trip.is_some() && first_trip > trip {
        check.problem(&format!("{key}.first_trip"), "is longer than 'trip'");
    }
    CircuitRules {
        threshold: match raw.failure_percent {
            Some(percent) => Threshold::Percent { percent, min_calls: raw.min_calls.unwrap_or(10) },
            None => raw.failures.map_or(default.threshold, Threshold::Failures),
        },
        interval: check.span(raw.interval, 60, &format!("{key}.interval")),
        statuses: statuses(raw.statuses.as_ref(), default.statuses),
        errors,
        first_trip: first_trip.min(trip),
        trip,
        honour_retry_after: raw.honour_retry_after.unwrap_or(true),
        max_retry_after: check.span(raw.max_retry_after, 120, &format!("{key}.max_retry_after")),
        default_retry_after: check.span(raw.default_retry_after, 10, &format!("{key}.default_retry_after")),
    }
}

fn error_kind(raw: RawCircuitError) -> ErrorKind {
    match raw {
        RawCircuitError::Connect => ErrorKind::Connect,
        RawCircuitError::Tls => ErrorKind::Tls,
        RawCircuitError::Timeout => ErrorKind::Timeout,
        RawCircuitError::Reset => ErrorKind::Reset,
        RawCircuitError::FirstToken => ErrorKind::FirstToken,
        RawCircuitError::Idle => ErrorKind::Idle,
    }
}

fn retry(raw: Option<&RawRetry>, key: &str, check: &mut Checker<'_>) -> RetryRules {
    let key = format!("{key}.retry");
    let none = RawRetry::default();
    let raw = raw.unwrap_or(&none);
    if raw.max_attempts.is_some_and(|count| count == 0 || count > 100) {
        check.problem(&format!("{key}.max_attempts"), "must be from 1 to 100");
    }
    if raw.same_target.is_some_and(|count| count > 10) {
        check.problem(&format!("{key}.same_target"), "must be from 0 to 10");
    }
    let default = BudgetRules::default();
    let budget = raw.budget.as_ref().map_or(default, |budget| {
        if budget.percent.is_some_and(|percent| percent > 100) {
            check.problem(&format!("{key}.budget.percent"), "must be from 0 to 100");
        }
        BudgetRules {
            share: budget.percent.map_or(default.share, |percent| f64::from(percent) / 100.0),
            floor_per_second: budget.floor_per_second.unwrap_or(default.floor_per_second),
        }
    });
    RetryRules {
        max_attempts: raw.max_attempts.unwrap_or(4),
        statuses: statuses(raw.statuses.as_ref(), StatusSet::retry_default()),
        same_target: raw.same_target.unwrap_or(0),
        wait: raw.wait.map_or(Duration::from_secs(1), |wait| wait.0),
        queue: raw.queue.unwrap_or(100),
        budget,
    }
}

fn timeouts(raw: Option<&RawTimeouts>, key: &str, check: &mut Checker<'_>) -> Timeouts {
    let key = format!("{key}.timeouts");
    let none = RawTimeouts::default();
    let raw = raw.unwrap_or(&none);
    let timeouts = Timeouts {
        connect: check.span(raw.connect, 3, &format!("{key}.connect")),
        first_token: check.span(raw.first_token, 30, &format!("{key}.first_token")),
        answer: check.span(raw.answer, 120, &format!("{key}.answer")),
        thinking: check.span(raw.thinking, 600, &format!("{key}.thinking")),
        idle: check.span(raw.idle, 60, &format!("{key}.idle")),
        total: check.span(raw.total, 600, &format!("{key}.total")),
    };
    for (given, name, value) in [
        (raw.connect, "connect", timeouts.connect),
        (raw.first_token, "first_token", timeouts.first_token),
        (raw.answer, "answer", timeouts.answer),
        (raw.thinking, "thinking", timeouts.thinking),
        (raw.idle, "idle", timeouts.idle),
    ] {
        if given.is_some() && value > timeouts.total {
            check.problem(&format!("{key}.{name}"), "is longer than 'total': it can never apply");
        }
    }
    timeouts
}

fn rescue(raw: Option<&RawStreams>, key: &str, check: &mut Checker<'_>) -> Option<usize> {
    let raw = raw?;
    let most = check.size(raw.rescue_max, 64 << 10, &format!("{key}.streams.rescue_max"));
    if raw.rescue != Some(RawRescue::Verified) && raw.rescue_max.is_some() {
        check.problem(&format!("{key}.streams.rescue_max"), "has an effect only with rescue = \"verified\"");
    }
    (raw.rescue == Some(RawRescue::Verified)).then_some(most)
}

fn health(raw: &RawHealth, key: &str, check: &mut Checker<'_>) -> HealthRules {
    let key = format!("{key}.health");
    if !raw.path.starts_with('/') || raw.path.chars().any(|c| c.is_control() || c == ' ') {
        check.problem(&format!("{key}.path"), format!("'{}' is not a path; a path starts with '/'", raw.path));
    }
    for (given, name) in [(raw.unhealthy_after, "unhealthy_after"), (raw.healthy_after, "healthy_after")] {
        if given == Some(0) {
            check.problem(&format!("{key}.{name}"), "must be at least 1");
        }
    }
    let any_answer = "200-499".parse().map_or_else(|_| StatusSet::failure_default(), |range| StatusSet::new([range]));
    HealthRules {
        path: raw.path.clone(),
        interval: check.span(raw.interval, 10, &format!("{key}.interval")),
        timeout: check.span(raw.timeout, 3, &format!("{key}.timeout")),
        statuses: statuses(raw.statuses.as_ref(), any_answer),
        unhealthy_after: raw.unhealthy_after.unwrap_or(2).max(1),
        healthy_after: raw.healthy_after.unwrap_or(1).max(1),
    }
}
