//! Which file it is, whatever its name: a file that is open may lose its name, and another one may get it.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that has this name now, if there is one.
    ///
    /// # Errors
    /// If it isn't known.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(file) => Ok(Some(FileId::of(&file))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file that this is known of.
    pub fn of(file: &Metadata) -> Self {
        FileId { device: file.dev(), inode: file.ino() }
    }
}
