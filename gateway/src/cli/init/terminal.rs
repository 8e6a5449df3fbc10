//! The questions on a terminal, or the answers from a pipe.

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin};
use std::process::{Command, Stdio};

use crate::init::{Ask, InitError};

/// Standard input. Questions go to standard error, so that standard output has the result only.
pub(super) struct Terminal {
    is_terminal: bool,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Terminal { is_terminal: stdin().is_terminal() }
    }

    fn read(&self) -> Result<Option<String>, InitError> {
        let mut line = String::new();
        let read = stdin().lock().read_line(&mut line).map_err(|error| InitError::Input(error.to_string()))?;
        // A pipe shows no answers: the next question begins a line.
        if !self.is_terminal {
            errln!();
        }
        Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl Ask for Terminal {
    fn line(&mut self, question: &str, default: Option<&str>) -> Result<Option<String>, InitError> {
        match default.filter(|default| !default.is_empty()) {
            Some(default) => err!("{question} [{default}]: "),
            None => err!("{question}: "),
        }
        let _ = stderr().flush();
        self.read()
    }

    fn secret(&mut self, question: &str) -> Result<Option<String>, InitError> {
        if self.is_terminal {
            // Before the question, so that nobody answers too early. Without signals: an interrupted program would leave a
            // terminal that shows nothing.
            stty(&["-echo", "-isig"])?;
        }
        err!("{question}: ");
        let _ = stderr().flush();
        let read = self.read();
        if !self.is_terminal {
            return read;
        }
        let restored = stty(&["echo", "isig"]);
        errln!();
        let line = read?;
        restored?;
        Ok(line)
    }

    fn again(&mut self, error: &InitError) -> bool {
        if self.is_terminal {
            errln!("{error}");
        }
        self.is_terminal
    }
}

/// Changes the terminal with the system's own program.
fn stty(arguments: &[&str]) -> Result<(), InitError> {
    let set = Command::new("stty").args(arguments).stdin(Stdio::inherit()).status();
    match set {
        Ok(status) if status.success() => Ok(()),
        _ => Err(InitError::Input("this terminal can't hide a key: give it with --key-file NAME=FILE".to_owned())),
    }
}
