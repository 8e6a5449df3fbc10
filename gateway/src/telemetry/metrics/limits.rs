//! Limits, and what nodes share through Redis.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use spillway_plugins::limits::{Alert, Calendar, LimitId, Rank};

use super::registration::Registration;

/// What limits did.
#[derive(Debug)]
pub struct LimitFamilies {
    refusals: IntCounterVec,
    shadowed: IntCounterVec,
    alerts: IntCounterVec,
    /// Whether limits are shared with other nodes.
    pub shared: IntGauge,
    /// Calls to Redis that failed.
    pub redis_failures: IntCounter,
    /// Stored objects that other nodes don't know.
    pub objects_unshared: IntCounter,
}

impl LimitFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(LimitFamilies {
            refusals: to.counters("spillway_limit_refusals_total", "Requests refused by a limit.", &["scope", "limit", "window"])?,
            shadowed: to.counters(
                "spillway_limit_shadowed_total",
                "Requests that a limit in shadow mode would have refused.",
                &["scope", "limit", "window"],
            )?,
            alerts: to.counters(
                "spillway_limit_alerts_total",
                "Times that a quota or budget reached 80 or 100 percent.",
                &["scope", "limit", "window", "percent"],
            )?,
            shared: to.gauge("spillway_limits_shared", "Whether limits are shared with the other nodes; 0 without Redis.")?,
            redis_failures: to
                .counter("spillway_redis_failures_total", "Calls to Redis that failed, or took longer than a request waits.")?,
            objects_unshared: to.counter("spillway_stored_objects_unshared_total", "Stored objects that other nodes don't know.")?,
        })
    }

    /// Counts a request that a limit refused.
    pub fn refused(&self, rank: Rank, id: LimitId) {
        self.refusals.with_label_values(&[rank_label(rank), id.kind.label(), window(id.calendar)]).inc();
    }

    /// Counts a request that a limit in shadow mode would have refused.
    pub fn shadowed(&self, rank: Rank, id: LimitId) {
        self.shadowed.with_label_values(&[rank_label(rank), id.kind.label(), window(id.calendar)]).inc();
    }

    /// Counts a quota or budget that is almost used up.
    pub fn alert(&self, rank: Rank, alert: Alert) {
        self.alerts.with_label_values(&[rank_label(rank), alert.kind.label(), window(alert.calendar), &alert.percent.to_string()]).inc();
    }
}

/// The length of the periods; empty if a limit doesn't count by the calendar.
fn window(calendar: Option<Calendar>) -> &'static str {
    calendar.map_or("", |calendar| calendar.period.name())
}

/// The kind of a limit's owner, as a label.
fn rank_label(rank: Rank) -> &'static str {
    match rank {
        Rank::Consumer => "consumer",
        Rank::ConsumerModel => "consumer_model",
        Rank::Group => "group",
        Rank::Pool => "pool",
    }
}
