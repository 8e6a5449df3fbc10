//! The command line. Results go to standard output, logs to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod admin;
mod arguments;
mod config_file;
mod demo;
mod explain;
mod import;
mod keys;
mod load;
mod logs;
mod mock;
mod online;
mod pages;
mod shadow;
mod simulate;
mod usage;

use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command, Format};
use clap::Parser;
use load::load;

use crate::config::error::Problem;
use crate::config::{Config, reference};
use crate::server::{self, Source, Successor};
use crate::telemetry::logging;

/// Runs the program.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { config, online } => check(&config, online),
        Command::Keys { command } => keys::run(command),
        Command::Usage(arguments) => usage::run(arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
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
        Command::Demo => demo::run(),
        Command::Schema { format } => schema(format),
    }
}

fn run(path: &Path) -> ExitCode {
    let successor = match Successor::from_environment() {
        Ok(successor) => successor,
        Err(error) => {
            eprintln!("spillway: can't take over: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (config, source) = match Source::read(path) {
        Ok(read) => read,
        Err(error) => {
            successor.into_iter().for_each(|successor| successor.fail(&error.to_string()));
            eprintln!("{error}");
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
            eprintln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &Path, online: bool) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    for problem in &config.warnings {
        println!("{}", located(path, "warning", problem));
    }
    println!("{}: ok", path.display());
    match online.then(|| online::check(&config)) {
        None | Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::FAILURE,
        Some(Err(error)) => {
            eprintln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A problem in the format of compilers: file, line, column.
fn located(path: &Path, kind: &str, problem: &Problem) -> String {
    let place = problem.position.map_or(String::new(), |at| format!("{}:{}:", at.line, at.column));
    format!("{}:{place} {kind}{}{problem}", path.display(), if kind.is_empty() { "" } else { ": " })
}

fn schema(format: Format) -> ExitCode {
    match format {
        Format::Json => match serde_json::to_string_pretty(&Config::schema()) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("spillway: {error}");
                return ExitCode::FAILURE;
            }
        },
        Format::Markdown => print!("{}", reference::markdown()),
    }
    ExitCode::SUCCESS
}
