//! What a config will do in a bad night, although it is valid: a file for each kind of finding.
//!
//! [`of_config`] needs only the config; [`of_outcomes`] tells what a rehearsal showed. `spillway check` refuses what can't
//! work at all; a finding is about what works until something fails. Errors and warnings are for CI to fail on; a note may be
//! intended, and is no reason to fail. A finding that is accepted in the file becomes a note.
//!
//! To add a kind: a file here, and its line in [`OF_CONFIG`] or [`OF_OUTCOMES`].

mod accepted;
mod admin;
mod buffer;
mod circuit;
mod class;
mod deadline;
mod dependency;
mod fence;
mod flat_price;
mod health;
mod last_resort;
mod limit_of_model;
mod limit_of_parent;
mod listener;
mod location;
mod lower_tier;
mod narrow;
mod nodes;
mod outcome;
mod price;
mod provisioned;
mod quota;
mod retries;
mod spillover;
mod stop;
mod timeouts;
pub mod view;
mod wait;
mod weight;

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Severity};
use super::outcome::FaultOutcome;
use super::place::Lines;
use crate::config::Config;
use view::View;

/// Kinds of findings that the config alone shows.
const OF_CONFIG: &[fn(&View<'_>) -> Vec<Finding>] = &[
    admin::find,
    buffer::find,
    circuit::find,
    class::find,
    deadline::find,
    dependency::find,
    fence::find,
    flat_price::find,
    health::find,
    last_resort::find,
    limit_of_model::find,
    limit_of_parent::find,
    listener::find,
    location::find,
    lower_tier::find,
    narrow::find,
    nodes::find,
    price::find,
    provisioned::find,
    quota::find,
    retries::find,
    spillover::find,
    stop::find,
    timeouts::find,
    wait::find,
    weight::find,
];

/// Kinds of findings that only a run shows: of one fault.
const OF_OUTCOMES: &[fn(&View<'_>, &outcome::Shown<'_>) -> Vec<Finding>] = &[
    outcome::broken::find,
    outcome::callers::find,
    outcome::dependency::find,
    outcome::latency::find,
    outcome::limits::find,
    outcome::load::find,
    outcome::silence::find,
];

/// What a valid config alone shows, the worst first.
pub fn of_config(config: &Config, lines: &Lines) -> Vec<Finding> {
    let view = View { config, lines };
    let found = OF_CONFIG.iter().flat_map(|find| find(&view));
    sorted(found.map(|finding| accepted::lowered(finding, lines)).collect())
}

/// What the rehearsed faults showed, the worst first. `baseline` is the run without a fault.
pub fn of_outcomes(config: &Config, lines: &Lines, baseline: &FaultOutcome, faults: &[FaultOutcome]) -> Vec<Finding> {
    let view = View { config, lines };
    let shown = |fault| outcome::Shown { baseline, fault };
    let of_faults = faults.iter().flat_map(|fault| OF_OUTCOMES.iter().flat_map(move |find| find(&view, &shown(fault))));
    let found = outcome::baseline::find(&view, baseline).into_iter().chain(of_faults);
    sorted(found.map(|finding| accepted::lowered(finding, lines)).collect())
}

/// All findings, of the config and of what the faults showed: the worst first.
pub fn all(config: &Config, lines: &Lines, baseline: &FaultOutcome, faults: &[FaultOutcome]) -> Vec<Finding> {
    sorted(of_config(config, lines).into_iter().chain(of_outcomes(config, lines, baseline, faults)).collect())
}

/// Notes that hold for most pools: told once, with the other lines.
const TOLD_ONCE: [&str; 3] = ["answers-break", "no-alert", "slow-failover"];

/// The worst first, then in the order of the file. Of several findings of one kind about one key, only the worst stays.
pub fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        let worst = b.severity.cmp(&a.severity);
        worst.then_with(|| (a.place.line, &a.place.key, a.code).cmp(&(b.place.line, &b.place.key, b.code)))
    });
    let mut kept: Vec<Finding> = Vec::new();
    let mut others: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for finding in findings {
        let is_quiet = finding.severity == Severity::Note && TOLD_ONCE.contains(&finding.code);
        if is_quiet && kept.iter().any(|known| known.code == finding.code) {
            others.entry(finding.code).or_default().extend(finding.place.line);
        } else if !kept.iter().any(|known| known.code == finding.code && known.place.key == finding.place.key) {
            kept.push(finding);
        }
    }
    for finding in kept.iter_mut().filter(|finding| finding.severity == Severity::Note) {
        let lines: Vec<_> = others.get(finding.code).into_iter().flatten().filter(|line| Some(**line) != finding.place.line).collect();
        if !lines.is_empty() {
            let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
            finding.text += &format!(" Likewise: {} {}.", if lines.len() == 1 { "line" } else { "lines" }, lines.join(", "));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
