//! Files that only this user may read: they contain prompts, answers and consumers' usage.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Opens a file to read and append, and creates it if it is missing. A new file is private from its first byte; an
/// existing one is made private.
///
/// # Errors
/// If it can't be opened or made.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Makes a file that is empty and private, or empties an existing one.
///
/// # Errors
/// If it can't be made.
pub fn create(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    file.set_len(0)?;
    Ok(file)
}

/// Makes an SQLite database private before SQLite opens it. The files that SQLite creates beside it get the same
/// permissions; existing ones are changed.
///
/// # Errors
/// If the database can't be made.
pub fn database(path: &Path) -> io::Result<()> {
    drop(open(path)?);
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        match std::fs::set_permissions(&beside, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_and_what_is_beside_it_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        // As an older version left it.
        std::fs::write(folder.path().join("x.sqlite-wal"), "").unwrap();
        std::fs::set_permissions(folder.path().join("x.sqlite-wal"), Permissions::from_mode(0o644)).unwrap();
        database(&path).unwrap();
        assert_eq!((mode("x.sqlite"), mode("x.sqlite-wal")), (0o600, 0o600));
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        for name in ["x.sqlite", "x.sqlite-wal", "x.sqlite-shm"] {
            assert_eq!(mode(name), 0o600, "{name}");
        }
    }
}
