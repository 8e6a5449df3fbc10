//! Files with traffic: what is said if one has nothing that can be used.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::simulate::trace::Unused;

/// A file with traffic can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogFileError {
    #[error("can't read {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    #[error("{} has no request that can be used: {why}; {remedy}", .path.display())]
    NoRequest { path: PathBuf, why: String, remedy: &'static str },
    /// `flag` says whose log a file is.
    #[error("{} is no log that this program knows by its first line; say whose it is with {flag}", .path.display())]
    Unknown { path: PathBuf, flag: &'static str },
    /// `flags` choose a time range.
    #[error(
        "{flags} choose from a ledger, and {} is a log file, which is read whole: leave them out, and export the time range that you want",
        .path.display()
    )]
    RangeOfFile { path: PathBuf, flags: &'static str },
}

/// Opens a file that is not empty.
///
/// # Errors
/// If it is, or can't be read.
pub(super) fn open(path: &Path) -> Result<File, LogFileError> {
    let unreadable = |source| LogFileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.is_file() && about.len() == 0 {
        return Err(LogFileError::Empty(path.to_owned()));
    }
    Ok(file)
}

/// The error for a file of which no request was used.
pub(super) fn no_request(path: &Path, unused: &Unused, remedy: &'static str) -> LogFileError {
    let Unused { broken, first_broken, cached, unmetered, unmatched, .. } = unused;
    let mut reasons = Vec::new();
    if *broken > 0 {
        let first = first_broken.as_deref().unwrap_or("unknown");
        reasons.push(format!("lines that can't be read: {broken}, the first is {first}"));
    }
    let counts = [
        (cached, "answers from a cache"),
        (unmetered, "answers whose usage is not known"),
        (unmatched, "tokens of requests that are not in it"),
    ];
    reasons.extend(counts.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{what}: {count}")));
    let why = if reasons.is_empty() { "it has no rows".to_owned() } else { reasons.join("; ") };
    LogFileError::NoRequest { path: path.to_owned(), why, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_requests_says_why_and_what_to_do() {
        let unused = Unused { broken: 3, first_broken: Some("line 2: no time".to_owned()), cached: 2, ..Unused::default() };
        assert_eq!(
            no_request(Path::new("a.csv"), &unused, "do this").to_string(),
            "a.csv has no request that can be used: lines that can't be read: 3, the first is line 2: no time; answers from a cache: 2; do this"
        );
        let none = no_request(Path::new("a.csv"), &Unused::default(), "do this").to_string();
        assert_eq!(none, "a.csv has no request that can be used: it has no rows; do this");
    }
}
