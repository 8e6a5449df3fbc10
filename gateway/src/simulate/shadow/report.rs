//! The comparison as text.

use std::fmt::Write as _;
use std::sync::Arc;

use super::compared::{Comparison, DeploymentFigures};
use crate::simulate::outcome::Outcome;
use crate::simulate::replay::Traffic;
use crate::simulate::report::{aligned, count, heading, money};

/// Names of a list that are shown.
const SHOWN: usize = 5;

/// The whole report.
pub fn text(traffic: &Traffic, outcome: &Outcome, comparison: &Comparison) -> String {
    let mut text = heading(traffic, std::slice::from_ref(outcome));
    text += &ends(outcome, comparison);
    text.push('\n');
    text += &differences(outcome, comparison);
    if !comparison.limits.is_empty() {
        let mut rows = vec![row(&["limits that would have refused", "", "requests", "that were answered"])];
        rows.extend(
            comparison
                .limits
                .iter()
                .map(|limit| row(&[&limit.owner, limit.limit, &count(limit.refused), &known(comparison, count(limit.answered))])),
        );
        let _ = write!(text, "\n{}", aligned(&rows));
    }
    text += &deployments(comparison);
    for note in notes(outcome, comparison) {
        let _ = write!(text, "\n{note}\n");
    }
    text + &decisions(comparison)
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn usd(amount: f64, unknown: u64) -> String {
    let amount = format!("${}", money(amount));
    if unknown == 0 { amount } else { format!("{amount} + {} unknown", count(unknown)) }
}

/// A figure of the log, if that says what came of its requests.
fn known(comparison: &Comparison, figure: String) -> String {
    if comparison.log.known == 0 { "-".to_owned() } else { figure }
}

/// How requests ended, by the log and here.
fn ends(outcome: &Outcome, comparison: &Comparison) -> String {
    let (log, total) = (&comparison.log, &outcome.total);
    let served: u64 = total.tiers.iter().map(|tier| tier.requests).sum();
    let limited: u64 = comparison.limits.iter().map(|limit| limit.refused).sum();
    let in_log = |number: u64| known(comparison, count(number));
    let counts = |label: &str, log: u64, here: u64| row(&[label, &in_log(log), &count(here)]);
    let rows = [
        row(&["", "log", &outcome.name]),
        counts("requests", log.known, comparison.requests),
        counts("  answered by a deployment", log.served, served),
        counts("  429, as no deployment could take them", log.status_429, total.refused),
        row(&["  other failures", &in_log(log.failed), "-"]),
        counts("  refused by a limit", log.limited, limited),
        row(&["  not allowed", "-", &count(comparison.not_allowed)]),
        counts("  answered without a deployment", log.unasked, log.unasked),
        row(&["spilled from PTUs, requests", "-", &count(total.spilled_requests)]),
        row(&["spilled from PTUs, tokens", "-", &count(total.spilled_tokens)]),
        row(&["cost by use", &known(comparison, usd(log.cost_usd, log.unpriced)), &usd(total.by_use_usd, total.unpriced)]),
        row(&["cost of PTUs", "-", &total.ptu_usd.map_or_else(|| "-".to_owned(), |amount| usd(amount, 0))]),
    ];
    aligned(&rows)
}

fn differences(outcome: &Outcome, comparison: &Comparison) -> String {
    let against_log = |label: &str, number: u64| row(&[label, &known(comparison, count(number))]);
    let rows = [
        against_log("429s that callers would have been spared", comparison.spared_429s),
        against_log("other failures that they would have been spared", comparison.spared_failures),
        against_log("answered requests that a limit would have refused", comparison.newly_limited),
        against_log("answered requests for which no deployment would have been left", comparison.newly_refused),
        row(&["requests that would have waited", &count(outcome.total.waited)]),
    ];
    aligned(&rows)
}

fn deployments(comparison: &Comparison) -> String {
    let mut rows = vec![row(&["deployment", "requests, log", "here", "tokens, log", "here", "429s, log", "here"])];
    // Each model of a pool may be a deployment of each of its backends: most of them do nothing.
    let is_busy = |of: &&DeploymentFigures| of.log_requests + of.requests + of.log_429s + of.status_429 > 0;
    rows.extend(comparison.deployments.iter().filter(is_busy).map(|of| {
        let pairs = [(of.log_requests, of.requests), (of.log_tokens, of.tokens), (of.log_429s, of.status_429)];
        let counts = pairs.into_iter().flat_map(|(log, here)| [known(comparison, count(log)), count(here)]);
        std::iter::once(of.name.clone()).chain(counts).collect()
    }));
    format!("\n{}", aligned(&rows))
}

fn notes(outcome: &Outcome, comparison: &Comparison) -> Vec<String> {
    let mut notes = outcome.notes.clone();
    if comparison.log.known == 0 {
        let note = "the log doesn't say what came of its requests: nothing is known of 429s and failures; a CSV file says it in the column 'status'";
        notes.push(note.to_owned());
    }
    let list = |names: &[(Arc<str>, u64)]| {
        let shown: Vec<String> = names.iter().take(SHOWN).map(|(name, requests)| format!("{name} ({})", count(*requests))).collect();
        shown.join(", ") + if names.len() > SHOWN { ", ..." } else { "" }
    };
    if !comparison.unknown_backends.is_empty() {
        let names = list(&comparison.unknown_backends);
        notes.push(format!("backends in the log that this config doesn't have, so that their answers say nothing here: {names}"));
    }
    if !comparison.unknown_consumers.is_empty() {
        let names = list(&comparison.unknown_consumers);
        notes.push(format!("consumers in the log that this config doesn't list, so that no limits of consumers apply: {names}"));
    }
    notes
}

fn decisions(comparison: &Comparison) -> String {
    let Comparison { compared, equal, differences, .. } = comparison;
    if *compared == 0 {
        return String::new();
    }
    let share = *equal as f64 / *compared as f64 * 100.0;
    let mut text = format!("\ndecisions equal to those in the log: {} of {} ({share:.3} %)\n", count(*equal), count(*compared));
    for difference in differences.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}  log: {}; here: {}", difference.at, difference.log, difference.shadow);
    }
    text
}
