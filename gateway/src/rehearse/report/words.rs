//! Words that text and page share.

use std::time::Duration;

use crate::rehearse::outcome::{FaultOutcome, PoolSums, Served};

/// `1.2 s`, `3 min`; nothing for less than a millisecond.
pub(super) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 0.001 => "0".to_owned(),
        seconds if seconds < 9.95 => format!("{seconds:.1} s"),
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3600.0),
    }
}

/// Who served, in a few words: `tier 2: payg-sweden`.
pub(super) fn served(served: &Served) -> String {
    match served {
        Served::Member { tier, backend, .. } => format!("tier {tier}: {backend}"),
        Served::LastResort => "last resort".to_owned(),
        Served::Gateway { code } => format!("refused: {code}"),
        Served::Nobody => "nobody".to_owned(),
    }
}

/// Who served how many, the most first: a line for each backend, whatever its deployments.
pub(super) fn served_lines(sums: &PoolSums) -> Vec<String> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    for one in &sums.served {
        let name = served(&one.served);
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += one.requests,
            None => counts.push((name, one.requests)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().map(|(name, count)| format!("{name} × {count}")).collect()
}

/// `200 x 22, 503 x 2`
pub(super) fn statuses(sums: &PoolSums) -> String {
    let name = |status: u16| if status == 0 { "no answer".to_owned() } else { status.to_string() };
    sums.statuses.iter().map(|count| format!("{} × {}", name(count.status), count.requests)).collect::<Vec<_>>().join(", ")
}

/// `SpillwayPoolOut (page, after 2 min)`
pub(super) fn alerts(outcome: &FaultOutcome) -> Vec<String> {
    outcome.alerts.iter().map(|alert| format!("{} ({}, after {})", alert.name, alert.severity, time(alert.after))).collect()
}

/// Its cost by use.
pub(super) fn cost(sums: &PoolSums) -> String {
    let unknown = if sums.cost_unknown > 0 { format!(", {} attempts of unknown cost", sums.cost_unknown) } else { String::new() };
    format!("${:.6}{unknown}", sums.cost_usd)
}
