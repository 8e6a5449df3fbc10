//! Which of our alerts (`deploy/prometheus/spillway.alerts.yml`) a fault would set off, if it lasted and requests came as in
//! the rehearsal. A test holds this table against that file.

use std::time::Duration;

use super::figures::Figures;
use crate::rehearse::outcome::{Alert, RequestOutcome};

/// What alerts look at.
pub(in crate::rehearse) struct Evidence<'e> {
    /// The requests.
    pub(in crate::rehearse) requests: &'e [RequestOutcome],
    /// The gateway's metrics at the end.
    pub(in crate::rehearse) figures: &'e Figures,
    /// How long the rehearsal took, in its own time.
    pub(in crate::rehearse) span: Duration,
}

/// One alert: its name, its severity, its `for` in seconds, and when its condition holds: after so many seconds, or never.
struct Rule {
    name: &'static str,
    severity: &'static str,
    lasts: f64,
    holds: fn(&Evidence<'_>) -> Option<f64>,
}

const PAGE: &str = "page";
const TICKET: &str = "ticket";

#[rustfmt::skip]
const RULES: [Rule; 17] = [
    Rule { name: "SpillwayErrorBudgetBurnFast", severity: PAGE, lasts: 120.0, holds: |e| burns(e, 14.4 * 0.001, 3600.0, 10.0) },
    Rule { name: "SpillwayErrorBudgetBurn", severity: PAGE, lasts: 900.0, holds: |e| burns(e, 6.0 * 0.001, 6.0 * 3600.0, 10.0) },
    Rule { name: "SpillwayErrorBudgetBurnSlow", severity: TICKET, lasts: 3600.0, holds: |e| burns(e, 3.0 * 0.001, 86_400.0, 0.0) },
    Rule { name: "SpillwayErrorBudgetBurnCreeping", severity: TICKET, lasts: 10_800.0, holds: |e| burns(e, 0.001, 3.0 * 86_400.0, 0.0) },
    Rule { name: "SpillwayPoolOut", severity: PAGE, lasts: 120.0, holds: |e| now(is_pool_out(e)) },
    Rule { name: "SpillwayVisible429s", severity: TICKET, lasts: 600.0, holds: |e| window(full_429s(e), 0.001, 300.0) },
    Rule { name: "SpillwayManyVisible429s", severity: PAGE, lasts: 300.0, holds: |e| window(full_429s(e), 0.05, 300.0) },
    Rule { name: "SpillwayLastResort", severity: PAGE, lasts: 120.0, holds: |e| now(e.figures.sum("spillway_last_resort_total", &[]) > 0.0) },
    Rule { name: "SpillwaySpillHigh", severity: TICKET, lasts: 1800.0, holds: |e| spills(e, 0.5) },
    Rule { name: "SpillwayFirstTierUnderused", severity: TICKET, lasts: 1800.0, holds: |e| spills(e, 0.2).filter(|_| throttled(e) < 0.05) },
    Rule { name: "SpillwayTargetNeedsHands", severity: TICKET, lasts: 300.0, holds: |e| now(needs_hands(e)) },
    Rule { name: "SpillwayTokenUnusable", severity: PAGE, lasts: 120.0, holds: |e| now(e.figures.has("spillway_token_usable", &[], 0.0)) },
    Rule { name: "SpillwayLedgerDown", severity: PAGE, lasts: 60.0, holds: |e| now(is_ledger_down(e)) },
    Rule { name: "SpillwayLedgerRowsDropped", severity: TICKET, lasts: 0.0, holds: |e| now(e.figures.sum("spillway_ledger_rows_dropped_total", &[]) > 0.0) },
    Rule { name: "SpillwayLedgerFailed", severity: TICKET, lasts: 0.0, holds: |e| now(e.figures.sum("spillway_ledger_failures_total", &[]) > 0.0) },
    Rule { name: "SpillwayPanics", severity: TICKET, lasts: 0.0, holds: |e| now(e.figures.sum("spillway_panics_total", &[]) > 0.0) },
    Rule { name: "SpillwayLimitsUnshared", severity: TICKET, lasts: 120.0, holds: |e| now(is_unshared(e)) },
];

/// Alerts about what is not rehearsed: certificates of listeners, the machine, other nodes, Prometheus itself.
#[cfg(test)]
const NOT_REHEARSED: [&str; 34] = [
    "SpillwayTokenExpiring",
    "SpillwayCertificateExpires",
    "SpillwayCertificateExpiresSoon",
    "SpillwayCertificateRefused",
    "SpillwayReloadRejected",
    "SpillwayUpgradeFailed",
    "SpillwayVersionsDiffer",
    "SpillwayLedgerLags",
    "SpillwayKeysUnsaved",
    "SpillwayKeysRefused",
    "SpillwayKeysDamaged",
    "SpillwayAuditLost",
    "SpillwayKeysUnshared",
    "SpillwaySignInFails",
    "SpillwayIssuerKeysMissing",
    "SpillwayIssuerKeysOld",
    "SpillwayAdminTokenTried",
    "SpillwayLedgerRefusalsDropped",
    "SpillwayShipFails",
    "SpillwayShipConflict",
    "SpillwayStateDiskLow",
    "SpillwayStateDiskFull",
    "SpillwayStateDiskFills",
    "SpillwayGuardUnchecked",
    "SpillwayEmbeddingsFail",
    "SpillwayPromptLogDropped",
    "SpillwayAccessLogDropped",
    "SpillwaySpansDropped",
    "SpillwayDown",
    "SpillwayAbsent",
    "SpillwayRestarts",
    "SpillwayDescriptorsLow",
    "SpillwayMemoryLow",
    "SpillwayConnectionsRefused",
];

/// The alerts that would fire, the first one first.
pub(in crate::rehearse) fn alerts(evidence: &Evidence<'_>) -> Vec<Alert> {
    let fires = |rule: &Rule| {
        let after = (rule.holds)(evidence)? + rule.lasts;
        Some(Alert { name: rule.name, severity: rule.severity, after: Duration::from_secs_f64(after.round()) })
    };
    let mut all: Vec<Alert> = RULES.iter().filter_map(fires).collect();
    all.sort_by_key(|alert| alert.after);
    all
}

/// A condition that holds from the beginning.
fn now(holds: bool) -> Option<f64> {
    holds.then_some(0.0)
}

/// When a share exceeds `most` in a window of so many seconds that had none of it before.
fn window(share: f64, most: f64, seconds: f64) -> Option<f64> {
    (share > most).then(|| seconds * most / share)
}

/// A pool's share of 5xx, for the pool that has the most of them.
fn burns(e: &Evidence<'_>, most: f64, seconds: f64, at_least: f64) -> Option<f64> {
    let pools: Vec<&str> = pools(e).collect();
    let worst = pools.into_iter().map(|pool| {
        let of_pool = e.requests.iter().filter(|request| request.pool == pool);
        let (all, failed) =
            of_pool.fold((0.0, 0.0), |(all, failed), request| (all + 1.0, failed + f64::from(u8::from(request.status >= 500))));
        (failed / f64::max(all, 1.0), failed)
    });
    let (share, failed) = worst.max_by(|one, other| one.0.total_cmp(&other.0))?;
    let in_window = failed * seconds / e.span.as_secs_f64().max(1.0);
    window(share, most, seconds).filter(|_| in_window >= at_least)
}

fn pools<'e>(e: &'e Evidence<'_>) -> impl Iterator<Item = &'e str> {
    let mut seen = std::collections::BTreeSet::new();
    e.requests.iter().map(|request| request.pool.as_str()).filter(move |pool| seen.insert(*pool))
}

fn is_pool_out(e: &Evidence<'_>) -> bool {
    pools(e).any(|pool| {
        let of_pool = ["ready", "busy"].map(|state| e.figures.sum("spillway_target_state", &[("pool", pool), ("state", state)]));
        of_pool.iter().sum::<f64>() < 1.0
    })
}

/// The share of requests that ended with 429 for want of capacity.
fn full_429s(e: &Evidence<'_>) -> f64 {
    let limits = ["requests_per_minute", "tokens_per_minute", "concurrent_requests"];
    let by_limits: f64 = limits.iter().map(|limit| e.figures.sum("spillway_limit_refusals_total", &[("limit", limit)])).sum();
    let all = e.figures.sum("spillway_rejections_total", &[("code", "rate_limit_exceeded")]);
    (all - by_limits).max(0.0) / (e.requests.len().max(1) as f64)
}

/// A pool's share of requests that tiers below the first served.
fn spills(e: &Evidence<'_>, most: f64) -> Option<f64> {
    let share = pools(e).map(|pool| {
        let all = e.figures.sum("spillway_tier_served_total", &[("pool", pool)]);
        let first = e.figures.sum("spillway_tier_served_total", &[("pool", pool), ("priority", "1")]);
        // The alert wants one request in ten seconds.
        let rate = all / e.span.as_secs_f64().max(1.0);
        if rate > 0.1 { (all - first) / all.max(1.0) } else { 0.0 }
    });
    window(share.fold(0.0, f64::max), most, 1800.0)
}

/// Targets that were throttled at a time, on average.
fn throttled(e: &Evidence<'_>) -> f64 {
    e.figures.sum("spillway_target_throttled_seconds_total", &[]) / e.span.as_secs_f64().max(1.0)
}

fn needs_hands(e: &Evidence<'_>) -> bool {
    ["misconfigured", "out-of-quota", "unresolved"].iter().any(|state| e.figures.has("spillway_target_state", &[("state", state)], 1.0))
}

fn is_ledger_down(e: &Evidence<'_>) -> bool {
    e.figures.has("spillway_ledger_up", &[], 0.0) && e.figures.sum("spillway_state_size_bytes", &[]) > 0.0
}

fn is_unshared(e: &Evidence<'_>) -> bool {
    e.figures.has("spillway_limits_shared", &[], 0.0) && e.figures.sum("spillway_redis_failures_total", &[]) > 0.0
}

#[cfg(test)]
mod tests;
