//! The tables of `docs/steering.md`.

use std::fmt::Write;
use std::ops::Range;

use crate::call;
use crate::controller::Kind;
use crate::figures::{Figures, LEARNING};
use crate::scenario::Scenario;
use crate::world;

const BEGIN: &str = "<!-- steering: begin -->";
const END: &str = "<!-- steering: end -->";

/// Writes the tables into a page, between its markers.
///
/// # Errors
/// If the page can't be read or written, or has no markers.
pub fn write(page: &str, tables: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(page)?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        return Err(std::io::Error::other(format!("the markers {BEGIN} and {END} are missing")));
    };
    let (before, after) = (&text[..begin + BEGIN.len()], &text[end..]);
    std::fs::write(page, format!("{before}\n\n{tables}\n{after}"))
}

/// All tables; each row has a run for each seed.
pub fn report(seeds: &Range<u64>) -> String {
    let mut text = String::new();
    overload(&mut text, seeds);
    savings(&mut text, seeds);
    sizes(&mut text, seeds);
    changes(&mut text, seeds);
    valley(&mut text, seeds);
    text
}

/// The runs of one scenario with one controller.
pub fn runs(scenario: &Scenario, kind: Kind, seeds: &Range<u64>) -> Vec<Figures> {
    seeds.clone().map(|seed| world::run(scenario, kind, seed)).collect()
}

/// Mean and worst (largest) of a number of each run.
fn most(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut sum, mut count, mut worst) = (0.0, 0.0, f64::MIN);
    for value in values {
        (sum, count, worst) = (sum + value, count + 1.0, worst.max(value));
    }
    (sum / count, worst)
}

fn percent(value: f64, digits: usize) -> String {
    format!("{:.digits$} %", 100.0 * value)
}

