//! Restarts and upgrades that cut answers off.

use std::time::Duration;

use super::view::{View, span};
use crate::rehearse::finding::{Finding, Severity};

/// `TimeoutStopSec` of the unit in deploy/systemd.
const UNIT: Duration = Duration::from_secs(330);
/// A drain that is so many times shorter than a request may take cuts answers as a rule.
const FAR: u32 = 4;

/// `drain_timeout` against the longest request.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let server = &view.config.server;
    let drain = server.drain_timeout;
    let mut found = Vec::new();
    let longest = view.config.pools.iter().max_by_key(|pool| pool.timeouts.total);
    if let Some(pool) = longest.filter(|pool| drain < pool.timeouts.total) {
        let is_written = view.lines.has("server.drain_timeout");
        let severity = if is_written && drain.saturating_mul(FAR) <= pool.timeouts.total { Severity::Warning } else { Severity::Note };
        let text = format!(
            "A restart or an upgrade cuts off answers that take longer than 'drain_timeout' ({}), and requests of pool '{}' may take {}.",
            span(drain),
            pool.name,
            span(pool.timeouts.total)
        );
        let remedy = "Make 'drain_timeout' as long as the longest 'timeouts.total', and TimeoutStopSec of the unit longer than both \
                      'lb_delay' and it.";
        found.push(view.finding("stop-cuts-answers", severity, "server.drain_timeout", text, remedy));
    }
    let whole = drain.saturating_add(server.lb_delay);
    if whole > UNIT {
        let text = format!(
            "A stop takes up to {} ('lb_delay' and 'drain_timeout'), and the packaged unit kills the process after {}.",
            span(whole),
            span(UNIT)
        );
        let remedy = "Set TimeoutStopSec (or terminationGracePeriodSeconds) to more than that.";
        found.push(view.finding("stop-longer-than-unit", Severity::Note, "server.drain_timeout", text, remedy));
    }
    found
}
