//! A folder that all nodes can write: `NODE/DAY/FILE`, and `NODE/LEDGER.json` for the state.
//!
//! A file is written under another name, brought to the disk and then renamed. What a file has is checked with the checksum in
//! its name, so that a file system that does less than this (as mounted object stores do) costs a report a file that is set
//! aside, and never a wrong sum.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;

use super::name::first_hour_of;
use super::place::{MakeFile, Place, PlaceError, StateFile, Survey};

/// The beginning of names of files that are being written.
const UNFINISHED: &str = ".unfinished-";
/// Longest file with sums, compressed, in bytes.
const LONGEST_FILE: u64 = 256 << 20;
/// Longest state file, in bytes.
const LONGEST_STATE: u64 = 16 << 20;

/// A folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// This folder, which must exist when it is used.
    pub fn new(path: PathBuf) -> Self {
        Folder { path }
    }

    /// Checks that something is mounted, or a report would be empty and complete.
    fn is_there(&self) -> Result<(), PlaceError> {
        match fs::metadata(&self.path) {
            Ok(_) => Ok(()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(PlaceError::Missing { path: self.path.display().to_string() }),
            Err(source) => Err(at(&self.path, source)),
        }
    }

    /// A folder below this one, which is made if it is missing. This one is not: if it is missing, nothing is mounted there.
    fn made(&self, folder: &Path, day: Option<&str>) -> Result<PathBuf, PlaceError> {
        self.is_there()?;
        let mut path = self.path.join(folder);
        path.extend(day);
        DirBuilder::new().recursive(true).mode(0o750).create(&path).map_err(|source| at(&path, source))?;
        Ok(path)
    }

    /// Writes a file that gets its name when it is on the disk. Nobody can guess its name before, and what has that name already, such
    /// as a link to another file, is not written to.
    fn write_new(&self, folder: &str, day: Option<&str>, make: &mut MakeFile<'_>) -> Result<(), PlaceError> {
        let into = self.made(Path::new(folder), day)?;
        let unfinished = into.join(format!("{UNFINISHED}{}-{:016x}", std::process::id(), fastrand::u64(..)));
        let mut written = || -> io::Result<bool> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&unfinished)?;
            let Some(name) = make(&mut file)? else { return Ok(false) };
            file.sync_all()?;
            fs::rename(&unfinished, into.join(name))?;
            synced(&into)?;
            Ok(true)
        };
        let written = written();
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&unfinished);
        }
        written.map(drop).map_err(|source| at(&into, source))
    }
}

impl Place for Folder {
    fn survey(&mut self, folder: Option<&str>) -> Result<Survey, PlaceError> {
        self.is_there()?;
        let mut survey = Survey::default();
        let nodes = match folder {
            Some(folder) => vec![(folder.to_owned(), self.path.join(folder))],
            None => entries(&self.path)?,
        };
        for (node, path) in nodes {
            if folder.is_none() && !path.is_dir() {
                survey.foreign.push(node);
                continue;
            }
            let inside = match listed(&path) {
                Ok(inside) => inside,
                Err(source) if folder.is_none() => {
                    survey.unreadable.push((node, source));
                    continue;
                }
                Err(source) => return Err(at(&path, source)),
            };
            for (name, path) in inside {
                let is_state = name.strip_suffix(".json").is_some_and(|number| number.len() == 16);
                if first_hour_of(&name).is_some() && path.is_dir() {
                    survey.days.push((node.clone(), name));
                } else if is_state {
                    match read_file(&path, LONGEST_STATE) {
                        Ok(bytes) => survey.states.extend(bytes.map(|bytes| StateFile { folder: node.clone(), name, bytes })),
                        Err(source) => survey.unreadable.push((format!("{node}/{name}"), source)),
                    }
                } else if !name.starts_with(UNFINISHED) {
                    survey.foreign.push(format!("{node}/{name}"));
                }
            }
        }
        Ok(survey)
    }

    fn names(&mut self, folder: &str, day: &str) -> Result<Vec<String>, PlaceError> {
        let all = entries(&self.path.join(folder).join(day))?;
        Ok(all.into_iter().map(|(name, _)| name).filter(|name| !name.starts_with(UNFINISHED)).collect())
    }

    fn read(&mut self, folder: &str, day: &str, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let path = self.path.join(folder).join(day).join(name);
        read_file(&path, LONGEST_FILE).map_err(|source| at(&path, source))
    }

    fn write(&mut self, folder: &str, day: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        self.write_made(folder, day, &mut |file| file.write_all(bytes).map(|()| Some(name.to_owned())))
    }

    fn remove(&mut self, folder: &str, day: &str, name: &str) -> Result<(), PlaceError> {
        let path = self.path.join(folder).join(day).join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(&path, source)),
            _ => Ok(()),
        }
    }

    fn remove_day(&mut self, folder: &str, day: &str) -> Result<(), PlaceError> {
        let path = self.path.join(folder).join(day);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(&path, source)),
            _ => Ok(()),
        }
    }

    fn write_state(&mut self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        self.write_new(folder, None, &mut |file| file.write_all(bytes).map(|()| Some(name.to_owned())))
    }

    fn write_made(&mut self, folder: &str, day: &str, make: &mut MakeFile<'_>) -> Result<(), PlaceError> {
        self.write_new(folder, Some(day), make)
    }

    fn remove_unfinished(&mut self, folder: &str, day: Option<&str>, before: SystemTime) -> Result<(), PlaceError> {
        let mut within = self.path.join(folder);
        within.extend(day);
        for (name, path) in entries(&within)? {
            let modified = || fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            if name.starts_with(UNFINISHED) && modified().is_ok_and(|modified| modified < before) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// Reads a file of at most so many bytes; `None` if it is missing. Opening a named pipe or a device neither waits nor succeeds.
fn read_file(path: &Path, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > longest {
        return Err(io::Error::other(format!("it has more than {longest} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(longest).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// [`listed`], with an error that names the folder.
fn entries(path: &Path) -> Result<Vec<(String, PathBuf)>, PlaceError> {
    listed(path).map_err(|source| at(path, source))
}

/// What is in a folder; nothing if it is missing. Names that are not UTF-8 are shown as they can be.
fn listed(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let read = || -> io::Result<Vec<(String, PathBuf)>> {
        let all = fs::read_dir(path)?.map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())));
        all.collect()
    };
    match read() {
        Ok(mut all) => {
            all.sort();
            Ok(all)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Brings a folder's names to the disk, where the file system can.
fn synced(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Err(error),
        _ => Ok(()),
    }
}

fn at(path: &Path, source: io::Error) -> PlaceError {
    PlaceError::File { path: path.display().to_string(), source }
}
