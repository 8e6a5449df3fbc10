//! The file of issued keys: `keys` in `server.state_dir`, mode 0600.
//!
//! A change is a line at the end, which is on the disk before it counts. Two processes may use the file at the same time,
//! during an upgrade: each holds the file's lock while it writes, and reads first what the other one has added. From time
//! to time the file is written anew, without what is outdated, and takes the old one's place in one step.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use tracing::{error, warn};

use super::memory::{Memory, Source};
use super::record::StoredKey;
use super::text::{self, Contents, HEADER};
use crate::appended_file::{self, sync_folder};
use crate::file_id::FileId;
use crate::private;

/// Its name in `state_dir`.
const FILE: &str = "keys";
/// Lines that the file may have for each key, and besides, before it is written anew.
const LINES: (usize, usize) = (2, 100);

/// The file, opened.
#[derive(Debug)]
struct Opened {
    file: File,
    /// How much of it has been read.
    read: u64,
    /// Lines that have been read.
    lines: usize,
}

/// The file of issued keys.
#[derive(Debug)]
pub(super) struct KeyFile {
    folder: PathBuf,
    path: PathBuf,
    opened: Option<Opened>,
    /// Whether it has something that is no key: it is written anew before anything is added.
    unclean: bool,
    /// The least number of lines at which it is written anew.
    least: usize,
}

impl KeyFile {
    /// The file in this folder. It is made when it is first used.
    pub(super) fn new(folder: &Path) -> Self {
        KeyFile { folder: folder.to_owned(), path: folder.join(FILE), opened: None, unclean: false, least: LINES.1 }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has been read at all.
    pub(super) fn is_read(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.read > 0)
    }

    /// Whether the file differs from what was read: another process has written it, or it was replaced or removed.
    pub(super) fn has_changed(&self) -> bool {
        let Some(opened) = &self.opened else { return true };
        match (std::fs::metadata(&self.path), opened.file.metadata()) {
            (Ok(now), Ok(known)) => FileId::of(&now) != FileId::of(&known) || now.len() != opened.read,
            _ => true,
        }
    }

    /// Gives `memory` what is new in the file, and then adds the changes, if there are any, as one line. When this
    /// returns, they are on the disk. What isn't readable is copied to a file beside it, named by `now`.
    ///
    /// # Errors
    /// Of `changes`, or if the file can't be read or written; then nothing of the changes counts.
    pub(super) fn write<E: From<io::Error>>(
        &mut self,
        now: DateTime<Utc>,
        memory: &Memory,
        changes: impl FnOnce() -> Result<Vec<StoredKey>, E>,
    ) -> Result<Vec<StoredKey>, E> {
        self.lock()?;
        let done = self.read_news(now, memory).map_err(E::from).and_then(|()| {
            let changes = changes()?;
            self.add(&changes, memory)?;
            Ok(changes)
        });
        if let Some(opened) = &self.opened {
            let _ = opened.file.unlock();
        }
        done
    }

    /// Waits until no other process writes the file.
    fn lock(&mut self) -> io::Result<()> {
        let known = self.opened.take();
        let (read, lines) = known.as_ref().map_or((0, 0), |known| (known.read, known.lines));
        let (file, is_new) = appended_file::lock(&self.path, known.map(|known| known.file))?;
        // If the file has been replaced meanwhile, its successor is read from its beginning.
        self.opened = Some(if is_new { Opened { file, read: 0, lines: 0 } } else { Opened { file, read, lines } });
        Ok(())
    }

