//! Loads a config for a command.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{Config, Secrets};

pub(super) fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path, &Secrets::default()).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}
