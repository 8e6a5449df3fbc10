//! A database whose file is removed or replaced while it is open. SQLite goes on with the file that it has opened; that has no name
//! any more, so that nobody would find what is written to it. So before each batch it is looked who has the name now.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tracing::{error, info};

use crate::file_id::FileId;

/// The files of an open database.
#[derive(Debug)]
pub(super) struct OpenFiles {
    path: PathBuf,
    file: Option<FileId>,
    /// What SQLite has made beside it.
    beside: [(PathBuf, Option<FileId>); 2],
}

impl OpenFiles {
    /// Opens the database at `path`.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn of<T, E>(path: &Path, open: impl FnOnce() -> Result<T, E>) -> Result<(T, Self), E> {
        // If it is replaced meanwhile, this is the older one: then it is opened again.
        let before = known(path);
        let opened = open()?;
        let file = before.or_else(|| known(path));
        let beside = ["-wal", "-shm"].map(|suffix| {
            let name = beside(path, suffix);
            let id = known(&name);
            (name, id)
        });
        Ok((opened, OpenFiles { path: path.to_owned(), file, beside }))
    }

    /// Whether the name still leads to the file that is open.
    pub(super) fn is_there(&self) -> bool {
        // A disk that doesn't answer says nothing.
        FileId::at(&self.path).map_or(true, |now| now == self.file)
    }

    /// Makes room for the file that has the name now, or for a new one: what belongs to the old file would be taken for
    /// the other one's.
    fn clear(&self) {
        // During an upgrade another process may do the same, and has its own files there then.
        let lock = self.path.parent().and_then(|folder| File::open(folder).ok());
        let locked = lock.as_ref().is_some_and(|folder| folder.lock().is_ok());
        for (path, id) in self.beside.iter().filter(|(_, id)| locked && id.is_some()) {
            if known(path) == *id {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Lets go of a ledger whose file is no longer there. What it had is copied to a file beside it, on a thread of its own, because
    /// that may take long.
    pub(super) fn let_go(self, old: Connection, now: i64) {
        self.clear();
        let aside = beside(&self.path, &format!(".removed-{now}"));
        error!(
            path = %self.path.display(),
            "the ledger's file was removed or replaced while it was open: the ledger goes on in the file that has this name now, or in a new \
             one. After a restart quotas and budgets know only what that has. What the old one had is copied beside it"
        );
        let work = move || match copy(&old, &aside) {
            Ok(()) => info!(aside = %aside.display(), "what the removed ledger had is copied"),
            Err(error) => error!(%error, aside = %aside.display(), "what the removed ledger had can't be copied: it is lost"),
        };
        if let Err(error) = std::thread::Builder::new().name("ledger-removed".to_owned()).spawn(work) {
            error!(%error, "what the removed ledger had can't be copied: it is lost");
        }
    }

    /// Lets go of another database whose file is no longer there; what it had is lost.
    pub(super) fn forget(self) {
        self.clear();
        error!(path = %self.path.display(), "this file was removed or replaced while it was open: another one is begun, what it had is lost");
    }
}

/// The file at `path`, if there is one.
fn known(path: &Path) -> Option<FileId> {
    FileId::at(path).ok().flatten()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Copies a database that has no name any more.
fn copy(old: &Connection, aside: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // What is beside the name belongs to another file now: SQLite must not touch it at the end.
    old.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let unfinished = beside(aside, ".unfinished");
    if aside.exists() {
        return Ok(());
    }
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished) {
        // The other process of an upgrade copies it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => drop(made?),
    }
    let copied = old.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()]);
    copied.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
    std::fs::rename(&unfinished, aside)?;
    Ok(())
}
