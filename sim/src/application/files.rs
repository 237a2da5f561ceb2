//! SQLite's real files, handled beside it. All connections of a world are in one process, where SQLite keeps its locks
//! in memory, so opening and closing a database here disturbs nobody.

#![allow(clippy::disallowed_methods, reason = "SQLite works on the real file system, inside the simulator too")]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::sqlite::SourceError;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |cause| SourceError::File { action, path: path.display().to_string(), cause }
}

/// The path of a sidecar of a database: `-wal`, `-shm`, `-journal`.
pub(super) fn sidecar(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The bytes at `path`; `None` if nothing is there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Puts `bytes` at `path` as a new file. It exists beside the old one for a moment, so its inode is another.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), SourceError> {
    let new = sidecar(path, ".new");
    fs::write(&new, bytes).map_err(failed("write", &new))?;
    fs::rename(&new, path).map_err(failed("replace", path))
}

/// Removes what is at `path`, if anything is.
pub(super) fn remove(path: &Path) -> Result<(), SourceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Creates the directory `path`, and those above it.
pub(super) fn create_directory(path: &Path) -> Result<(), SourceError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}
