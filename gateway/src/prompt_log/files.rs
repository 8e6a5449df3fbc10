//! The files of the prompt log: one that is written, older ones beside it, compressed, the oldest removed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::PromptLogRules;

/// How the time of a rotation stands in a file's name; it sorts as text.
const STAMP: &str = "%Y%m%dT%H%M%S%3f";

/// The files.
pub(super) struct Files {
    rules: Arc<PromptLogRules>,
    clock: Clock,
    file: File,
    length: u64,
    /// When the file was begun.
    began: DateTime<Utc>,
    /// A write failed half-way: the next one begins a new line.
    torn: bool,
    failing: bool,
}

/// Opens the file to append to it. Nobody else may read what people have asked.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Files {
    pub(super) fn open(rules: Arc<PromptLogRules>, clock: Clock) -> io::Result<Self> {
        if let Some(folder) = rules.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = open(&rules.path)?;
        let known = file.metadata()?;
        let now = clock.wall();
        let began = if known.len() == 0 { now } else { known.created().or_else(|_| known.modified()).map_or(now, DateTime::from) };
        let files = Files { length: known.len(), rules, clock, file, began, torn: false, failing: false };
        files.expire();
        Ok(files)
    }

    /// Appends whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.rotate_if_due(lines.len() as u64);
        let written = if std::mem::take(&mut self.torn) { self.file.write_all(b"\n") } else { Ok(()) };
        let written = written.and_then(|()| self.file.write_all(lines));
        match &written {
            Ok(()) => {
                self.length += lines.len() as u64;
                if std::mem::take(&mut self.failing) {
                    info!("the prompt log can be written again");
                }
            }
            Err(error) => {
                self.torn = true;
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, path = %self.rules.path.display(), "the prompt log can't be written: records are lost until it can");
                }
            }
        }
        written
    }

    /// Rotates a file whose time is over though nothing comes, and removes what is too old.
    pub(super) fn keep_house(&mut self) {
        self.rotate_if_due(0);
    }

    fn rotate_if_due(&mut self, more: u64) {
        if self.length == 0 {
            return;
        }
        let age = (self.clock.wall() - self.began).to_std().unwrap_or_default();
        if self.length + more <= self.rules.rotate_size && age < self.rules.rotate_every {
            return;
        }
        if let Err(error) = self.rotate() {
            // Better a file that is too long than none.
            warn!(%error, "the prompt log can't be rotated");
            self.began = self.clock.wall();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = unused(&self.rules.path, self.clock.wall());
        std::fs::rename(&self.rules.path, &aside)?;
        self.file = open(&self.rules.path)?;
        self.length = 0;
        self.began = self.clock.wall();
        self.torn = false;
        if self.rules.compress {
            // A large file takes its time: on a thread of its own.
            std::thread::Builder::new().name("prompt-log-gz".to_owned()).spawn(move || {
                if let Err(error) = compress(&aside) {
                    warn!(%error, path = %aside.display(), "a part of the prompt log can't be compressed; it stays as it is");
                }
            })?;
        }
        self.expire();
        Ok(())
    }

    /// Removes the parts whose time is over.
    fn expire(&self) {
        let Ok(keep) = chrono::Duration::from_std(self.rules.keep) else { return };
        let oldest = (self.clock.wall() - keep).format(STAMP).to_string();
        for (stamp, path) in parts(&self.rules.path) {
            if stamp < oldest
                && let Err(error) = std::fs::remove_file(&path)
            {
                warn!(%error, path = %path.display(), "an old part of the prompt log can't be removed");
            }
        }
    }
}

/// A name for a part that is taken by none, compressed or not.
fn unused(path: &Path, now: DateTime<Utc>) -> PathBuf {
    let taken = parts(path);
    let stamps = (0..).map(|more| (now + chrono::Duration::milliseconds(more)).format(STAMP).to_string());
    let stamp = stamps.into_iter().find(|stamp| !taken.iter().any(|(other, _)| other == stamp)).unwrap_or_default();
    beside(path, &stamp)
}

/// The name of a part: the file's, and a stamp.
fn beside(path: &Path, stamp: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(stamp);
    name.into()
}

/// The parts beside the file, with their stamps, the oldest first.
pub(super) fn parts(path: &Path) -> Vec<(String, PathBuf)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let stamp = |file: &str| {
        let stamp = file.strip_prefix(name)?.strip_prefix('.')?;
        let stamp = stamp.strip_suffix(".gz").unwrap_or(stamp);
        let right = stamp.len() == 18 && stamp.bytes().enumerate().all(|(at, b)| if at == 8 { b == b'T' } else { b.is_ascii_digit() });
        right.then(|| stamp.to_owned())
    };
    let mut parts: Vec<(String, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((stamp(entry.file_name().to_str()?)?, entry.path()))).collect();
    parts.sort();
    parts
}

/// Compresses a part; the plain one goes once the other is whole.
fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let whole = PathBuf::from(&name);
    name.push(".part");
    let unfinished = PathBuf::from(name);
    let compressed = File::open(path).and_then(|mut from| {
        let to = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut encoder = GzEncoder::new(io::BufWriter::new(to), Compression::default());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish()?.into_inner()?.sync_all()
    });
    if let Err(error) = compressed {
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, &whole)?;
    std::fs::remove_file(path)
}
