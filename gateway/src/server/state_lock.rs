//! Shows that a process uses a folder of `server.state_dir`, so that a second one can warn.
//!
//! During an upgrade two processes use it, which is right: the new one gets the lock when the old one has ended.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::reload::By;
use crate::private;

/// The file in the folder.
const NAME: &str = "lock";
/// How often it is tried to get the lock that another process has.
const AGAIN: Duration = Duration::from_millis(500);

/// The lock, held or waited for until this is dropped.
#[derive(Debug)]
pub(super) struct StateLock {
    _held: Option<File>,
    waiting: Option<JoinHandle<()>>,
}

impl StateLock {
    /// Takes the lock of this folder, or waits for it. Whatever fails stops no gateway.
    pub(super) fn take(folder: &Path, by: By) -> Self {
        match try_take(folder) {
            Ok(Ok(file)) => StateLock { _held: Some(file), waiting: None },
            Ok(Err(file)) => {
                if by == By::Start {
                    warn!(
                        folder = %folder.display(),
                        "another process uses server.state_dir: both write its files, and what one of them counts or issues the other \
                         doesn't know; stop one of them, or give each a folder of its own"
                    );
                }
                StateLock { _held: None, waiting: Some(tokio::spawn(wait(file))) }
            }
            Err(error) => {
                debug!(%error, folder = %folder.display(), "whether another process uses this folder isn't known");
                StateLock { _held: None, waiting: None }
            }
        }
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        self.waiting.iter().for_each(JoinHandle::abort);
    }
}

/// The file with the lock, or without it if another process has it.
fn try_take(folder: &Path) -> io::Result<Result<File, File>> {
    let file = private::open(&folder.join(NAME))?;
    match file.try_lock() {
        Ok(()) => Ok(Ok(file)),
        Err(TryLockError::WouldBlock) => Ok(Err(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock once the other process has ended, and holds it from then on.
async fn wait(file: File) {
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        tokio::time::sleep(AGAIN).await;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_of_two_waits_and_holds_it_when_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let is_free = || matches!(try_take(folder.path()), Ok(Ok(_)));
        let first = StateLock::take(folder.path(), By::Start);
        assert!(first.waiting.is_none() && !is_free());
        let second = StateLock::take(folder.path(), By::Upgrade);
        assert!(second.waiting.is_some());
        drop(first);
        assert!(is_free());
        tokio::time::sleep(2 * AGAIN).await;
        assert!(!is_free(), "the second one has it");
        drop(second);
        tokio::task::yield_now().await;
        assert!(is_free());
    }
}
