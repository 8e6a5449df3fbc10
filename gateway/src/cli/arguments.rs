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
        command: super::keys::KeysCommand,
    },
    /// Who used what, from the ledger.
    Usage(super::usage::UsageArguments),
    /// Look into the prompt log.
    Logs {
        #[command(subcommand)]
        command: super::logs::LogsCommand,
    },
    /// Imitate Azure OpenAI: paths, streams, limits and faults, to develop against.
    Mock(super::mock::MockArguments),
    /// Read the running gateway's config file anew.
    Reload(super::admin::ReloadArguments),
    /// Start the program anew and let it take over from the running gateway, without dropping a stream.
    Upgrade(super::admin::Connection),
    /// Say why a request went where it went.
    Explain(super::explain::ExplainArguments),
    /// Make a config of what another gateway is configured with: API Management, openai-aca-lb, LiteLLM.
    Import(super::import::ImportArguments),
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
pub(super) enum Format {
    Json,
    Markdown,
}
