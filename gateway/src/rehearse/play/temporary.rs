//! Folders that are removed when they are no longer needed, or when the rehearsal is stopped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

static NUMBER: AtomicU64 = AtomicU64::new(0);
/// The folders that there are; `None` once no more are made.
static FOLDERS: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

/// A folder of its own below the system's folder for temporary files.
#[derive(Debug)]
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes it, readable only by this user.
    ///
    /// # Errors
    /// If it can't be made, or [`remove_all`] was called.
    pub(super) fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("spillway-rehearsal-{}-{number}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        let mut folders = FOLDERS.lock();
        let folders = folders.as_mut().ok_or(std::io::ErrorKind::Interrupted)?;
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        folders.insert(path.clone());
        Ok(TemporaryFolder(path))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// How often it must be found gone, and how often it is removed at most.
const GONE: (usize, usize) = (10, 60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        remove(&self.0);
        if let Some(folders) = FOLDERS.lock().as_mut() {
            folders.remove(&self.0);
        }
    }
}

/// Removes the folders of all rehearsals of this process, and lets them make no more: for a process that is about to end.
pub(crate) fn remove_all() {
    let folders = FOLDERS.lock().take();
    folders.iter().flatten().for_each(|folder| remove(folder));
}

/// A ledger whose thread has not ended yet makes its folder again: it is removed until it stays away. What can't be removed
/// is left to the system.
#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do any more")]
fn remove(folder: &Path) {
    let mut gone = 0;
    for _ in 0..GONE.1 {
        gone = if folder.exists() { 0 } else { gone + 1 };
        if gone >= GONE.0 {
            return;
        }
        let _ = std::fs::remove_dir_all(folder);
        std::thread::sleep(LOOK);
    }
}
