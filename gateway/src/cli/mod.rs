//! The command line. Results go to standard output, logs to standard error.
#[macro_use]
mod output;

mod admin;
mod arguments;
mod config_file;
mod demo;
mod explain;
mod import;
mod init;
mod issued_keys;
mod key_list;
mod keys;
mod load;
mod log_file;
mod logs;
mod mock;
mod online;
mod pages;
mod rehearse;
mod replaying;
mod shadow;
mod simulate;
mod stoppable;
mod usage;

use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command, Format};
use clap::Parser;
use load::{load, located};

use crate::clock::Clock;
use crate::config::{Config, expired, lacking_here, reference};
use crate::rehearse::place::Lines;
use crate::rehearse::{findings, report};
use crate::server::{self, Source, Successor};
use crate::telemetry::logging;

/// Runs the program.
pub fn main() -> ExitCode {
    let code = command(Arguments::parse().command);
    if output::has_lost() { ExitCode::FAILURE } else { code }
}

fn command(command: Command) -> ExitCode {
    match command {
        Command::Run { config } => run(&config),
        Command::Check { config, online, advise } => check(&config, online, advise),
        Command::Init(arguments) => init::run(arguments),
        Command::Keys { command } => keys::run(command),
        Command::Usage(arguments) => usage::run(arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Rehearse(arguments) => rehearse::run(&arguments),
        Command::Shadow(arguments) => shadow::run(&arguments),
        Command::Logs { command } => logs::run(command),
        Command::Mock(arguments) => mock::run(arguments),
        Command::Reload(arguments) => admin::reload(&arguments),
        Command::Upgrade(connection) => admin::upgrade(&connection),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { folder } => pages::man(&folder),
        Command::StartDetached { command } => admin::start_detached(&command),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Schema { format } => schema(format),
    }
}

fn run(path: &Path) -> ExitCode {
    let successor = match Successor::from_environment() {
        Ok(successor) => successor,
        Err(error) => {
            errln!("spillway: can't take over: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (config, source) = match Source::read(path) {
        Ok(read) => read,
        Err(error) => {
            successor.into_iter().for_each(|successor| successor.fail(&error.to_string()));
            errln!("{error}");
            return ExitCode::from(2);
        }
    };
    logging::init(&config.log.level);
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    match server::run(config, source, successor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &Path, online: bool, advise: bool) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            errln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let now = Clock::new().wall().timestamp();
    let mut warnings = [config.warnings.clone(), lacking_here(&config, &text), expired(&config, &text, now)].concat();
    warnings.sort_by_key(|warning| warning.position);
    for problem in &warnings {
        outln!("{}", located(path, "warning", problem));
    }
    if advise {
        out!("{}", report::listed(&path.display().to_string(), &findings::of_config(&config, &Lines::new(&text))));
    }
    outln!("{}: ok", path.display());
    match online.then(|| online::check(&config)) {
        None | Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::FAILURE,
        Some(Err(error)) => {
            errln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn schema(format: Format) -> ExitCode {
    match format {
        Format::Json => match serde_json::to_string_pretty(&Config::schema()) {
            Ok(text) => outln!("{text}"),
            Err(error) => {
                errln!("spillway: {error}");
                return ExitCode::FAILURE;
            }
        },
        Format::Markdown => out!("{}", reference::markdown()),
    }
    ExitCode::SUCCESS
}
