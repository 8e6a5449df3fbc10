//! Loads a config for a command, and shows what is wrong with it.

use std::path::Path;
use std::process::ExitCode;

use crate::config::error::Problem;
use crate::config::{Config, Secrets};

pub(super) fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path, &Secrets::default()).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

/// A problem in the format of compilers: file, line, column.
pub(super) fn located(path: &Path, kind: &str, problem: &Problem) -> String {
    let place = problem.position.map_or(String::new(), |at| format!("{}:{}:", at.line, at.column));
    format!("{}:{place} {kind}{}{problem}", path.display(), if kind.is_empty() { "" } else { ": " })
}
