//! A file to which several processes add, during an upgrade: one at a time, and to the file that has the name now.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::file_id::FileId;
use crate::private;

/// Waits until no other process writes the file at `path`, and locks it. `opened`: the file that was opened for it before.
/// If that one has been replaced meanwhile, or there was none, its successor is opened; then the second value is true.
///
/// # Errors
/// If it can't be opened, made or locked.
pub fn lock(path: &Path, opened: Option<File>) -> io::Result<(File, bool)> {
    let (mut opened, mut is_new) = (opened, false);
    loop {
        let file = match opened.take() {
            Some(file) => file,
            None => {
                is_new = true;
                private::open(path)?
            }
        };
        file.lock()?;
        let known = FileId::of(&file.metadata()?);
        if FileId::at(path).is_ok_and(|now| now == Some(known)) {
            return Ok((file, is_new));
        }
    }
}

/// Puts the names of new files in a folder on the disk, too.
///
/// # Errors
/// If it can't be done.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
