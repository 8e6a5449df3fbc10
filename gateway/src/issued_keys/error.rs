//! Why a key can't be issued or changed.

use std::io;
use std::path::PathBuf;

use crate::redis::RedisError;

/// Why a key can't be issued or changed. If it isn't said otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is no folder for keys.
    #[error(
        "keys can't be issued at run time, because there is no folder to store them in: set server.state_dir and restart, or \
         put the key into the config file with 'spillway keys new'"
    )]
    NoFolder,
    /// The config has no such consumer.
    #[error("there is no consumer '{name}' in the config (known: {known})")]
    UnknownConsumer {
        /// The name that was given.
        name: String,
        /// Some names of consumers.
        known: String,
    },
    /// The consumer may not use such a model.
    #[error("the consumer '{consumer}' has no model '{model}': a key may be used for fewer models than its consumer, not for others")]
    UnknownModel {
        /// The consumer.
        consumer: String,
        /// The model that was given.
        model: String,
    },
    /// A list of models is empty, or too long.
    #[error("give 1 to {most} models, or none of this list for all models of the consumer")]
    Models {
        /// The largest number.
        most: usize,
    },
    /// A text is too long, or has control characters.
    #[error("'{field}' must have 1 to {most} characters, and no control characters")]
    Text {
        /// Its field.
        field: &'static str,
        /// Most characters.
        most: usize,
    },
    /// The key would never be valid.
    #[error("the key would never be valid: its end must be in the future, and after 'not_before'")]
    NeverValid,
    /// No key has this id. It isn't repeated: somebody may have sent the key itself.
    #[error("no issued key has this id; GET /api/keys lists them. Keys of the config file are changed there")]
    UnknownKey,
    /// The key has ended.
    #[error("the key '{id}' is revoked or expired: it can't be rotated; issue another one")]
    Ended {
        /// Its id.
        id: String,
    },
    /// Another key has taken its place.
    #[error("another key has taken the place of '{id}' already: rotate that one")]
    Replaced {
        /// Its id.
        id: String,
    },
    /// There are too many keys.
    #[error("{most} keys are stored, which is the largest number; give keys an expiry, so that they are forgotten after their end")]
    Full {
        /// The largest number.
        most: usize,
    },
    /// The system has no random numbers.
    #[error("the system has no source of random numbers")]
    NoRandomNumbers,
    /// The file can't be written.
    #[error("the key can't be stored, so nothing has changed: {0}")]
    NotStored(io::Error),
    /// A revocation holds, but can't be written.
    #[error(
        "the key is revoked on all running nodes, but that can't be stored yet: {0}. The gateway keeps trying; until then a \
         restart of all nodes would make the key valid again"
    )]
    RevokedButNotStored(io::Error),
    /// The work was interrupted, because the process ends.
    #[error("the gateway is stopping: ask again")]
    Stopping,
}

impl From<io::Error> for IssueError {
    fn from(error: io::Error) -> Self {
        IssueError::NotStored(error)
    }
}

impl IssueError {
    /// The field of a request that is at fault.
    pub fn field(&self) -> Option<&'static str> {
        Some(match self {
            IssueError::UnknownConsumer { .. } => "consumer",
            IssueError::UnknownModel { .. } | IssueError::Models { .. } => "models",
            IssueError::Text { field, .. } => field,
            IssueError::NeverValid => "expires",
            IssueError::NoFolder
            | IssueError::UnknownKey
            | IssueError::Ended { .. }
            | IssueError::Replaced { .. }
            | IssueError::Full { .. }
            | IssueError::NoRandomNumbers
            | IssueError::NotStored(_)
            | IssueError::RevokedButNotStored(_)
            | IssueError::Stopping => return None,
        })
    }
}

/// The file of issued keys can't be read or made.
#[derive(Debug, thiserror::Error)]
#[error("server.state_dir: the keys that were issued at run time can't be read from {path}: {source}")]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The issued keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Their file.
    #[error("{0}")]
    File(#[from] KeyFileError),
    /// Redis.
    #[error("{0}")]
    Redis(#[from] RedisError),
}
