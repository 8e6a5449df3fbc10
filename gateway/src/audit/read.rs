//! Reads the audit log, the newest lines first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;

use super::file::files;

/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// Up to `most` acts, the newest first, that are not older than `since` (as their lines write it).
///
/// # Errors
/// If a file can't be read.
pub(super) fn newest(folder: &Path, since: &str, most: usize) -> io::Result<Vec<Value>> {
    let mut found = Vec::new();
    for path in files(folder) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut lines = Backwards::new(&file)?;
        while let Some(line) = lines.next()? {
            // What was torn by a crash is no act.
            let Ok(act) = serde_json::from_slice::<Value>(&line) else { continue };
            let Some(time) = act["time"].as_str() else { continue };
            if found.len() == most || time < since {
                return Ok(found);
            }
            found.push(act);
        }
    }
    Ok(found)
}

/// The lines of a file, the last one first.
struct Backwards<'f> {
    file: &'f File,
    /// What comes before this has not been read.
    at: u64,
    /// What has been read, and not returned.
    rest: Vec<u8>,
}

impl<'f> Backwards<'f> {
    fn new(file: &'f File) -> io::Result<Self> {
        Ok(Backwards { file, at: file.metadata()?.len(), rest: Vec::new() })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let line = self.rest.split_off(end + 1);
                self.rest.truncate(end);
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.at == 0 {
                let line = std::mem::take(&mut self.rest);
                return Ok((!line.is_empty()).then_some(line));
            }
            let from = self.at.saturating_sub(PIECE);
            let mut piece = vec![0; usize::try_from(self.at - from).unwrap_or(0)];
            self.file.read_exact_at(&mut piece, from)?;
            piece.extend_from_slice(&self.rest);
            (self.rest, self.at) = (piece, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn line(number: usize, length: usize) -> String {
        json!({ "time": format!("{number:05}"), "text": "x".repeat(length) }).to_string()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_newest_acts_come_first_across_files(lengths in prop::collection::vec(0..90_000usize, 0..12), cut in 0..12usize, most in 0..15usize, since in 0..12usize) {
            let folder = tempfile::tempdir().unwrap();
            let lines: Vec<String> = lengths.iter().enumerate().map(|(number, length)| line(number, *length)).collect();
            let (older, newer) = lines.split_at(cut.min(lines.len()));
            std::fs::write(folder.path().join("audit.log.1"), older.join("\n")).unwrap();
            std::fs::write(folder.path().join("audit.log"), newer.join("\n") + "\n{\"time\": torn").unwrap();
            let read = newest(folder.path(), &format!("{since:05}"), most).unwrap();
            let numbers: Vec<usize> = read.iter().map(|act| act["time"].as_str().unwrap().parse().unwrap()).collect();
            let expected: Vec<usize> = (since..lines.len()).rev().take(most).collect();
            prop_assert_eq!(numbers, expected);
        }
    }
}
