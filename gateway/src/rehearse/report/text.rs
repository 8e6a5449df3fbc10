//! A rehearsal as text.

use std::fmt::Write as _;

use super::words;
use crate::rehearse::finding::Finding;
use crate::rehearse::outcome::{FaultOutcome, PoolSums, Rehearsal};

/// The whole text.
pub fn text(rehearsal: &Rehearsal) -> String {
    let mut text = format!("{}: {} faults rehearsed\n\n", rehearsal.config, rehearsal.faults.len());
    text += &rows(&rehearsal.baseline);
    for outcome in &rehearsal.faults {
        text += &rows(outcome);
    }
    let _ = writeln!(text, "\nDoes not apply:");
    for not in &rehearsal.not_applicable {
        let _ = writeln!(text, "  {:<22}{}", not.kind.label(), not.reason);
    }
    let _ = writeln!(text, "\nFor the rehearsal:");
    for replaced in &rehearsal.replaced {
        let _ = writeln!(text, "  {replaced}");
    }
    text += &findings(rehearsal);
    text
}

fn rows(outcome: &FaultOutcome) -> String {
    let mut text = format!("{} ({})\n", outcome.fault.name(), outcome.fault.kind.says());
    for sums in &outcome.pools {
        text += &row(sums);
    }
    for limit in &outcome.limits {
        let _ = writeln!(text, "  limit    {}: {} of {}, {}", limit.limit, limit.used, limit.allowed, limit.says());
    }
    let alerts = words::alerts(outcome);
    if !alerts.is_empty() {
        let _ = writeln!(text, "  alerts   {}", alerts.join("\n           "));
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "  note     {note}");
    }
    text
}

fn row(sums: &PoolSums) -> String {
    let broken = if sums.broken > 0 { format!(", {} broke off", sums.broken) } else { String::new() };
    format!(
        "  {}: {} of {} good{broken}; {}\n  served   {}\n  attempts {}; added wait {} (median {}); cost {}\n",
        sums.pool,
        sums.good,
        sums.requests,
        words::statuses(sums),
        words::served_lines(sums).join("\n           "),
        sums.attempts,
        words::time(sums.added_most),
        words::time(sums.added_median),
        words::cost(sums)
    )
}

fn findings(rehearsal: &Rehearsal) -> String {
    if rehearsal.findings.is_empty() {
        return "\nNo findings.\n".to_owned();
    }
    let count = rehearsal.findings.len();
    format!("\n{count} finding{}:\n{}", if count == 1 { "" } else { "s" }, listed(&rehearsal.config, &rehearsal.findings))
}

/// Findings about this file, in the format of compilers, each with its remedy in a line of its own.
pub fn listed(file: &str, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let place = finding.place.line.zip(finding.place.column).map_or(String::new(), |(line, column)| format!("{line}:{column}:"));
        let _ = writeln!(text, "{file}:{place} {}: {} [{}]", finding.severity.label(), finding.text, finding.code);
        let _ = writeln!(text, "    {}: {}", finding.place.key, finding.remedy);
    }
    text
}
