//! The place that all nodes share: it has files, by node and day, and the state of each node.

use std::io;

pub use super::folder::Folder;
use super::in_redis::InRedis;
use crate::config::{Redis, ShipTo};

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
    /// Redis can't be used. Its message is left out: it may have the password.
    #[error("Redis: {0}")]
    Redis(String),
    /// There is no `[redis]` in the config.
    #[error("there is no [redis] section in the config, which says where Redis is")]
    NoRedis,
}

/// What is in a place, beside the files themselves.
#[derive(Debug, Default)]
pub struct Survey {
    /// The folders of nodes, and the days of which each has files.
    pub days: Vec<(String, String)>,
    /// The contents of state files.
    pub states: Vec<Vec<u8>>,
    /// Paths of what is neither.
    pub foreign: Vec<String>,
}

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

    /// The place as a folder, if it is one.
    fn as_folder(&self) -> Option<&Folder>;
}

/// Opens a place; doesn't connect yet.
///
/// # Errors
/// [`PlaceError`]
pub fn open(to: &ShipTo, redis: Option<&Redis>) -> Result<Box<dyn Place>, PlaceError> {
    match to {
        ShipTo::Folder(path) => Ok(Box::new(Folder::new(path.clone()))),
        ShipTo::Redis => Ok(Box::new(InRedis::new(redis.ok_or(PlaceError::NoRedis)?)?)),
    }
}