fn line(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn head(text: &mut String, title: &str, names: &[&str]) {
    let _ = writeln!(text, "{title}\n");
    line(text, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let _ = writeln!(text, "|{}", "---|".repeat(names.len()));
}

/// The figures that all tables of overload share.
fn cells(runs: &[Figures], ideal: &[Figures]) -> Vec<String> {
    let pairs = || runs.iter().zip(ideal);
    let busy = most(runs.iter().map(|run| -run.busy));
    let refusals = most(runs.iter().map(|run| run.refusals));
    let spilled = most(pairs().map(|(run, ideal)| run.spilled / ideal.spilled));
    let ours = most(pairs().map(|(run, ideal)| run.spilled_ours / ideal.spilled_ours));
    vec![
        format!("{:.1} % ({:.1} %)", -100.0 * busy.0, -100.0 * busy.1),
        format!("{} ({})", percent(refusals.0, 2), percent(refusals.1, 2)),
        format!("{:.2} ({:.2})", spilled.0, spilled.1),
        format!("{:.2} ({:.2})", ours.0, ours.1),
    ]
}

fn over(runs: &[Figures], others: &[Figures]) -> String {
    let bill = most(runs.iter().zip(others).map(|(run, other)| run.bill / other.bill));
    format!("{:.2} ({:.2})", bill.0, bill.1)
}

fn overload(text: &mut String, seeds: &Range<u64>) {
    head(
        text,
        "**More demand than capacity** (300 units, 1.1, 1.3 and 1.6 times what the PTU takes)",
        &[
            "demand",
            "",
            "busy",
            "refusals",
            "spilled",
            "spilled, ours alone",
            "bill, over today's",
            "added wait, p95",
            "utilisation off, p95",
        ],
    );
    for demand in [1.1, 1.3, 1.6] {
        let scenario = Scenario { demand, ..Scenario::default() };
        let ideal = runs(&scenario, Kind::Clairvoyant, seeds);
        let today = runs(&scenario, Kind::Today, seeds);
        for kind in Kind::ALL {
            let runs = match kind {
                Kind::Clairvoyant => ideal.clone(),
                Kind::Today => today.clone(),
                kind => runs(&scenario, kind, seeds),
            };
            let off = (most(runs.iter().map(|run| run.off.0)), most(runs.iter().map(|run| run.off.1)));
            let mut row = vec![format!("{demand}"), kind.label().to_owned()];
            row.extend(cells(&runs, &ideal));
            row.push(over(&runs, &today));
            row.push(format!("{:.0} ms", 1e3 * most(runs.iter().map(|run| run.wait)).0));
            let shows = matches!(kind, Kind::Twin | Kind::Savings);
            row.push(if shows { format!("{:.1} ({:.1}), {:.0}", off.0.0, off.0.1, off.1.0) } else { "–".to_owned() });
            line(text, &row);
        }
    }
}

fn savings(text: &mut String, seeds: &Range<u64>) {
    head(
        text,
        "\n**What `savings` saves** (demand 1.3; it depends on what the pay-as-you-go deployment has cached of the agents' prompts)",
        &["cached there", "bill over today's: first come", "`savings`"],
    );
    for cached_elsewhere in [0.0, 0.5, 1.0] {
        let scenario = Scenario { cached_elsewhere, ..Scenario::default() };
        let [today, twin, savings] = [Kind::Today, Kind::Twin, Kind::Savings].map(|kind| runs(&scenario, kind, seeds));
        line(text, &[percent(cached_elsewhere, 0), over(&twin, &today), over(&savings, &today)]);
    }
}

fn sizes(text: &mut String, seeds: &Range<u64>) {
    head(
        text,
        "\n**Sizes and depths** (demand 1.3; the twin, first come)",
        &["units", "depth", "busy", "refusals", "spilled", "spilled, ours alone", "busy today", "refusals today"],
    );
    let rows = [(50, 10), (100, 10), (200, 10), (300, 10), (600, 10), (1200, 10), (300, 2), (300, 4), (300, 30)];
    for (units, depth) in rows {
        let scenario = Scenario { units, depth: std::time::Duration::from_secs(depth), ..Scenario::default() };
        let [ideal, today, twin] = [Kind::Clairvoyant, Kind::Today, Kind::Twin].map(|kind| runs(&scenario, kind, seeds));
        let mut row = vec![units.to_string(), format!("{depth} s")];
        row.extend(cells(&twin, &ideal));
        row.extend(cells(&today, &ideal).into_iter().take(2));
        line(text, &row);
    }
}

/// The minute from which on capacity is halved, and from which it is back.
const HALVED: (usize, usize) = (25, 55);

/// The scenario of a capacity that halves and comes back.
pub fn halving() -> Scenario {
    Scenario { minutes: 90, changes: vec![(HALVED.0, 0.5), (HALVED.1, 1.0)], ..Scenario::default() }
}

/// Of a run of [`halving`]: refusals in the five minutes after the loss; busy in the minutes 5 to 30 after it; minutes until
/// a minute's use is 90 % after the return; busy in the minutes 10 to 15 after it.
pub fn halved(run: &Figures) -> [f64; 4] {
    let seconds = |from: usize, to: usize| &run.seconds[(from * 60).min(run.seconds.len())..(to * 60).min(run.seconds.len())];
    let refusals = |from: usize, to: usize| {
        let sum = seconds(from, to).iter().fold((0, 0), |(refusals, attempts), one| (refusals + one.refusals, attempts + one.attempts));
        f64::from(sum.0) / f64::from(sum.1.max(1))
    };
    let busy = |from: usize, to: usize| {
        let sum = seconds(from, to).iter().fold((0.0, 0.0), |(work, takes), one| (work + one.work, takes + one.takes));
        sum.0 / sum.1
    };
    let (lost, back) = HALVED;
    let minutes = (0..35).find(|minute| busy(back + minute, back + minute + 1) >= 0.9).unwrap_or(35);
    [refusals(lost, lost + 5), busy(lost + 5, back), minutes as f64 + 1.0, busy(back + 10, back + 15)]
}

fn changes(text: &mut String, seeds: &Range<u64>) {
    head(
        text,
        "\n**Capacity halves, and comes back after half an hour, without notice** (demand 1.3 of the whole)",
        &["", "refusals, first 5 minutes", "busy after that", "minutes until 90 % of the whole is used", "busy, minutes 10 to 15"],
    );
    for kind in [Kind::Today, Kind::Twin, Kind::Savings] {
        let all: Vec<[f64; 4]> = runs(&halving(), kind, seeds).iter().map(halved).collect();
        let of = |index: usize, sign: f64| most(all.iter().map(|one| sign * one[index]));
        let (refusals, busy, minutes, later) = (of(0, 1.0), of(1, -1.0), of(2, 1.0), of(3, -1.0));
        line(
            text,
            &[
                kind.label().to_owned(),
                format!("{} ({})", percent(refusals.0, 1), percent(refusals.1, 1)),
                format!("{} ({})", percent(-busy.0, 1), percent(-busy.1, 1)),
                format!("{:.0} ({:.0})", minutes.0, minutes.1),
                format!("{} ({})", percent(-later.0, 1), percent(-later.1, 1)),
            ],
        );
    }
}

/// The scenario of a valley: interactive calls for 70 % of the capacity.
pub fn quiet() -> Scenario {
    Scenario { demand: 0.7, foreign: 0.0, minutes: 120, ..Scenario::default() }
}

/// How busy the PTU is while batch calls come.
pub fn while_batch_comes(run: &Figures) -> f64 {
    let counted = &run.seconds[LEARNING..(quiet().minutes * 60 - call::LAST_BATCH).max(LEARNING)];
    counted.iter().map(|one| one.work).sum::<f64>() / counted.iter().map(|one| one.takes).sum::<f64>()
}

fn valley(text: &mut String, seeds: &Range<u64>) {
    head(
        text,
        "\n**Batch calls in the valleys** (interactive calls for 70 % of the capacity, batch calls for 24 %)",
        &["", "PTU busy", "batch paid, of its standard price", "deadlines missed", "interactive: p95 first token", "interactive: spilled"],
    );
    let alone = quiet();
    let with = Scenario { batch: 0.24, ..quiet() };
    for (name, scenario, kind) in [
        ("today, without batch", &alone, Kind::Today),
        ("today, with batch", &with, Kind::Today),
        ("the twin, without batch", &alone, Kind::Twin),
        ("the twin, with batch", &with, Kind::Twin),
    ] {
        let runs = runs(scenario, kind, seeds);
        let busy = most(runs.iter().map(|run| -while_batch_comes(run)));
        let paid = most(runs.iter().map(|run| run.batch.paid / run.batch.price));
        let first = most(runs.iter().map(|run| run.first));
        let spilled = most(runs.iter().map(|run| run.spilled_share));
        let missed: u32 = runs.iter().map(|run| run.missed).sum();
        let of_batch = |text: String| if scenario.batch > 0.0 { text } else { "–".to_owned() };
        line(
            text,
            &[
                name.to_owned(),
                format!("{} ({})", percent(-busy.0, 1), percent(-busy.1, 1)),
                of_batch(format!("{:.2} ({:.2})", paid.0, paid.1)),
                of_batch(missed.to_string()),
                format!("{:.3} s ({:.3} s)", first.0, first.1),
                format!("{} ({})", percent(spilled.0, 1), percent(spilled.1, 1)),
            ],
        );
    }
}
