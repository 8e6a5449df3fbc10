//! Attempts at the members of pools, and the members' states.

use prometheus::{CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};
use spillway_plugins::prices::Cost;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, Provenance};

use super::registration::{Registration, SECONDS, sum};
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::member_state::MemberState;
use crate::balance::route::Member;
use crate::balance::snapshot::member_state;
use crate::clock::Tick;

/// The statuses after which Azure spills over; the last stands for all others.
const SPILLOVERS: [Option<(u16, &str)>; 5] = [Some((429, "429")), Some((500, "500")), Some((503, "503")), Some((400, "400")), None];

/// What became of attempts, and how members are.
#[derive(Debug)]
pub struct MemberFamilies {
    attempts: IntCounterVec,
    tier_served: IntCounterVec,
    target_state: IntGaugeVec,
    target_in_flight: IntGaugeVec,
    throttled_seconds: CounterVec,
    failovers: IntCounterVec,
    spillovers: IntCounterVec,
    first_token: HistogramVec,
    tokens: [IntCounterVec; 5],
    service_tier: IntCounterVec,
    estimated_tokens: IntCounterVec,
    usage_unknown: IntCounterVec,
    cost: CounterVec,
    cost_unknown: IntCounterVec,
    /// Pooled connections that were already closed, replaced without counting as an attempt.
    pub stale_connections: IntCounter,
    /// Times that a backend's address sent an answer that no request had asked for.
    pub stray_answers: IntCounter,
}

/// The outcomes of attempts at a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberTotals {
    /// Served.
    pub served: u64,
    /// Throttled.
    pub throttled: u64,
    /// Failed.
    pub failed: u64,
}

impl MemberFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let member: &[&str] = &["pool", "backend", "deployment"];
        let with = |label| [member, &[label]].concat();
        Ok(MemberFamilies {
            attempts: to.counters("spillway_attempts_total", "Attempts at targets, by outcome.", &with("outcome"))?,
            tier_served: to.counters(
                "spillway_tier_served_total",
                "Requests served, by the tier that served them.",
                &["pool", "priority"],
            )?,
            target_state: to.gauges("spillway_target_state", "1 for the state that a target is in.", &with("state"))?,
            target_in_flight: to.gauges("spillway_target_in_flight", "Requests in flight at a target.", member)?,
            throttled_seconds: to.fractions(
                "spillway_target_throttled_seconds_total",
                "Seconds for which a target was throttled by its own answers.",
                member,
            )?,
            failovers: to.counters(
                "spillway_failovers_total",
                "Requests that left a target for another one before the caller noticed.",
                member,
            )?,
            spillovers: to.counters(
                "spillway_upstream_spillovers_total",
                "Answers that another deployment of the backend gave, by the status with which the one that was asked refused.",
                &with("status"),
            )?,
            first_token: to.histograms(
                "spillway_time_to_first_token_seconds",
                "Time from an attempt's start to its first output.",
                &SECONDS,
                member,
            )?,
            tokens: [
                to.counters("spillway_input_tokens_total", "Input tokens that answers reported, cached ones included.", member)?,
                to.counters("spillway_output_tokens_total", "Output tokens that answers reported, reasoning included.", member)?,
                to.counters("spillway_cached_input_tokens_total", "Of the input tokens: read from the provider's cache.", member)?,
                to.counters("spillway_cache_write_tokens_total", "Of the input tokens: written to the provider's cache.", member)?,
                to.counters("spillway_reasoning_tokens_total", "Of the output tokens: reasoning.", member)?,
            ],
            service_tier: to.counters(
                "spillway_service_tier_total",
                "Answers that name a service tier, by the tier that served them.",
                &with("service_tier"),
            )?,
            estimated_tokens: to.counters(
                "spillway_estimated_tokens_total",
                "Tokens of answers that reported none, estimated: callers that left, streams that broke.",
                member,
            )?,
            usage_unknown: to.counters("spillway_usage_unknown_total", "Attempts with unknown usage.", member)?,
            cost: to.fractions("spillway_cost_usd_total", "Cost of attempts that are paid by use, in US dollars.", member)?,
            cost_unknown: to.counters("spillway_cost_unknown_total", "Attempts with unknown cost.", member)?,
            stray_answers: to.counter(
                "spillway_stray_answers_total",
                "Times that a backend's address sent an answer that no request had asked for; its connections are then not used again for ten minutes.",
            )?,
            stale_connections: to
                .counter("spillway_stale_connections_total", "Pooled connections that were already closed and were replaced.")?,
        })
    }

    /// The counters of a member.
    pub fn of(&self, pool: &str, backend: &str, deployment: &str, priority: u32) -> MemberMetrics {
        let labels = [pool, backend, deployment];
        MemberMetrics {
            by_outcome: AttemptOutcome::ALL.map(|outcome| self.attempts.with_label_values(&[pool, backend, deployment, outcome.label()])),
            served: self.tier_served.with_label_values(&[pool, &priority.to_string()]),
            first_token: self.first_token.with_label_values(&labels),
            throttled_seconds: self.throttled_seconds.with_label_values(&labels),
            failovers: self.failovers.with_label_values(&labels),
            spillovers: SPILLOVERS
                .map(|status| self.spillovers.with_label_values(&[pool, backend, deployment, status.map_or("other", |(_, text)| text)])),
            tokens: std::array::from_fn(|kind| self.tokens[kind].with_label_values(&labels)),
            service_tier: ServiceTier::ALL.map(|tier| self.service_tier.with_label_values(&[pool, backend, deployment, tier.label()])),
            estimated_tokens: self.estimated_tokens.with_label_values(&labels),
            usage_unknown: self.usage_unknown.with_label_values(&labels),
            cost: self.cost.with_label_values(&labels),
            cost_unknown: self.cost_unknown.with_label_values(&labels),
        }
    }

    /// The outcomes of attempts at a member.
    pub fn totals_of(&self, pool: &str, backend: &str, deployment: &str) -> MemberTotals {
        let of = |outcome: AttemptOutcome| self.attempts.with_label_values(&[pool, backend, deployment, outcome.label()]).get();
        let failures = AttemptOutcome::ALL.into_iter().filter(|outcome| outcome.is_failure());
        MemberTotals { served: of(AttemptOutcome::Ok), throttled: of(AttemptOutcome::Throttled), failed: failures.map(of).sum() }
    }

    /// Moves to another target.
    pub(super) fn failovers(&self) -> u64 {
        sum(&self.failovers, |_, _| true)
    }

    /// Reads the current states of `members`, each with its pool's name. Members that a reload has removed disappear.
    pub(super) fn read<'r>(&self, members: impl Iterator<Item = (&'r str, &'r Member)>, now: Tick) {
        self.target_state.reset();
        self.target_in_flight.reset();
        for (pool, member) in members {
            let id = &member.target.id;
            let current = member_state(member, now).0;
            for state in MemberState::ALL {
                self.target_state.with_label_values(&[pool, &*id.backend, &*id.deployment, state.label()]).set(i64::from(state == current));
            }
            let in_flight = i64::from(member.target.in_flight());
            self.target_in_flight.with_label_values(&[pool, &*id.backend, &*id.deployment]).set(in_flight);
        }
    }
}

