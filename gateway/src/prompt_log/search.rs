//! Finds records in the prompt log, also in rotated files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::files::{at, read_parts};

/// The conditions of a search; a record must meet all of them.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The request's id.
    pub id: Option<String>,
    /// The consumer.
    pub consumer: Option<String>,
    /// From this time on.
    pub since: Option<DateTime<Utc>>,
    /// Until this time.
    pub until: Option<DateTime<Utc>>,
    /// A text anywhere in the record, exactly as written.
    pub text: Option<String>,
}

/// The fields of a record that a search uses.
#[derive(Deserialize)]
struct Facts {
    time: String,
    id: String,
    consumer: Option<String>,
}

impl Search {
    fn fits(&self, line: &str) -> bool {
        // A cheap test first: most lines don't match.
        if self.text.iter().chain(&self.id).any(|text| !line.contains(text.as_str())) {
            return false;
        }
        // An incomplete line is skipped.
        let Ok(facts) = serde_json::from_str::<Facts>(line) else { return false };
        let Ok(time) = DateTime::parse_from_rfc3339(&facts.time) else { return false };
        self.id.as_ref().is_none_or(|id| *id == facts.id)
            && self.consumer.as_ref().is_none_or(|name| facts.consumer.as_ref() == Some(name))
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
    }
}

/// Writes the matching records, the oldest file first. Returns how many.
///
/// # Errors
/// If a file can't be read, or the output can't be written.
pub fn search(path: &Path, search: &Search, mut to: impl Write) -> io::Result<u64> {
    let mut found = 0;
    let mut files: Vec<_> = read_parts(path)?.into_iter().map(|(_, path)| path).collect();
    files.push(path.to_owned());
    for file in files {
        // A file that was compressed meanwhile may be gone: its compressed one is listed next time.
        let opened = match File::open(&file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at(&file, &error)),
        };
        let reader: Box<dyn Read> =
            if file.extension().is_some_and(|kind| kind == "gz") { Box::new(MultiGzDecoder::new(opened)) } else { Box::new(opened) };
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = reader.read_until(b'\n', &mut bytes);
            let read = read.map_err(|error| at(&file, &error))?;
            if read == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end_matches('\n');
            if search.fits(line) {
                writeln!(to, "{line}")?;
                found += 1;
            }
        }
    }
    Ok(found)
}
