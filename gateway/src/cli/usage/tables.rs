//! Reports as tables, for people.

use std::io::{Write as _, stdout};

use crate::ledger::all_nodes::Sources;
use crate::ledger::reconcile::Reconciliation;
use crate::ledger::usage::{UsageQuery, UsageRow};

pub(super) fn print_rows(query: &UsageQuery, rows: &[UsageRow]) -> std::io::Result<()> {
    let by: Vec<String> = query.by.iter().map(ToString::to_string).collect();
    let numbers = ["requests", "input", "cached", "output", "reasoning", "estimated", "USD"];
    let mut table = vec![by.iter().map(String::as_str).chain(numbers).map(str::to_owned).collect::<Vec<_>>()];
    for row in rows {
        let names = by.iter().map(|name| match &row.by[name] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        });
        let counts =
            [row.requests, row.input_tokens, row.cached_input_tokens, row.output_tokens, row.reasoning_tokens, row.estimated_tokens];
        let cost = match (row.cost_usd, row.unpriced_attempts) {
            (None, _) => "unknown".to_owned(),
            (Some(cost), 0) => format!("{cost:.4}"),
            (Some(cost), unpriced) => format!("{cost:.4} + {unpriced} unknown"),
        };
        table.push(names.chain(counts.iter().map(i64::to_string)).chain([cost]).collect());
    }
    print_table(&table, by.len())
}

pub(super) fn print_comparison(compared: &Reconciliation) -> std::io::Result<()> {
    let billed = compared.currency.as_ref().map_or_else(|| "billed cost".to_owned(), |currency| format!("billed {}", printable(currency)));
    let header = ["backend", "deployment", "billed as", "meter", "billed tokens", "ledger tokens", "difference", &billed];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    let all = |deployment: &Option<String>| deployment.clone().unwrap_or_else(|| "(all)".to_owned());
    for line in &compared.rows {
        let meter = serde_json::to_value(line.meter).ok().and_then(|meter| meter.as_str().map(str::to_owned)).unwrap_or_default();
        table.push(vec![
            line.backend.clone(),
            all(&line.deployment),
            line.billed_as.label().to_owned(),
            meter,
            line.billed_tokens.to_string(),
            line.ledger_tokens.to_string(),
            line.percent().map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.2} %")),
            format!("{:.4}", line.billed_cost),
        ]);
    }
    print_table(&table, 4)?;
    let header = ["backend", "deployment", "billed as", &billed, "ledger USD"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for line in &compared.costs {
        table.push(vec![
            line.backend.clone(),
            all(&line.deployment),
            line.billed_as.label().to_owned(),
            format!("{:.4}", line.billed_cost),
            format!("{:.4}", line.ledger_cost_usd),
        ]);
    }
    writeln!(stdout())?;
    print_table(&table, 3)?;
    if compared.currency.as_ref().is_some_and(|currency| !currency.eq_ignore_ascii_case("USD")) {
        writeln!(stdout(), "\nThe bill is not in US dollars: compare tokens, or export a column CostInUsd.")?;
    }
    print_rest(compared, &billed)
}

/// What a bill has beside tokens and their costs.
fn print_rest(compared: &Reconciliation, billed: &str) -> std::io::Result<()> {
    let all = |deployment: &Option<String>| deployment.clone().unwrap_or_else(|| "(all)".to_owned());
    if !compared.provisioned.is_empty() {
        let header = ["backend", "deployment", "unit hours, hourly", "unit hours, reserved"];
        let mut table = vec![header.map(str::to_owned).to_vec()];
        for line in &compared.provisioned {
            let hours = [line.unit_hours.hourly, line.unit_hours.reserved].map(|hours| format!("{hours:.2}"));
            table.push([line.backend.clone(), all(&line.deployment)].into_iter().chain(hours).collect());
        }
        writeln!(stdout())?;
        print_table(&table, 2)?;
    }
    if !compared.reservations.is_empty() {
        let mut table = vec![["reservation", "charge", "lines", billed].map(str::to_owned).to_vec()];
        for line in &compared.reservations {
            table.push(vec![line.product.clone(), line.charge.clone(), line.lines.to_string(), format!("{:.4}", line.billed_cost)]);
        }
        writeln!(stdout())?;
        print_table(&table, 2)?;
    }
    for twice in &compared.billed_twice {
        writeln!(
            stdout(),
            "\nbilled twice? {} {}: '{}' and '{}' have the same quantity on {} days ({}); they cost {:.4} and {:.4}",
            printable(&twice.backend),
            printable(&all(&twice.deployment)),
            printable(&twice.meters[0]),
            printable(&twice.meters[1]),
            twice.days,
            twice.quantity,
            twice.costs[0],
            twice.costs[1]
        )?;
    }
    for skipped in &compared.skipped {
        writeln!(
            stdout(),
            "\nnot compared: meter '{}' of {} ({} lines, cost {:.4})",
            printable(&skipped.meter),
            printable(&skipped.backend),
            skipped.lines,
            skipped.billed_cost
        )?;
    }
    Ok(())
}

/// Where the sums of all nodes come from, and what they lack.
pub(super) fn print_sources(sources: &Sources) -> std::io::Result<()> {
    let header = ["node", "ledger", "host", "complete until", "hours", "missing"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for node in &sources.nodes {
        let until = match (&node.complete_until, node.age_s) {
            (Some(until), Some(age)) => {
                let late = node.why_late.map(|why| format!(", LATE: {why}")).unwrap_or_default();
                format!("{until} ({} ago{late})", age_text(age))
            }
            _ => "unknown: it has no state file".to_owned(),
        };
        let host = node.host.clone().unwrap_or_else(|| "-".to_owned());
        table.push(vec![node.node.clone(), node.ledger.clone(), host, until, node.hours.to_string(), node.missing.len().to_string()]);
    }
    writeln!(stdout())?;
    print_table(&table, 4)?;
    for node in sources.nodes.iter().filter(|node| !node.missing.is_empty()) {
        let shown = node.missing.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let more = node.missing.len().saturating_sub(10);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(stdout(), "missing: {} has used the hours {shown}{more}, and there is no valid file of them", printable(&node.node))?;
    }
    for file in &sources.set_aside {
        writeln!(stdout(), "set aside: {} {}", printable(&file.path), printable(&file.why))?;
    }
    for conflict in &sources.conflicts {
        writeln!(stdout(), "conflict: node {}: {}", printable(&conflict.node), printable(&conflict.what))?;
    }
    Ok(())
}

/// A text as a terminal can show it. Names, hosts and paths come from files that others can write: control characters would be
/// commands to the terminal, and marks of direction would change the order of what is read.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            printable.extend(c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// An age, in its largest unit.
fn age_text(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Prints a table: the first `names` columns to the left, numbers to the right.
fn print_table(table: &[Vec<String>], names: usize) -> std::io::Result<()> {
    let table: Vec<Vec<String>> = table.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column < names {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        writeln!(stdout(), "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_of_a_name_reaches_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n\u{9b}b\u{202e}c"), r"a\u{1b}[2J\u{a}\u{9b}b\u{202e}c");
        assert_eq!(printable("Zürich-1 東京"), "Zürich-1 東京");
    }
}
