//! The command line. What it prints is its result; logs go to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod admin;
mod demo;
mod explain;
mod import;
mod keys;
mod load;
mod logs;
mod mock;
mod online;
mod pages;
mod usage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use load::load;

use crate::config::error::Problem;
use crate::config::{Config, reference};
use crate::server::{self, Source, Successor};
use crate::telemetry::logging;

/// A self-hosted AI gateway: fills provisioned capacity first and spills over before the caller notices.
#[derive(Debug, Parser)]
#[command(name = "spillway", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a config: every error with its line, key and what was expected.
    Check {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Acquire every backend's token, too, and ask every backend.
        #[arg(long)]
        online: bool,
    },
    /// Make and show API keys.
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Who used what, from the ledger.
    Usage(usage::UsageArguments),
    /// Look into the prompt log.
    Logs {
        #[command(subcommand)]
        command: logs::LogsCommand,
    },
    /// Imitate Azure OpenAI: paths, streams, limits and faults, to develop against.
    Mock(mock::MockArguments),
    /// Read the running gateway's config file anew.
    Reload(admin::ReloadArguments),
    /// Start the program anew and let it take over from the running gateway, without dropping a stream.
    Upgrade(admin::Connection),
    /// Say why a request went where it went.
    Explain(explain::ExplainArguments),
    /// Make a config of what another gateway is configured with: API Management, openai-aca-lb, LiteLLM.
    Import(import::ImportArguments),
    /// Print what a shell completes.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        folder: PathBuf,
    },
    /// Start a program and end, so that it is nobody's child. Used by `upgrade`.
    #[command(hide = true)]
    StartDetached {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Show a spillover: a full PTU, two pay-as-you-go deployments, no account needed.
    Demo,
    /// Print what a config can hold.
    Schema {
        /// JSON Schema, or the reference page as Markdown.
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Markdown,
}

/// Where packages put the config.
const CONFIG: &str = "/etc/spillway/spillway.toml";

/// Runs the program.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { config, online } => check(&config, online),
        Command::Keys { command } => keys::run(command),
        Command::Usage(arguments) => usage::run(arguments),
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

/// A problem as compilers write it: file, line, column.
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
