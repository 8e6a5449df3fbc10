//! The files of the prompt log: the current one, rotated ones beside it, which are compressed and finally removed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::PromptLogRules;
use crate::private::open;

/// The time of a rotation in a file's name; names sort by time.
const STAMP: &str = "%Y%m%dT%H%M%S%3f";

/// The files.
pub(super) struct Files {
    rules: Arc<PromptLogRules>,
    clock: Clock,
    file: File,
    length: u64,
    /// When the current file was begun.
    began: DateTime<Utc>,
    /// A write failed half-way: the next one starts a new line.
    torn: bool,
    failing: bool,
    /// When rotated files were last cleaned up.
    kept_at: DateTime<Utc>,
}

/// Whether the file ends within a line, because its writer was interrupted.
fn is_torn(file: &File, length: u64) -> bool {
    let mut last = [b'\n'];
    length > 0 && file.read_exact_at(&mut last, length - 1).is_ok() && last != *b"\n"
}

impl Files {
    pub(super) fn open(rules: Arc<PromptLogRules>, clock: Clock) -> io::Result<Self> {
        if let Some(folder) = rules.path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            std::fs::create_dir_all(folder)?;
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        let file = open(&rules.path)?;
        let known = file.metadata()?;
        let now = clock.wall();
        let began = if known.len() == 0 { now } else { known.created().or_else(|_| known.modified()).map_or(now, DateTime::from) };
        let torn = is_torn(&file, known.len());
        let files = Files { length: known.len(), rules, clock, file, began, torn, failing: false, kept_at: now };
        files.expire();
        files.finish_parts();
        Ok(files)
    }

    /// Appends whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.find_again();
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
                    error!(%error, path = %self.rules.path.display(), "the prompt log can't be written: records are lost until it can be written again");
                }
            }
        }
        written
    }

    /// The file may have been moved or removed: then a new one is opened at the configured path.
    fn find_again(&mut self) {
        let ours = self.file.metadata().map(|file| (file.dev(), file.ino()));
        let there = std::fs::metadata(&self.rules.path).map(|file| (file.dev(), file.ino()));
        if matches!((ours, there), (Ok(ours), Ok(there)) if ours == there) {
            return;
        }
        if let Ok(file) = open(&self.rules.path) {
            self.length = file.metadata().map_or(0, |file| file.len());
            self.torn = is_torn(&file, self.length);
            self.file = file;
            self.began = self.clock.wall();
        }
    }

    /// Rotates a file whose time is over, also without new records, and now and then removes old files.
    pub(super) fn maintain(&mut self) {
        self.find_again();
        self.rotate_if_due(0);
        let now = self.clock.wall();
        if now - self.kept_at >= chrono::Duration::hours(1) {
            self.kept_at = now;
            self.expire();
            self.finish_parts();
        }
    }

    /// Compresses what an earlier process has left, and removes its unfinished files.
    fn finish_parts(&self) {
        if !self.rules.compress {
            return;
        }
        for (_, path) in parts(&self.rules.path).into_iter().filter(|(_, path)| path.extension().is_none_or(|kind| kind != "gz")) {
            compress_soon(path);
        }
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
            // A file that is too long is better than none; the rotation is tried again later.
            warn!(%error, "the prompt log can't be rotated");
            self.began = self.clock.wall();
            self.length = 0;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = unused(&self.rules.path, self.clock.wall());
        std::fs::rename(&self.rules.path, &aside)?;
        // If this fails, the next write opens the file again.
        self.file = open(&self.rules.path)?;
        self.length = 0;
        self.began = self.clock.wall();
        self.torn = false;
        if self.rules.compress {
            compress_soon(aside);
        }
        self.expire();
        Ok(())
    }

    /// Removes rotated files that are too old.
    fn expire(&self) {
        let Ok(keep) = chrono::Duration::from_std(self.rules.keep) else { return };
        let oldest = (self.clock.wall() - keep).format(STAMP).to_string();
        for (stamp, path) in parts(&self.rules.path) {
            if stamp < oldest
                && let Err(error) = std::fs::remove_file(&path)
            {
                warn!(%error, path = %path.display(), "an old file of the prompt log can't be removed");
            }
        }
    }
}

/// A name for a rotated file that is not in use, compressed or not.
fn unused(path: &Path, now: DateTime<Utc>) -> PathBuf {
    let taken = parts(path);
    let stamps = (0..).map(|more| (now + chrono::Duration::milliseconds(more)).format(STAMP).to_string());
    let stamp = stamps.into_iter().find(|stamp| !taken.iter().any(|(other, _)| other == stamp)).unwrap_or_default();
    beside(path, &stamp)
}

/// The name of a rotated file: the current file's name, and a time.
fn beside(path: &Path, stamp: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(stamp);
    name.into()
}

/// The rotated files with their times, the oldest first.
fn parts(path: &Path) -> Vec<(String, PathBuf)> {
    read_parts(path).unwrap_or_default()
}

/// The same.
///
/// # Errors
/// If their folder can't be read.
pub(super) fn read_parts(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let entries = std::fs::read_dir(folder).map_err(|error| at(folder, &error))?;
    let stamp = |file: &str| {
        let stamp = file.strip_prefix(name)?.strip_prefix('.')?;
        let stamp = stamp.strip_suffix(".gz").unwrap_or(stamp);
        let right = stamp.len() == 18 && stamp.bytes().enumerate().all(|(at, b)| if at == 8 { b == b'T' } else { b.is_ascii_digit() });
        right.then(|| stamp.to_owned())
    };
    let mut parts: Vec<(String, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((stamp(entry.file_name().to_str()?)?, entry.path()))).collect();
    parts.sort();
    // A plain file beside its compressed one is about to be removed: it counts once.
    parts.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = std::mem::take(&mut later.1);
        }
        same
    });
    Ok(parts)
}

/// An error with the file or folder that it is about.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Compresses a file on a thread of its own, because a large one takes time.
fn compress_soon(path: PathBuf) {
    let work = move || {
        if let Err(error) = compress(&path) {
            warn!(%error, path = %path.display(), "a file of the prompt log can't be compressed; it stays uncompressed");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("prompt-log-gz".to_owned()).spawn(work) {
        warn!(%error, "a file of the prompt log can't be compressed yet");
    }
}

/// One file at a time: two threads never compress the same one.
static COMPRESSING: Mutex<()> = Mutex::new(());

/// Compresses a file; the plain one is removed once the compressed one is complete.
fn compress(path: &Path) -> io::Result<()> {
    let _alone = COMPRESSING.lock();
    if !path.exists() {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let whole = PathBuf::from(&name);
    name.push(".part");
    let unfinished = PathBuf::from(name);
    let compressed = File::open(path).and_then(|from| {
        // An earlier process has left this one unfinished.
        let _ = std::fs::remove_file(&unfinished);
        let to = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        let mut encoder = GzEncoder::new(io::BufWriter::new(to), Compression::fast());
        // The larger pieces of the reader are used: a call for each 8 KiB takes as long as a part of the compression.
        let copied = io::copy(&mut io::BufReader::with_capacity(64 * 1024, from), &mut encoder)?;
        encoder.finish()?.into_inner()?.sync_all()?;
        Ok(copied)
    });
    let copied = compressed.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
    if std::fs::metadata(path)?.len() != copied {
        // Another process still writes to it: compressed later.
        return std::fs::remove_file(&unfinished);
    }
    std::fs::rename(&unfinished, &whole)?;
    std::fs::remove_file(path)
}
