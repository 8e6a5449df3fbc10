//! Outcomes as text: a column for each scenario, and one for the difference if two are compared.

use std::fmt::Write as _;

use super::outcome::{Figures, Outcome};
use super::replay::Traffic;

/// How a figure is shown.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Count,
    Percent,
    Seconds,
    Usd,
    /// US dollars with parts of cents.
    Price,
}

/// A line of the table: its label, its unit and its figures, with what is missing in them.
struct Line {
    label: String,
    unit: Unit,
    cells: Vec<(Option<f64>, u64)>,
}

/// The whole report.
pub fn text(traffic: &Traffic, outcomes: &[Outcome], by_hour: bool, with_difference: bool) -> String {
    let mut text = heading(traffic, outcomes);
    let names: Vec<String> = outcomes.iter().map(|outcome| outcome.name.clone()).collect();
    let figures: Vec<&Figures> = outcomes.iter().map(|outcome| &outcome.total).collect();
    text += &table(&names, &lines(&figures), with_difference && outcomes.len() == 2);
    for outcome in outcomes {
        for note in &outcome.notes {
            let _ = writeln!(text, "\n{}: {note}", outcome.name);
        }
    }
    if by_hour {
        for outcome in outcomes {
            let _ = write!(text, "\n{}\n{}", outcome.name, hours(outcome));
        }
    }
    text
}

pub(super) fn heading(traffic: &Traffic, outcomes: &[Outcome]) -> String {
    let Traffic { requests, from, to, gaps, gap_seconds, unused } = traffic;
    let mut text = format!("{} requests from {from} to {to}\n", count(*requests));
    let mut say = |number: u64, what: &str| {
        if number > 0 {
            let _ = writeln!(text, "{} {what}", count(number));
        }
    };
    let first = unused.first_broken.as_deref().unwrap_or_default();
    say(unused.broken, &format!("rows can't be read and are left out; the first: {first}"));
    say(unused.late, "rows are more than an hour out of order and are left out");
    say(unused.sorted, "rows were out of order and are sorted");
    say(unused.cached, "answers came from the gateway's cache and are left out");
    say(unused.unmetered, "answers without known usage are left out");
    say(unused.assumed, "requests have no known usage and are taken to be like the others of their model");
    say(unused.unmatched, "rows with tokens belong to no request of the log and are left out");
    say(*gaps, &format!("times of an hour or more without a request, {} h in all", count(gap_seconds / 3600)));
    for outcome in outcomes {
        let (all, kinds) = (outcome.unknown_models.iter().map(|(_, count)| count).sum(), outcome.unknown_models.len());
        let names: Vec<&str> = outcome.unknown_models.iter().take(5).map(|(name, _)| &**name).collect();
        let more = if kinds > names.len() { ", ..." } else { "" };
        say(all, &format!("requests for models that no pool has in '{}' are left out: {}{more}", outcome.name, names.join(", ")));
    }
    text + "\n"
}

fn lines(all: &[&Figures]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |label: &str, unit: Unit, of: &dyn Fn(&Figures) -> (Option<f64>, u64)| {
        lines.push(Line { label: label.to_owned(), unit, cells: all.iter().map(|figures| of(figures)).collect() });
    };
    let mut tiers: Vec<u32> = all.iter().flat_map(|figures| figures.tiers.iter().map(|tier| tier.tier)).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let of_tier = |figures: &Figures, tier: u32| figures.tiers.iter().find(|known| known.tier == tier).cloned();
    line("requests", Unit::Count, &|f| (Some(f.requests as f64), 0));
    for tier in &tiers {
        line(&format!("  served by tier {tier}"), Unit::Percent, &|f| (of_tier(f, *tier).map(|tier| tier.share), 0));
    }
    line("  refused, as nothing could take them", Unit::Count, &|f| (Some(f.refused as f64), 0));
    line("spilled from PTUs, requests", Unit::Count, &|f| (Some(f.spilled_requests as f64), 0));
    line("spilled from PTUs, tokens", Unit::Count, &|f| (Some(f.spilled_tokens as f64), 0));
    line("429s of PTU deployments", Unit::Count, &|f| (Some(f.ptu_429s as f64), 0));
    line("429s of other deployments", Unit::Count, &|f| (Some(f.other_429s as f64), 0));
    line("requests that waited", Unit::Count, &|f| (Some(f.waited as f64), 0));
    line("added wait, p95", Unit::Seconds, &|f| (Some(f.wait_p95_seconds), 0));
    line("requests with a deadline", Unit::Count, &|f| (Some(f.deadlines as f64), 0));
    line("  that missed it", Unit::Count, &|f| (Some(f.missed_deadlines as f64), 0));
    line("PTU utilisation", Unit::Percent, &|f| (f.ptu_utilisation, 0));
    for tier in &tiers {
        line(&format!("cost of tier {tier}"), Unit::Usd, &|f| (of_tier(f, *tier).map(|tier| tier.cost_usd), 0));
    }
    line("cost in all", Unit::Usd, &|f| (Some(f.cost_usd()), f.unpriced));
    line("cost by pay-as-you-go alone", Unit::Usd, &|f| (Some(f.pay_as_you_go_usd), f.pay_as_you_go_unpriced));
    line("saved", Unit::Usd, &|f| (f.saved_usd(), 0));
    line("PTUs pay below, per hour", Unit::Usd, &|f| (f.break_even_usd_per_hour, 0));
    line("  per PTU and hour", Unit::Price, &|f| (f.break_even_usd_per_ptu_hour, 0));
    lines
}

