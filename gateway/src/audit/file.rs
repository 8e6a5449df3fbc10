//! The audit log's files: `audit.log` in `server.state_dir`, mode 0600, and older ones beside it.
//!
//! Lines are only added. When the file is full it is renamed to `audit.log.1`, that one to `audit.log.2`, and so on; the
//! oldest one is removed. During an upgrade two processes may write it: each holds the file's lock while it does.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::appended_file::{self, sync_folder};

/// Its name in `state_dir`.
const FILE: &str = "audit.log";
/// The size of a file at which another one is begun, in bytes.
pub(super) const FULL: u64 = 16 << 20;
/// The number of older files.
const OLDER: usize = 31;

/// The file that is written.
#[derive(Debug)]
pub(super) struct AuditFile {
    folder: PathBuf,
    opened: Option<File>,
    full: u64,
}

/// The files in a folder, the newest first.
pub(super) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let older = |number: usize| format!("{FILE}.{number}");
    let names: Vec<PathBuf> = std::iter::once(folder.join(FILE)).chain((1..=OLDER).map(|number| folder.join(older(number)))).collect();
    names.into_iter()
}

impl AuditFile {
    pub(super) fn new(folder: &Path, full: u64) -> Self {
        AuditFile { folder: folder.to_owned(), opened: None, full }
    }

    /// Adds a line. When this returns, it is on the disk.
    ///
    /// # Errors
    /// If it can't be written; then nothing of it is in the file, or a torn line.
    pub(super) fn add(&mut self, line: &str) -> io::Result<()> {
        let file = self.lock()?;
        let added = add(&file, line);
        let length = file.metadata().map_or(0, |data| data.len());
        if length >= self.full && self.make_room().is_ok() {
            // The lock ends with the file.
            return added;
        }
        let _ = file.unlock();
        self.opened = Some(file);
        added
    }

    /// Waits until no other process writes the file.
    fn lock(&mut self) -> io::Result<File> {
        let (file, is_new) = appended_file::lock(&self.folder.join(FILE), self.opened.take())?;
        if is_new {
            sync_folder(&self.folder)?;
        }
        Ok(file)
    }

    /// Renames the files, so that the next line begins another one.
    fn make_room(&self) -> io::Result<()> {
        let names: Vec<PathBuf> = files(&self.folder).collect();
        for pair in names.windows(2).rev() {
            match std::fs::rename(&pair[0], &pair[1]) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_folder(&self.folder)
    }
}

fn add(mut file: &File, line: &str) -> io::Result<()> {
    let before = file.metadata()?.len();
    let mut last = [b'\n'];
    if before > 0 {
        file.read_exact_at(&mut last, before - 1)?;
    }
    // A torn line of a process that was killed must not take this one with it.
    let text = format!("{}{line}\n", if last == [b'\n'] { "" } else { "\n" });
    file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).inspect_err(|_| drop(file.set_len(before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_renamed_when_they_are_full_and_the_oldest_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AuditFile::new(folder.path(), 20);
        for number in 0..80 {
            file.add(&format!("line {number:05}")).unwrap();
        }
        let texts: Vec<String> = files(folder.path()).filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        assert_eq!(texts.len(), OLDER, "the newest one begins with the next line");
        assert_eq!(texts[0], "line 00078\nline 00079\n");
        assert!(texts.iter().all(|text| text.len() == 22));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("audit.log.1")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), OLDER, "nothing else is left");
    }

    #[test]
    fn two_processes_lose_no_line_and_a_torn_one_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "torn").unwrap();
        let (mut one, mut two) = (AuditFile::new(folder.path(), 25), AuditFile::new(folder.path(), 25));
        for number in 0..6 {
            let file = if number % 3 == 0 { &mut one } else { &mut two };
            file.add(&format!("line {number:05}")).unwrap();
        }
        let mut lines: Vec<String> = files(folder.path())
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.sort();
        let written: Vec<String> = (0..6).map(|number| format!("line {number:05}")).collect();
        assert_eq!(lines, [written, vec!["torn".to_owned()]].concat());
    }
}