    fn read_news(&mut self, now: DateTime<Utc>, memory: &Memory) -> io::Result<()> {
        let opened = opened(&mut self.opened)?;
        if opened.file.metadata()?.len() < opened.read {
            // Somebody has shortened it. What was read stays known, and is written again.
            (opened.read, opened.lines) = (0, 0);
            self.unclean = true;
        }
        let from = opened.read;
        let mut bytes = Vec::new();
        opened.file.seek(SeekFrom::Start(from))?;
        opened.file.read_to_end(&mut bytes)?;
        let contents = if from == 0 { text::file(&bytes) } else { Ok(text::lines(&bytes)) };
        opened.read = from + bytes.len() as u64;
        // A first line that was cut off.
        self.unclean |= from == 0 && (1..HEADER.len()).contains(&bytes.len());
        match contents {
            Ok(Contents { keys, lines, damaged: (damaged, pieces) }) => {
                opened.lines += lines;
                memory.learn(keys.iter().cloned(), Source::File);
                // A file that somebody has replaced or removed.
                self.unclean |= from == 0 && memory.has_more_than(&keys);
                if pieces > 0 {
                    self.set_aside("damaged", &damaged, now, "a part of it is damaged");
                    memory.damaged(pieces);
                }
                self.unclean |= pieces > 0;
            }
            Err(foreign) => {
                self.unclean = true;
                self.set_aside("foreign", &bytes, now, &foreign.to_string());
                memory.damaged(1);
            }
        }
        Ok(())
    }

    /// Keeps bytes that are no keys in a file beside it.
    fn set_aside(&self, kind: &str, bytes: &[u8], now: DateTime<Utc>, why: &str) {
        let beside = self.folder.join(format!("{FILE}.{kind}-{}", now.format("%Y%m%dT%H%M%S%.6fZ")));
        let kept = private::create(&beside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        let (path, aside, bytes) = (self.path.display(), beside.display(), bytes.len());
        match kept {
            Ok(()) => warn!(%path, %aside, bytes, "the file of issued keys: {why}; that part is set aside, the rest is used"),
            Err(error) => error!(%path, bytes, %error, "the file of issued keys: {why}, and that part can't be set aside"),
        }
    }

    fn add(&mut self, changes: &[StoredKey], memory: &Memory) -> io::Result<()> {
        let lines = opened(&mut self.opened)?.lines;
        if self.unclean {
            return self.replace(changes, memory);
        }
        if !changes.is_empty() {
            self.append(&text::line(changes))?;
        }
        let most = memory.len() * LINES.0 + LINES.1;
        if lines > most.max(self.least) {
            // The change is stored already: if the disk is full now, the file stays as it is.
            self.least = lines + LINES.1;
            if self.replace(changes, memory).is_ok() {
                self.least = 0;
            }
        }
        Ok(())
    }

    /// Adds text at the end, and waits until it is on the disk.
    fn append(&mut self, line: &str) -> io::Result<()> {
        let opened = opened(&mut self.opened)?;
        let before = opened.read;
        let text = format!("{}{line}", if before == 0 { HEADER } else { "" });
        if let Err(error) = opened.file.write_all(text.as_bytes()).and_then(|()| opened.file.sync_data()) {
            // Nothing of it may count. If it can't be taken back, the file is written anew the next time.
            self.unclean |= opened.file.set_len(before).is_err();
            return Err(error);
        }
        opened.read = before + text.len() as u64;
        opened.lines += 1;
        if before == 0 { sync_folder(&self.folder) } else { Ok(()) }
    }

    /// Writes all keys, and changes that `memory` doesn't know yet, into a new file, which takes the place of this one.
    fn replace(&mut self, changes: &[StoredKey], memory: &Memory) -> io::Result<()> {
        let all = memory.all();
        let mut text = all.iter().fold(HEADER.to_owned(), |text, key| text + &text::line([key]));
        if !changes.is_empty() {
            text += &text::line(changes);
        }
        let new = self.folder.join(format!("{FILE}.new"));
        let made = private::create(&new).and_then(|mut file| {
            // Before others can see it: they must not write between this and what follows.
            file.lock()?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            Ok(file)
        });
        let file = made.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
        self.opened = Some(Opened { file, read: text.len() as u64, lines: all.len() + usize::from(!changes.is_empty()) });
        self.unclean = false;
        sync_folder(&self.folder)?;
        memory.saved(&all);
        Ok(())
    }
}

fn opened(opened: &mut Option<Opened>) -> io::Result<&mut Opened> {
    opened.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests;