fn hours(outcome: &Outcome) -> String {
    let mut rows = vec![
        ["hour", "requests", "PTU busy", "spilled", "tokens spilled", "429s", "waited", "wait p95", "missed", "cost", "pay-as-you-go"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for hour in &outcome.hours {
        let f = &hour.figures;
        rows.push(vec![
            hour.hour.clone(),
            count(f.requests),
            shown(Unit::Percent, f.ptu_utilisation),
            count(f.spilled_requests),
            count(f.spilled_tokens),
            count(f.ptu_429s + f.other_429s),
            count(f.waited),
            shown(Unit::Seconds, Some(f.wait_p95_seconds)),
            count(f.missed_deadlines),
            shown(Unit::Usd, Some(f.cost_usd())),
            shown(Unit::Usd, Some(f.pay_as_you_go_usd)),
        ]);
    }
    aligned(&rows)
}

fn table(names: &[String], lines: &[Line], with_difference: bool) -> String {
    let mut rows = vec![std::iter::once(String::new()).chain(names.iter().cloned()).collect::<Vec<String>>()];
    if with_difference {
        rows[0].push("difference".to_owned());
    }
    for line in lines {
        let mut row = vec![line.label.clone()];
        row.extend(line.cells.iter().map(|(figure, missing)| match missing {
            0 => shown(line.unit, *figure),
            missing => format!("{} + {} unknown", shown(line.unit, *figure), count(*missing)),
        }));
        if with_difference {
            row.push(match line.cells[..] {
                [(Some(one), _), (Some(other), _)] => difference(line.unit, other - one),
                _ => "-".to_owned(),
            });
        }
        rows.push(row);
    }
    aligned(&rows)
}

/// The first column to the left, numbers to the right.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn shown(unit: Unit, figure: Option<f64>) -> String {
    let Some(figure) = figure else { return "-".to_owned() };
    match unit {
        Unit::Count => count(figure.max(0.0) as u64),
        Unit::Percent => format!("{:.1} %", figure * 100.0),
        Unit::Seconds => format!("{figure:.2} s"),
        Unit::Usd if figure < 0.0 => format!("-${}", money(-figure)),
        Unit::Usd => format!("${}", money(figure)),
        Unit::Price => format!("${figure:.4}"),
    }
}

fn difference(unit: Unit, by: f64) -> String {
    let sign = if by < 0.0 { "-" } else { "+" };
    let size = match unit {
        Unit::Percent => format!("{:.1} points", by.abs() * 100.0),
        _ => shown(unit, Some(by.abs())),
    };
    if by == 0.0 { "=".to_owned() } else { format!("{sign}{size}") }
}

/// US dollars and cents.
pub(super) fn money(usd: f64) -> String {
    let cents = (usd * 100.0).round() as u64;
    format!("{}.{:02}", count(cents / 100), cents % 100)
}

/// A number with a comma between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((shown(Unit::Usd, Some(1234.5)), shown(Unit::Usd, Some(-0.126))), ("$1,234.50".into(), "-$0.13".into()));
        assert_eq!((shown(Unit::Percent, Some(0.876)), shown(Unit::Seconds, None)), ("87.6 %".into(), "-".into()));
        assert_eq!(difference(Unit::Percent, -0.021), "-2.1 points");
        assert_eq!((difference(Unit::Count, 1500.0), difference(Unit::Count, 0.0)), ("+1,500".into(), "=".into()));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["".to_owned(), "a".to_owned()], vec!["requests".to_owned(), "1,000".to_owned()]];
        assert_eq!(aligned(&rows), "              a\nrequests  1,000\n");
    }
}
