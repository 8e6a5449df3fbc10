//! What the commands that replay requests have in common: the time range of a ledger, what they write, why there is no
//! result.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::log_file::LogFileError;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::usage::parse_time;
use crate::simulate::outcome::Outcome;
use crate::simulate::picture;
use crate::simulate::replay::{ReplayError, Traffic};
use crate::simulate::scenario::ScenarioError;
use crate::simulate::trace::TraceError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayingError {
    #[error("{0}")]
    Scenario(#[from] ScenarioError),
    #[error("{0}")]
    Replay(#[from] ReplayError),
    #[error("{0}")]
    Input(#[from] LogFileError),
    #[error("can't write {}: {source}", .path.display())]
    Output { path: PathBuf, source: std::io::Error },
    /// `flags` are those that name other traffic.
    #[error("{} has no ledger: it doesn't set server.state_dir; give {flags}", .config.display())]
    NoLedger { config: PathBuf, flags: &'static str },
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl From<TraceError> for ReplayingError {
    fn from(error: TraceError) -> Self {
        ReplayingError::Replay(error.into())
    }
}

/// Prints a result, or why there is none. Exit code 2 for a config with errors.
pub(super) fn print(result: Result<String, ReplayingError>) -> ExitCode {
    match result {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(ReplayingError::Scenario(error)) => {
            errln!("{error}");
            ExitCode::from(2)
        }
        Err(error) => {
            errln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that was given, or that of the config's ledger. `flags` are those that name other traffic.
///
/// # Errors
/// If the config has no ledger.
pub(super) fn ledger_or(
    given: Option<&Path>,
    config: Option<&Config>,
    file: &Path,
    flags: &'static str,
) -> Result<PathBuf, ReplayingError> {
    let folder = given.or_else(|| Some(config?.ledger.as_ref()?.folder.as_path()));
    folder.map(Path::to_owned).ok_or_else(|| ReplayingError::NoLedger { config: file.to_owned(), flags })
}

/// The time range of a ledger, in milliseconds since 1970: without an end, until now.
///
/// # Errors
/// If one of them is no time.
pub(super) fn range(since: &str, until: Option<&str>) -> Result<(i64, i64), ReplayingError> {
    let now = Clock::new().wall_millis();
    let time = |text: &str| parse_time(text, now).map_err(TraceError::Ledger);
    let until = until.map_or(Ok(now + 1), time)?;
    Ok((time(since)?, until))
}

/// Writes the page with charts, if one is wanted.
///
/// # Errors
/// If the file can't be written.
pub(super) fn write_picture(file: Option<&Path>, traffic: &Traffic, outcomes: &[Outcome]) -> Result<(), ReplayingError> {
    let Some(path) = file else { return Ok(()) };
    std::fs::write(path, picture::page(traffic, outcomes)).map_err(|source| ReplayingError::Output { path: path.to_owned(), source })
}

/// What reports call a config.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
