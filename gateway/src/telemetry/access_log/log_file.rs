//! The access log's file. If it is removed or replaced, the next lines go to the file that has its name then.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::file_id::FileId;

/// A file to which lines are added.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(LogFile { path: path.to_owned(), file: open(path)? })
    }

    fn find_again(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        // Of a name that can't be looked up nothing is known.
        let Ok(there) = FileId::at(&self.path) else { return Ok(()) };
        // One that was moved away still has a name: lines go there until somebody makes a new one, or the config is loaded again.
        let is_moved = there.is_none() && ours.nlink() > 0;
        if !ours.is_file() || is_moved || there == Some(FileId::of(&ours)) {
            return Ok(());
        }
        self.file = open(&self.path)?;
        warn!(path = %self.path.display(), "the access log's file was removed or replaced: lines go to the one that has its name now");
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.find_again()?;
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_file_that_has_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let mut file = LogFile::open(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(read(&path), "two\n", "removed");
        std::fs::rename(&path, &moved).unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!((read(&moved).as_str(), path.exists()), ("two\nthree\n", false), "moved away: it is kept until there is another one");
        std::fs::write(&path, "").unwrap();
        file.write_all(b"four\n").unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("two\nthree\n", "four\n"));
        std::fs::rename(&moved, &path).unwrap();
        file.write_all(b"five\n").unwrap();
        assert_eq!(read(&path), "two\nthree\nfive\n", "replaced");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(file.write_all(b"six\n").is_err(), "lines that are lost are counted");
        std::fs::create_dir(folder.path()).unwrap();
        file.write_all(b"seven\n").unwrap();
        assert_eq!(read(&path), "seven\n");
        let mut none = LogFile::open(Path::new("/dev/null")).unwrap();
        none.write_all(b"x").unwrap();
    }
}
