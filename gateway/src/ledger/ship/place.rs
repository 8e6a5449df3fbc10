//! The place that all nodes share: it has files, by node and day, and the state of each node.

use std::fs::File;
use std::io;
use std::time::SystemTime;

/// A place can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A folder or file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// There is no such folder.
    #[error("the folder '{path}' does not exist: mount the place that all nodes share, or create the folder there")]
    Missing {
        /// Its path.
        path: String,
    },
    /// Redis can't be used. Its message is left out: it may have the password.
    #[error("Redis: {0}")]
    Redis(String),
    /// Redis holds no long files.
    #[error("single attempts are shipped to a folder, not to Redis")]
    NoFolder,
    /// There is no `[redis]` in the config.
    #[error("there is no [redis] section in the config, which says where Redis is")]
    NoRedis,
}

/// A state file.
#[derive(Debug)]
pub struct StateFile {
    /// The folder of its node.
    pub folder: String,
    /// Its name.
    pub name: String,
    /// What it has.
    pub bytes: Vec<u8>,
}

/// What is in a place, beside the files themselves.
#[derive(Debug, Default)]
pub struct Survey {
    /// The folders of nodes, and the days of which each has files.
    pub days: Vec<(String, String)>,
    /// The state files.
    pub states: Vec<StateFile>,
    /// Paths of what is neither.
    pub foreign: Vec<String>,
    /// Paths of what can't be read, and why: whoever else writes to the place must not keep everybody from reading it.
    pub unreadable: Vec<(String, io::Error)>,
}

/// Writes what a file has, and returns its name; `None` if there is nothing to write.
pub type MakeFile<'m> = dyn FnMut(&mut File) -> io::Result<Option<String>> + 'm;

/// A place. Files are known by their folder (the node's), their day and their name.
pub trait Place: Send {
    /// What there is: of one node, or of all.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn survey(&mut self, folder: Option<&str>) -> Result<Survey, PlaceError>;

    /// The names of a node's files of a day, without those that are being written.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn names(&mut self, folder: &str, day: &str) -> Result<Vec<String>, PlaceError>;

    /// A file; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn read(&mut self, folder: &str, day: &str, name: &str) -> Result<Option<Vec<u8>>, PlaceError>;

    /// Writes a file: readers see all of it or nothing.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn write(&mut self, folder: &str, day: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn remove(&mut self, folder: &str, day: &str, name: &str) -> Result<(), PlaceError>;

    /// Removes all files of a day.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn remove_day(&mut self, folder: &str, day: &str) -> Result<(), PlaceError>;

    /// Writes a state file.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn write_state(&mut self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError>;

    /// Writes a file whose name is only known at its end, as [`Place::write`].
    ///
    /// # Errors
    /// [`PlaceError`], also if the place has no room for long files.
    fn write_made(&mut self, folder: &str, day: &str, make: &mut MakeFile<'_>) -> Result<(), PlaceError>;

    /// Removes what a process has left unfinished before this time: among a node's files of a day, or among its state files.
    ///
    /// # Errors
    /// [`PlaceError`]
    fn remove_unfinished(&mut self, folder: &str, day: Option<&str>, before: SystemTime) -> Result<(), PlaceError>;
}
