//! Man pages and shell completions, for packages.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::arguments::Arguments;

/// Writes a page for the program and one for each of its commands into a folder.
pub(super) fn man(folder: &Path) -> ExitCode {
    match std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Arguments::command(), folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("spillway: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Prints a shell's completion script.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "spillway", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
