//! `spillway usage`: reports from the ledger. It works whether or not a gateway uses the ledger.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::load::load;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::export::{Format, export};
use crate::ledger::reconcile::{Reconciliation, reconcile};
use crate::ledger::request::body;
use crate::ledger::usage::{UsageQuery, UsageRow, parse_time, usage};
use crate::ledger::{LedgerError, LedgerRules};

/// What to report.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct UsageArguments {
    #[command(subcommand)]
    command: Option<UsageCommand>,
    #[command(flatten)]
    report: Option<Report>,
}

#[derive(Debug, Args)]
struct Report {
    /// The config file, which says where the ledger is.
    #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
    config: PathBuf,
    /// What to break down by: consumer, model, api, pool, backend, deployment, tier, service_tier,
    /// spilled_from, hour, day, month, tag:HEADER.
    #[arg(long, default_value = "consumer,model")]
    by: String,
    /// Start of the time range: 30d, 12h, 2026-11-01 or 2026-11-01T08:00:00Z.
    #[arg(long, default_value = "30d")]
    since: String,
    /// End of the time range. Default: now.
    #[arg(long)]
    until: Option<String>,
    /// Only this consumer's usage.
    #[arg(long)]
    consumer: Option<String>,
    /// Print JSON, like GET /api/usage.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Write single attempts to standard output.
    Export {
        /// The config file, which says where the ledger is.
        #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
        config: PathBuf,
        /// Output format.
        #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
        format: ExportFormat,
        /// Start of the time range.
        #[arg(long, default_value = "30d")]
        since: String,
        /// End of the time range. Default: now.
        #[arg(long)]
        until: Option<String>,
    },
    /// Compare with a cost export (CSV) of Azure's Cost Management, by deployment and meter.
    Reconcile {
        /// The config file, which says where the ledger is.
        #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
        config: PathBuf,
        /// The export.
        export: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    Csv,
    Jsonl,
}

/// Reports.
pub(super) fn run(arguments: UsageArguments) -> ExitCode {
    let reported = match arguments {
        UsageArguments { command: Some(UsageCommand::Export { config, format, since, until }), .. } => {
            with_ledger(&config, |_, ledger, now| {
                let format = if matches!(format, ExportFormat::Csv) { Format::Csv } else { Format::JsonLines };
                let until = until.map_or(Ok(now + 1), |until| parse_time(&until, now))?;
                export(&ledger.folder, parse_time(&since, now)?, until, format, BufWriter::new(stdout().lock()))?;
                Ok(())
            })
        }
        UsageArguments { command: Some(UsageCommand::Reconcile { config, export, json }), .. } => {
            with_ledger(&config, |config, ledger, _| {
                let file = File::open(&export).map_err(|error| format!("can't read {}: {error}", export.display()))?;
                let compared = reconcile(&ledger.folder, config, BufReader::new(file))?;
                if json {
                    writeln!(stdout(), "{}", serde_json::to_string(&compared)?)?;
                } else {
                    print_comparison(&compared)?;
                }
                Ok(())
            })
        }
        UsageArguments { report: Some(report), .. } => with_ledger(&report.config, |_, ledger, now| {
            let query = UsageQuery {
                since: parse_time(&report.since, now)?,
                until: report.until.as_ref().map_or(Ok(now + 1), |until| parse_time(until, now))?,
                by: UsageQuery::dimensions(&report.by)?,
                consumer: report.consumer.clone(),
            };
            let rows = usage(&ledger.folder, &query)?;
            if report.json {
                writeln!(stdout(), "{}", body(&rows))?;
            } else {
                print_rows(&query, &rows)?;
            }
            Ok(())
        }),
        UsageArguments { .. } => Err("give a config file with -c".to_owned()),
    };
    match reported {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_empty() => ExitCode::from(2),
        // The reader of the pipe has closed it.
        Err(error) if error.contains("Broken pipe") => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why a report can't be made, as text.
struct Failure(String);

impl<E: ToString> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

fn with_ledger(path: &Path, report: impl FnOnce(&Config, &LedgerRules, i64) -> Result<(), Failure>) -> Result<(), String> {
    let config = load(path).map_err(|_| String::new())?;
    let missing = || LedgerError::Query(format!("{} has no ledger: it doesn't set server.state_dir", path.display())).to_string();
    let ledger = config.ledger.as_ref().ok_or_else(missing)?;
    report(&config, ledger, Clock::new().wall().timestamp_millis()).map_err(|Failure(error)| error)
}

fn print_rows(query: &UsageQuery, rows: &[UsageRow]) -> std::io::Result<()> {
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

fn print_comparison(compared: &Reconciliation) -> std::io::Result<()> {
    let header = ["backend", "deployment", "billed as", "meter", "billed tokens", "ledger tokens", "difference", "billed cost"];
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
    let header = ["backend", "deployment", "billed as", "billed cost", "ledger USD"];
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
    print_table(&table, 3)
}

/// Prints a table: the first `names` columns to the left, numbers to the right.
fn print_table(table: &[Vec<String>], names: usize) -> std::io::Result<()> {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in table {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column < names {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        writeln!(stdout(), "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
