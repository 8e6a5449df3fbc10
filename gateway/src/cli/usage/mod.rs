//! `spillway usage`: reports from the ledger, or from what all nodes have shipped. It works whether or not a gateway uses the
//! ledger.

mod failure;
mod source;
mod tables;

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::config_file::CONFIG;
use super::load::{REDIS, load_with};
use crate::clock::Clock;
use crate::config::{Config, ShipTo};
use crate::ledger::export::{Format, export};
use crate::ledger::focus::{self, Accounts, FocusFormat};
use crate::ledger::reconcile::{ReconcileError, reconcile};
use crate::ledger::request::body;
use crate::ledger::ship::open_place;
use crate::ledger::ship::rounds::Rounds;
use crate::ledger::usage::{UsageQuery, parse_time};
use crate::ledger::{LedgerError, LedgerRules};
use failure::Failure;
use source::SourceArguments;
use tables::{print_comparison, print_rows, print_sources};

/// What to report.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct UsageArguments {
    #[command(subcommand)]
    command: Option<UsageCommand>,
    #[command(flatten)]
    report: Report,
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    source: SourceArguments,
    /// What to break down by: consumer, model, api, pool, backend, deployment, tier, service_tier,
    /// spilled_from, hour, day, month, tag:HEADER. Default: consumer,model.
    #[arg(long)]
    by: Option<String>,
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
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    format: ReportFormat,
    /// In a FOCUS dataset: the billing account.
    #[arg(long, value_name = "ID", default_value = "spillway")]
    billing_account: String,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// A FOCUS 1.2 dataset, as CSV: a row for each day, consumer, model, deployment, service tier and set of tags.
    Focus,
    /// The same, as Parquet.
    FocusParquet,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Write single attempts of this node to standard output.
    Export {
        /// The config file, which says where the ledger is.
        #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
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
        #[command(flatten)]
        source: SourceArguments,
        /// The export.
        export: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ship this node's hourly sums now, as `[ledger.ship]` says: for a node whose gateway won't start again.
    Ship {
        /// The config file, which says where the ledger is.
        #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    Csv,
    Jsonl,
    Parquet,
}

/// Reports.
pub(super) fn run(arguments: UsageArguments) -> ExitCode {
    let now = Clock::new().wall_millis();
    let reported = match arguments {
        UsageArguments { command: Some(UsageCommand::Export { config, format, since, until }), .. } => with_ledger(&config, |_, ledger| {
            let format = match format {
                ExportFormat::Csv => Format::Csv,
                ExportFormat::Jsonl => Format::JsonLines,
                ExportFormat::Parquet => Format::Parquet,
            };
            refuse_terminal(format == Format::Parquet)?;
            let until = until.map_or(Ok(now + 1), |until| parse_time(&until, now))?;
            export(&ledger.folder, parse_time(&since, now)?, until, format, BufWriter::new(stdout()))?;
            Ok(())
        }),
        UsageArguments { command: Some(UsageCommand::Reconcile { source, export, json }), .. } => compare(&source, &export, json, now),
        UsageArguments { command: Some(UsageCommand::Ship { config }), .. } => {
            with_ledger(&config, |loaded, ledger| ship(&config, loaded, ledger, now))
        }
        UsageArguments { command: None, report } => make_report(&report, now),
    };
    match reported {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(error)) if error.is_empty() => ExitCode::from(2),
        // The reader of the pipe has closed it.
        Err(Failure(error)) if error.contains("Broken pipe") => ExitCode::SUCCESS,
        Err(Failure(error)) => {
            errln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make_report(report: &Report, now: i64) -> Result<(), Failure> {
    let source = report.source.open()?;
    let since = parse_time(&report.since, now)?;
    let until = report.until.as_ref().map_or(Ok(now + 1), |until| parse_time(until, now))?;
    let format = if report.json { ReportFormat::Json } else { report.format };
    let dataset = match format {
        ReportFormat::Focus => Some(FocusFormat::Csv),
        ReportFormat::FocusParquet => Some(FocusFormat::Parquet),
        ReportFormat::Table | ReportFormat::Json => None,
    };
    if let Some(format) = dataset {
        if report.by.is_some() {
            return Err(Failure("--by has no effect on a FOCUS dataset: leave it out".to_owned()));
        }
        refuse_terminal(format == FocusFormat::Parquet)?;
        let query = focus::query(since, until, report.consumer.clone());
        let (database, sources) = source.read(query.since, query.until, now)?;
        let accounts = Accounts { billing: &report.billing_account, config: source.config.as_ref() };
        focus::write(&database.usage(&query)?, accounts, format, BufWriter::new(stdout()))?;
        // The dataset itself has no room for this.
        sources.iter().filter_map(lacking).for_each(|lacking| errln!("spillway: {lacking}"));
        return Ok(());
    }
    let by = UsageQuery::dimensions(report.by.as_deref().unwrap_or(""))?;
    let query = UsageQuery { since, until, by, consumer: report.consumer.clone() };
    let (database, sources) = source.read(since, until, now)?;
    let rows = database.usage(&query)?;
    if format == ReportFormat::Json {
        let mut body = body(&rows);
        if let (Some(body), Some(sources)) = (body.as_object_mut(), &sources)
            && let serde_json::Value::Object(sources) = serde_json::to_value(sources)?
        {
            body.extend(sources);
        }
        writeln!(stdout(), "{body}")?;
        return Ok(());
    }
    print_rows(&query, &rows)?;
    sources.iter().try_for_each(print_sources)?;
    Ok(())
}

/// What a report over all nodes lacks, in a sentence.
fn lacking(sources: &crate::ledger::all_nodes::Sources) -> Option<String> {
    let missing: usize = sources.nodes.iter().map(|node| node.missing.len()).sum();
    let late = sources.nodes.iter().filter(|node| node.is_late).count();
    let counts = [
        (missing, "hours are missing"),
        (late, "nodes are late"),
        (sources.set_aside.len(), "files were set aside"),
        (sources.conflicts.len(), "conflicts"),
    ];
    let counts: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!counts.is_empty())
        .then(|| format!("the dataset is not complete ({}): `spillway usage --all-nodes` has the details", counts.join(", ")))
}

fn compare(arguments: &SourceArguments, export: &Path, json: bool, now: i64) -> Result<(), Failure> {
    let source = arguments.open()?;
    let Some(config) = &source.config else {
        return Err(Failure("give a config file with -c: it says which backends are compared".to_owned()));
    };
    let file = File::open(export).map_err(|error| format!("can't read {}: {error}", export.display()))?;
    let mut sources = None;
    let compared = reconcile(config, BufReader::new(file), |since, until| {
        let (database, found) = source.read(since, until, now).map_err(|Failure(error)| ReconcileError::Sums(error))?;
        sources = found;
        Ok(database)
    })?;
    if json {
        writeln!(stdout(), "{}", serde_json::to_string(&compared)?)?;
        sources.iter().filter_map(lacking).for_each(|lacking| errln!("spillway: {lacking}"));
        return Ok(());
    }
    print_comparison(&compared)?;
    sources.iter().try_for_each(print_sources)?;
    Ok(())
}

/// Ships once.
fn ship(path: &Path, config: &Config, ledger: &LedgerRules, now: i64) -> Result<(), Failure> {
    let Some(ship) = &ledger.ship else {
        return Err(Failure("the config doesn't say where to ship sums: set ledger.ship.to".to_owned()));
    };
    let node = crate::server::node_identity(config)?;
    let name = node.name.clone();
    let redis = match ship.to {
        ShipTo::Redis => load_with(path, REDIS).map_err(|_| Failure(String::new()))?.redis,
        ShipTo::Folder(_) => None,
    };
    let place = open_place(&ship.to, redis.as_ref())?;
    let round = Rounds::new(ledger.folder.clone(), node.name, node.host, ship.clone(), place).round(now)?;
    writeln!(stdout(), "node {name}: {} files shipped", round.files)?;
    if round.conflicts > 0 {
        return Err(Failure(format!(
            "{} hours were not shipped: another node ships a copy of this ledger under the name {name}; give each node a server.state_dir of its own",
            round.conflicts
        )));
    }
    Ok(())
}

/// Bytes are nothing to look at.
fn refuse_terminal(is_binary: bool) -> Result<(), Failure> {
    if is_binary && stdout().is_terminal() {
        return Err(Failure("this format is not text: write it to a file, as in `> usage.parquet`".to_owned()));
    }
    Ok(())
}

fn with_ledger(path: &Path, report: impl FnOnce(&Config, &LedgerRules) -> Result<(), Failure>) -> Result<(), Failure> {
    let config = load_with(path, &[]).map_err(|_| Failure(String::new()))?;
    let missing = || LedgerError::Query(format!("{} has no ledger: it doesn't set server.state_dir", path.display()));
    let ledger = config.ledger.as_ref().ok_or_else(missing)?;
    report(&config, ledger)
}