/// A member's counters, looked up once.
#[derive(Debug, Clone)]
pub struct MemberMetrics {
    by_outcome: [IntCounter; AttemptOutcome::ALL.len()],
    /// Requests that its tier served.
    pub served: IntCounter,
    /// Time to the first output.
    pub first_token: Histogram,
    /// Seconds for which it was throttled.
    pub throttled_seconds: prometheus::Counter,
    /// Requests that left it for another member.
    pub failovers: IntCounter,
    spillovers: [IntCounter; SPILLOVERS.len()],
    tokens: [IntCounter; 5],
    service_tier: [IntCounter; ServiceTier::ALL.len()],
    estimated_tokens: IntCounter,
    usage_unknown: IntCounter,
    cost: prometheus::Counter,
    cost_unknown: IntCounter,
}

impl MemberMetrics {
    /// Counts the usage and cost of an attempt, and the service tier that its answer names.
    pub fn count_usage(&self, metered: &Metered, tier: Option<ServiceTier>, cost: Cost) {
        if let Some(tier) = tier {
            self.service_tier[tier.index()].inc();
        }
        let usage = &metered.usage;
        match metered.source {
            Provenance::Reported => {
                let counts = [usage.input, usage.output, usage.cached_input, usage.cache_write, usage.reasoning];
                self.tokens.iter().zip(counts).filter(|(_, count)| *count > 0).for_each(|(counter, count)| counter.inc_by(count));
            }
            Provenance::Estimated => self.estimated_tokens.inc_by(usage.tokens()),
            Provenance::Unknown => self.usage_unknown.inc(),
        }
        match cost {
            Cost::Known(money) => self.cost.inc_by(money.usd()),
            Cost::Hourly(_) => {}
            Cost::Unknown => self.cost_unknown.inc(),
        }
    }

    /// Counts an answer that another deployment of its backend gave after this one refused with a status.
    pub fn count_spillover(&self, refused_with: Option<u16>) {
        let known = |(status, _): (u16, &str)| Some(status) == refused_with;
        let at = SPILLOVERS.iter().position(|status| status.is_none_or(known)).unwrap_or_default();
        self.spillovers[at].inc();
    }

    /// Counts an attempt.
    pub fn count(&self, outcome: AttemptOutcome) {
        self.by_outcome[outcome.index()].inc();
    }
}
