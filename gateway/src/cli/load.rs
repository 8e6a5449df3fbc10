//! Loads a config for a command, and shows what is wrong with it.

use std::path::Path;
use std::process::ExitCode;

use crate::config::error::Problem;
use crate::config::{Config, Secrets};

/// The secrets that are needed to read from Redis, or to ship to it.
pub(super) const REDIS: &[&str] = &["redis.url"];

pub(super) fn load(path: &Path) -> Result<Config, ExitCode> {
    load_from(path, &Secrets::default())
}

/// The same for a command that uses only the secrets of these keys: it works without the others, and without the files that
/// the gateway has.
pub(super) fn load_with(path: &Path, secrets: &'static [&'static str]) -> Result<Config, ExitCode> {
    load_from(path, &Secrets::default().only(secrets))
}

fn load_from(path: &Path, secrets: &Secrets) -> Result<Config, ExitCode> {
    Config::load(path, secrets).map_err(|error| {
        errln!("{error}");
        ExitCode::from(2)
    })
}

/// A problem in the format of compilers: file, line, column.
pub(super) fn located(path: &Path, kind: &str, problem: &Problem) -> String {
    let place = problem.position.map_or(String::new(), |at| format!("{}:{}:", at.line, at.column));
    format!("{}:{place} {kind}{}{problem}", path.display(), if kind.is_empty() { "" } else { ": " })
}
