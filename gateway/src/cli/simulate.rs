//! `spillway simulate`: what a config would have done with the traffic of a ledger or a CSV file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::log_file::{self, no_request};
use super::replaying::{self, ReplayingError, file_name, ledger_or, range, write_picture};
use crate::balance::target::TargetId;
use crate::config::Config;
use crate::simulate::replay::{ReplayError, replay};
use crate::simulate::report;
use crate::simulate::scenario::{Draft, Scenario, ScenarioError};
use crate::simulate::trace::csv::CsvTrace;
use crate::simulate::trace::ledger::LedgerTrace;
use crate::simulate::trace::order::Ordered;
use crate::simulate::trace::{Trace, TraceError};
use crate::simulate::world::Assumptions;

/// What to do about a file without requests.
const REMEDY: &str = "`spillway simulate --help` says which columns it needs; `spillway shadow` reads other logs";

/// What to simulate.
#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
    /// The config file to try.
    #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
    config: PathBuf,
    /// Replay the requests of the ledger in this folder. Default: that of the config's server.state_dir.
    #[arg(long, value_name = "FOLDER", conflicts_with = "csv")]
    ledger: Option<PathBuf>,
    /// Replay the requests of this file instead: a line of names (time, model, input, output, and if known cached, class,
    /// cap, consumer, duration_ms, deadline_s), then a line for each request.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Start of the time range in the ledger: 30d, 12h, 2026-11-01 or 2026-11-01T08:00:00Z.
    #[arg(long, default_value = "30d", conflicts_with = "csv")]
    since: String,
    /// End of the time range in the ledger. Default: now.
    #[arg(long, conflicts_with = "csv")]
    until: Option<String>,
    /// Change the config: pools.chat.spill="ahead", backends.ptu-sweden.ptu.gpt4o.units=400. May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Try these numbers of PTUs, one column for each.
    #[arg(long, value_name = "UNITS,...", value_delimiter = ',')]
    ptu: Vec<u32>,
    /// The deployment whose PTUs --ptu changes. Not needed if there is only one.
    #[arg(long, value_name = "BACKEND/DEPLOYMENT", requires = "ptu")]
    ptu_of: Option<String>,
    /// Show another config beside it, and the difference. --set does not change that one.
    #[arg(long, value_name = "FILE", conflicts_with = "ptu")]
    compare: Option<PathBuf>,
    /// The quota of a pay-as-you-go deployment in tokens per minute; without it, it takes everything. May be repeated.
    #[arg(long, value_name = "BACKEND/DEPLOYMENT=TPM", value_parser = limit)]
    limit: Vec<(TargetId, u64)>,
    /// Load that reaches PTU deployments past this gateway, as a share of what they take.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = load)]
    foreign: f64,
    /// How much more PTU deployments take than the config says; less with a minus: --off=-15%.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = share, allow_hyphen_values = true)]
    off: f64,
    /// What chance depends on: the same number gives the same result.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print each hour, too.
    #[arg(long)]
    hours: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with charts, too.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Simulates, and prints the result.
pub(super) fn run(arguments: &SimulateArguments) -> ExitCode {
    replaying::print(simulate(arguments))
}

fn simulate(arguments: &SimulateArguments) -> Result<String, ReplayingError> {
    let scenarios = scenarios(arguments)?;
    let mut trace = trace(arguments, scenarios.first().map(|scenario| &scenario.config))?;
    let assumptions = Assumptions {
        foreign: arguments.foreign,
        off: arguments.off,
        limits: arguments.limit.iter().cloned().collect(),
        seed: arguments.seed,
    };
    let (traffic, outcomes) = match (replay(&mut *trace, scenarios, &assumptions), &arguments.csv) {
        (Err(ReplayError::Trace(TraceError::Nothing)), Some(file)) => return Err(no_request(file, &trace.unused(), REMEDY).into()),
        (result, _) => result?,
    };
    write_picture(arguments.picture.as_deref(), &traffic, &outcomes)?;
    if arguments.json {
        let result = serde_json::json!({ "traffic": traffic, "outcomes": outcomes });
        return Ok(serde_json::to_string_pretty(&result)? + "\n");
    }
    Ok(report::text(&traffic, &outcomes, arguments.hours, arguments.compare.is_some()))
}

/// The configs to try.
fn scenarios(arguments: &SimulateArguments) -> Result<Vec<Scenario>, ScenarioError> {
    let draft = Draft::read(&arguments.config, &arguments.set)?;
    if !arguments.ptu.is_empty() {
        let of = arguments.ptu_of.as_deref();
        let with = |units: &u32| draft.with_units(of, *units)?.scenario(&format!("{units} PTU"));
        return arguments.ptu.iter().map(with).collect();
    }
    let name = file_name(&arguments.config);
    let name = if arguments.set.is_empty() { name } else { format!("{name} (changed)") };
    let mut all = vec![draft.scenario(&name)?];
    if let Some(other) = &arguments.compare {
        all.push(Draft::read(other, &[])?.scenario(&file_name(other))?);
    }
    Ok(all)
}

fn trace(arguments: &SimulateArguments, config: Option<&Config>) -> Result<Box<dyn Trace>, ReplayingError> {
    if let Some(path) = &arguments.csv {
        return Ok(Box::new(Ordered::new(CsvTrace::new(log_file::open(path)?)?)));
    }
    let folder = ledger_or(arguments.ledger.as_deref(), config, &arguments.config, "--ledger or --csv")?;
    let (since, until) = range(&arguments.since, arguments.until.as_deref())?;
    Ok(Box::new(LedgerTrace::new(&folder, since, until)?))
}

/// `20%`, or `20`.
fn share(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('%').trim().parse().ok();
    let share = number.map(|percent| percent / 100.0).filter(|share| (-0.9..=10.0).contains(share));
    share.ok_or_else(|| format!("'{text}' is not a share: use 20%"))
}

/// A share that is not below 0.
fn load(text: &str) -> Result<f64, String> {
    share(text).and_then(|share| if share < 0.0 { Err(format!("'{text}' is below 0")) } else { Ok(share) })
}

/// `BACKEND/DEPLOYMENT=TPM`
fn limit(text: &str) -> Result<(TargetId, u64), String> {
    let parts = text.split_once('=').and_then(|(id, tokens)| Some((id.split_once('/')?, tokens.replace('_', "").parse().ok()?)));
    match parts {
        Some(((backend, deployment), tokens)) => Ok((TargetId { backend: backend.into(), deployment: deployment.into() }, tokens)),
        None => Err(format!("'{text}' is not a limit: use BACKEND/DEPLOYMENT=TOKENS_PER_MINUTE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_limits() {
        assert_eq!((share("20%"), share("-15 %"), share("5")), (Ok(0.2), Ok(-0.15), Ok(0.05)));
        assert!(share("much").is_err() && share("-100%").is_err() && load("-1%").is_err());
        let (id, tokens) = limit("paid/gpt-4o=1_000_000").unwrap();
        assert_eq!((id.to_string().as_str(), tokens), ("paid/gpt-4o", 1_000_000));
        assert!(limit("paid=3").is_err() && limit("a/b=many").is_err());
    }
}
