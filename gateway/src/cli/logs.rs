//! `spillway logs`: searches the prompt log.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::load::load_with;
use crate::clock::Clock;
use crate::ledger::usage::parse_time;
use crate::prompt_log::search::{Search, search};

#[derive(Debug, Subcommand)]
pub(super) enum LogsCommand {
    /// Find records of the prompt log, also in rotated files. Prints each as a line of JSON.
    Grep(GrepArguments),
}

#[derive(Debug, Args)]
pub(super) struct GrepArguments {
    /// The config file.
    #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
    config: PathBuf,
    /// The request with this id (`x-request-id`).
    #[arg(long)]
    id: Option<String>,
    /// Requests of this consumer.
    #[arg(long)]
    consumer: Option<String>,
    /// From this time on: a time such as `2026-11-25` or `2026-11-25T08:00:00Z`, or an age such as `2h` or `7d`.
    #[arg(long)]
    since: Option<String>,
    /// Until this time, in the same forms.
    #[arg(long)]
    until: Option<String>,
    /// A text that occurs in the record, exactly as it is written there.
    text: Option<String>,
}

pub(super) fn run(command: LogsCommand) -> ExitCode {
    let LogsCommand::Grep(arguments) = command;
    match grep(arguments) {
        Ok(0) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(Failure::Printed(code)) => code,
        Err(Failure::Say(message)) => {
            errln!("spillway: {message}");
            ExitCode::from(2)
        }
    }
}

enum Failure {
    Printed(ExitCode),
    Say(String),
}

fn grep(arguments: GrepArguments) -> Result<u64, Failure> {
    let config = load_with(&arguments.config, &[]).map_err(Failure::Printed)?;
    let rules = config.plugins.prompt_log.ok_or_else(|| Failure::Say("plugins.prompt_log is not enabled in this config".to_owned()))?;
    let now = Clock::new().wall();
    let time = |name: &str, text: &Option<String>| -> Result<Option<DateTime<Utc>>, Failure> {
        let Some(text) = text else { return Ok(None) };
        let millis = parse_time(text, now.timestamp_millis()).map_err(|error| Failure::Say(format!("--{name}: {error}")))?;
        Ok(DateTime::from_timestamp_millis(millis))
    };
    let wanted = Search {
        since: time("since", &arguments.since)?,
        until: time("until", &arguments.until)?,
        id: arguments.id,
        consumer: arguments.consumer,
        text: arguments.text,
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let found = search(&rules.path, &wanted, &mut out).and_then(|found| out.flush().map(|()| found));
    match found {
        // The reader of the pipe has closed it.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(1),
        found => found.map_err(|error| Failure::Say(error.to_string())),
    }
}
