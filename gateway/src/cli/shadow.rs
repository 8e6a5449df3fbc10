//! `spillway shadow`: what a config would have decided for the requests of a log, beside what the log says.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::log_file::{self, LogFileError, no_request};
use super::replaying::{self, ReplayingError, file_name, ledger_or, range, write_picture};
use crate::config::Config;
use crate::simulate::replay::{ReplayError, shadow};
use crate::simulate::scenario::Draft;
use crate::simulate::shadow::report;
use crate::simulate::trace::csv::CsvTrace;
use crate::simulate::trace::foreign::{ForeignTrace, Source};
use crate::simulate::trace::order::Ordered;
use crate::simulate::trace::recorded::RecordedTrace;
use crate::simulate::trace::{Trace, TraceError};
use crate::simulate::world::Assumptions;

/// How much of a file is read to see whose log it is.
const HEAD: u64 = 64 * 1024;
/// Start of the time range in a ledger, if none is given.
const SINCE: &str = "30d";
/// What to do about a file without requests.
const REMEDY: &str = "if it is another kind of log, say which with --format";

/// What to shadow.
#[derive(Debug, Args)]
pub(super) struct ShadowArguments {
    /// The config file to try.
    #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
    config: PathBuf,
    /// The log: a file, or the folder of a ledger. Default: the ledger in the config's server.state_dir.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Whose log it is. Default: what its first line looks like.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Start of the time range in a ledger: 30d, 12h, 2026-11-01 or 2026-11-01T08:00:00Z. Default: 30d.
    #[arg(long)]
    since: Option<String>,
    /// End of the time range in a ledger. Default: now.
    #[arg(long)]
    until: Option<String>,
    /// Change the config: pools.chat.spill="ahead", backends.ptu-sweden.ptu.gpt4o.units=400. May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// What chance depends on: the same number gives the same result.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with charts, too.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The gateway's own ledger: its folder.
    Ledger,
    /// LiteLLM's spend logs, as JSON lines or CSV.
    #[value(name = "litellm")]
    LiteLlm,
    /// Logs of Azure API Management, as JSON lines or CSV.
    Apim,
    /// The columns of `spillway simulate --csv`, and if known status, backend, deployment, cost_usd.
    Csv,
}

/// Shadows, and prints the result.
pub(super) fn run(arguments: &ShadowArguments) -> ExitCode {
    replaying::print(report_of(arguments))
}

fn report_of(arguments: &ShadowArguments) -> Result<String, ReplayingError> {
    let draft = Draft::read(&arguments.config, &arguments.set)?;
    let mut scenario = draft.scenario(&file_name(&arguments.config))?;
    let mut notes = scenario.take_everything_unknown();
    let (mut trace, file) = trace(arguments, &scenario.config, &mut notes)?;
    let assumptions = Assumptions { seed: arguments.seed, ..Assumptions::default() };
    let (traffic, mut outcome, comparison) = match (shadow(&mut *trace, scenario, &assumptions), file) {
        (Err(ReplayError::Trace(TraceError::Nothing)), Some(file)) => return Err(no_request(&file, &trace.unused(), REMEDY).into()),
        (result, _) => result?,
    };
    outcome.notes.extend(notes);
    write_picture(arguments.picture.as_deref(), &traffic, std::slice::from_ref(&outcome))?;
    if arguments.json {
        let result = serde_json::json!({ "traffic": traffic, "outcome": outcome, "comparison": comparison });
        return Ok(serde_json::to_string_pretty(&result)? + "\n");
    }
    Ok(report::text(&traffic, &outcome, &comparison))
}

/// What a log says, and its file, if it is not a ledger.
type Log = (Box<dyn Trace>, Option<PathBuf>);

fn trace(arguments: &ShadowArguments, config: &Config, notes: &mut Vec<String>) -> Result<Log, ReplayingError> {
    let path = ledger_or(arguments.log.as_deref(), Some(config), &arguments.config, "--log")?;
    let format = match arguments.format {
        Some(format) => format,
        None if arguments.log.is_none() || path.is_dir() || path.extension().is_some_and(|name| name == "sqlite") => Format::Ledger,
        None => {
            let mut head = Vec::new();
            let read = log_file::open(&path)?.take(HEAD).read_to_end(&mut head);
            read.map_err(|source| LogFileError::Unreadable { path: path.clone(), source })?;
            guessed(&String::from_utf8_lossy(&head)).ok_or_else(|| LogFileError::Unknown { path: path.clone(), flag: "--format" })?
        }
    };
    if format != Format::Ledger && (arguments.since.is_some() || arguments.until.is_some()) {
        return Err(LogFileError::RangeOfFile { path, flags: "--since and --until" }.into());
    }
    let open = || log_file::open(&path);
    let trace: Box<dyn Trace> = match format {
        Format::Ledger => {
            let folder = if path.is_file() { path.parent().unwrap_or(Path::new(".")).to_owned() } else { path.clone() };
            let (since, until) = range(arguments.since.as_deref().unwrap_or(SINCE), arguments.until.as_deref())?;
            let recorded = RecordedTrace::new(&folder, since, until)?;
            if !recorded.has_refusals() {
                notes.push(
                    "the ledger has no refusals: 429s of backends and requests that limits refused are not in it; set `refusals = true` in [ledger]"
                        .to_owned(),
                );
            }
            Box::new(Ordered::new(recorded))
        }
        Format::LiteLlm => Box::new(Ordered::new(ForeignTrace::new(open()?, Source::LiteLlm, config)?)),
        Format::Apim => Box::new(Ordered::new(ForeignTrace::new(open()?, Source::Apim, config)?)),
        Format::Csv => Box::new(Ordered::new(CsvTrace::new(open()?)?)),
    };
    Ok((trace, (format != Format::Ledger).then_some(path)))
}

/// Whose log begins like this.
fn guessed(head: &str) -> Option<Format> {
    let has = |names: &[&str]| names.iter().any(|name| head.contains(name));
    let first = head.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let columns: Vec<String> = first.split(',').map(|name| name.trim_start_matches('\u{feff}').trim().to_lowercase()).collect();
    match () {
        () if has(&["startTime", "completion_tokens"]) => Some(Format::LiteLlm),
        () if has(&["CorrelationId"]) => Some(Format::Apim),
        () if ["time", "model", "input", "output"].iter().all(|name| columns.iter().any(|column| column == name)) => Some(Format::Csv),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_whose_log_it_is() {
        assert_eq!(guessed("{\"request_id\":\"1\",\"startTime\":\"x\"}"), Some(Format::LiteLlm));
        assert_eq!(guessed("request_id,call_type,startTime,model\n"), Some(Format::LiteLlm));
        assert_eq!(guessed("\n{\"TimeGenerated\":\"x\",\"CorrelationId\":\"1\"}"), Some(Format::Apim));
        assert_eq!(guessed("\u{feff}Model, time,output,input,status\n"), Some(Format::Csv));
        assert_eq!(guessed("listen = 1\n"), None);
    }
}
