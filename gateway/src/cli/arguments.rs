//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// A self-hosted AI gateway: fills provisioned capacity first and spills over before the caller notices.
#[derive(Debug, Parser)]
#[command(name = "spillway", version, about)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway.
    Run {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a config: prints every error with its line, its key and what was expected.
    Check {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Also acquire every backend's token, and send a request to every backend.
        #[arg(long)]
        online: bool,
        /// Also print what `rehearse` finds without a run: what is valid, and will hurt when something fails.
        #[arg(long)]
        advise: bool,
    },
    /// Write a first config, its keys and the drop-in of the systemd unit: asks for what the flags don't say.
    Init(super::init::InitArguments),
    /// Make and show API keys.
    Keys {
        #[command(subcommand)]
        command: super::keys::KeysCommand,
    },
    /// Report usage from the ledger.
    Usage(super::usage::UsageArguments),
    /// Replay past traffic on virtual time: what would this config have done, how many PTUs are right, what is saved.
    Simulate(super::simulate::SimulateArguments),
    /// Rehearse faults on virtual time, without a network: what would callers of this config see, who would serve, what
    /// should be changed.
    Rehearse(super::rehearse::RehearseArguments),
    /// Replay a log of this or another gateway: what would this config have decided, beside what was done.
    Shadow(super::shadow::ShadowArguments),
    /// Search the prompt log.
    Logs {
        #[command(subcommand)]
        command: super::logs::LogsCommand,
    },
    /// Run a mock of Azure OpenAI, with its paths, streams, limits and faults, to develop against.
    Mock(super::mock::MockArguments),
    /// Make the running gateway re-read its config file.
    Reload(super::admin::ReloadArguments),
    /// Start a new process that takes over from the running gateway, without dropping a stream.
    Upgrade(super::admin::Connection),
    /// Explain why a request went to a backend.
    Explain(super::explain::ExplainArguments),
    /// Make a config from the config of another gateway: API Management, openai-aca-lb, LiteLLM.
    Import(super::import::ImportArguments),
    /// Print a shell's completion script.
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
    /// Start a program and exit, so that the program is not a child process. Used by `upgrade`.
    #[command(hide = true)]
    StartDetached {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Show a spillover from a full PTU to two pay-as-you-go deployments. Needs no account.
    Demo(super::demo::DemoArguments),
    /// Print the reference of all config keys.
    Schema {
        /// JSON Schema, or the reference page as Markdown.
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Json,
    Markdown,
}
