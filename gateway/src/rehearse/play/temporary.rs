//! A folder that is removed when it is no longer needed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A folder of its own below the system's folder for temporary files.
#[derive(Debug)]
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes it, readable only by this user.
    ///
    /// # Errors
    /// If it can't be made.
    pub(super) fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("spillway-rehearsal-{}-{number}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
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
    /// A ledger whose thread has not ended yet makes its folder again: it is removed until it stays away. What can't be
    /// removed is left to the system.
    #[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do any more")]
    fn drop(&mut self) {
        let mut gone = 0;
        for _ in 0..GONE.1 {
            gone = if self.0.exists() { 0 } else { gone + 1 };
            if gone >= GONE.0 {
                return;
            }
            let _ = std::fs::remove_dir_all(&self.0);
            std::thread::sleep(LOOK);
        }
    }
}
