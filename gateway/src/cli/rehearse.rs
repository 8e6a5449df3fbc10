//! `spillway rehearse`: what this config does when things go wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::stoppable;
use crate::config::{Config, Secrets};
use crate::rehearse::finding::Severity;
use crate::rehearse::run::{Options, rehearse};
use crate::rehearse::{RehearsalError, remove_all, report};

/// What to rehearse.
#[derive(Debug, Args)]
pub(super) struct RehearseArguments {
    /// The config file.
    #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
    config: PathBuf,
    /// Rehearse only faults whose name contains this: throttled, "tier-out tier 1". May be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with pictures, too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The least severe finding that makes the exit code 1: error, warning, note or never.
    #[arg(long, value_name = "SEVERITY", default_value = "warning", value_parser = severity)]
    fail_on: FailOn,
}

/// Which findings make the exit code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FailOn(Option<Severity>);

fn severity(text: &str) -> Result<FailOn, String> {
    let known = [Severity::Error, Severity::Warning, Severity::Note];
    match known.into_iter().find(|severity| severity.label() == text) {
        Some(severity) => Ok(FailOn(Some(severity))),
        None if text == "never" => Ok(FailOn(None)),
        None => Err("expected error, warning, note or never".to_owned()),
    }
}

/// Rehearses, and prints the result. Exit code 0 if nothing is found, 1 if something is, 2 for a config with errors, 3 if
/// it can't be rehearsed, 128 and its number if a signal stops it.
pub(super) fn run(arguments: &RehearseArguments) -> ExitCode {
    let path = &arguments.config;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            errln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let config = match Config::parse(&text, path, &Secrets::stand_ins()) {
        Ok(config) => config,
        Err(error) => {
            errln!("{error}");
            return ExitCode::from(2);
        }
    };
    let options = Options { only: arguments.only.clone() };
    let failed = |what: &dyn std::fmt::Display| {
        errln!("spillway rehearse: {what}");
        ExitCode::from(3)
    };
    let name = path.display().to_string();
    let rehearsal = match stoppable::run(move || rehearse(&name, &text, &config, &options)) {
        Ok(Ok(Ok(rehearsal))) => rehearsal,
        Ok(Err(stopped)) => {
            remove_all();
            return stopped.exit_code();
        }
        Err(error) => return failed(&error),
        Ok(Ok(Err(error))) => {
            let _ = failed(&error);
            return ExitCode::from(if matches!(error.source, RehearsalError::NoSuchFault { .. }) { 2 } else { 3 });
        }
    };
    if let Some(page) = &arguments.html
        && let Err(error) = std::fs::write(page, report::page(&rehearsal))
    {
        return failed(&format!("can't write {}: {error}", page.display()));
    }
    match arguments.json.then(|| serde_json::to_string_pretty(&rehearsal)) {
        None => out!("{}", report::text(&rehearsal)),
        Some(Ok(json)) => outln!("{json}"),
        Some(Err(error)) => return failed(&error),
    }
    let fails = |severity: Severity| arguments.fail_on.0.is_some_and(|least| severity >= least);
    ExitCode::from(u8::from(rehearsal.findings.iter().any(|finding| fails(finding.severity))))
}
