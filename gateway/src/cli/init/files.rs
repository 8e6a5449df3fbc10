//! Writes new files, never over others, and takes them back if one of them can't be written.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// The config that the package installs.
const PACKAGED: &str = include_str!("../../../../deploy/debian/spillway.toml");

/// The package's own config, which makes room.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

/// Whether the config may be written. The package's own one, if nobody has changed it, is to be moved away.
///
/// # Errors
/// If there is another one.
pub(super) fn can_write(config: &Path) -> Result<Option<Moved>, String> {
    match fs::read(config) {
        Ok(content) if content == PACKAGED.as_bytes() => {
            let to = beside(config, ".package");
            is_free(&to)?;
            Ok(Some(Moved { from: config.to_owned(), to }))
        }
        _ => is_free(config).map(|()| None),
    }
}

/// Whether there is no such file.
///
/// # Errors
/// If there is one.
pub(super) fn is_free(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(exists(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, &error)),
    }
}

fn exists(path: &Path) -> String {
    let path = path.display();
    format!("{path} exists, and nothing is overwritten: move it away (mv {path} {path}.old), or give another --directory")
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    let remedy = if error.kind() == ErrorKind::PermissionDenied { "; run it as root, or give another --directory" } else { "" };
    format!("{}: {error}{remedy}", path.display())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What was made so far.
#[derive(Debug, Default)]
pub(super) struct Files {
    made: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    moved: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Makes a folder and those above it, if they aren't there.
    pub(super) fn folder(&mut self, path: &Path, mode: u32) -> Result<(), String> {
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            let mode = if folder == path { mode } else { 0o755 };
            DirBuilder::new().mode(mode).create(folder).map_err(|error| failed(folder, &error))?;
            self.folders.push(folder.to_owned());
        }
        Ok(())
    }

    /// Makes a file.
    pub(super) fn create(&mut self, path: &Path, content: &str, mode: u32) -> Result<(), String> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let mut file =
            opened.map_err(|error| if error.kind() == ErrorKind::AlreadyExists { exists(path) } else { failed(path, &error) })?;
        self.made.push(path.to_owned());
        // The mode of the call is reduced by the umask.
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|error| failed(path, &error))?;
        file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed(path, &error))
    }

    /// Makes a file whole at once, for the group of its folder: the service reads it, and a running gateway may watch it.
    pub(super) fn publish(&mut self, path: &Path, content: &str, mode: u32) -> Result<(), String> {
        let draft = beside(path, ".init");
        self.create(&draft, content, mode)?;
        let group = path.parent().and_then(|folder| fs::metadata(folder).ok()).map(|folder| folder.gid());
        let file = fs::File::open(&draft).map_err(|error| failed(&draft, &error))?;
        if file.metadata().is_ok_and(|draft| Some(draft.gid()) != group) {
            fchown(&file, None, group).map_err(|error| failed(&draft, &error))?;
        }
        // Unlike a rename, a link never replaces a file.
        fs::hard_link(&draft, path)
            .map_err(|error| if error.kind() == ErrorKind::AlreadyExists { exists(path) } else { failed(path, &error) })?;
        self.made.push(path.to_owned());
        fs::remove_file(&draft).map_err(|error| failed(&draft, &error))?;
        self.made.retain(|made| *made != draft);
        Ok(())
    }

    /// Moves the package's config away.
    pub(super) fn rename(&mut self, moved: &Moved) -> Result<(), String> {
        is_free(&moved.to)?;
        fs::rename(&moved.from, &moved.to).map_err(|error| failed(&moved.from, &error))?;
        self.moved = Some((moved.from.clone(), moved.to.clone()));
        Ok(())
    }

    /// Takes everything back.
    pub(super) fn undo(self) {
        for path in self.made.iter().rev() {
            let _ = fs::remove_file(path);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
        if let Some((from, to)) = self.moved {
            let _ = fs::rename(to, from);
        }
    }
}
