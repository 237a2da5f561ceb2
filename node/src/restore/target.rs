//! The file a restore is to give, and the temporary file beside it.

use std::io;
use std::path::{Path, PathBuf};

use seawall_host::disk::{self, File, LockGuard, OpenMode};
use seawall_host::local::{self, WholeFileLock};
use seawall_host::task;

/// What SQLite puts beside a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why the restored file cannot be where it should.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A file is there.
    #[error(
        "{0} exists; restore to another path, move it away, or replace it with --force \
         (--if-db-not-exists leaves it and succeeds)"
    )]
    Exists(String),
    /// What an older database left is there, and SQLite would mix it into the restored one.
    #[error(
        "{0} lies beside the target: it belongs to an older database, and SQLite would apply it to the restored one; \
         remove it, or let --force do so"
    )]
    Sidecar(String),
    /// A process has the database open.
    #[error("{0} is in use: a process has the database open; stop the application and its agent first")]
    InUse(String),
    /// Another restore writes the same temporary file.
    #[error("another restore to {0} is under way: wait for it, or restore to another path")]
    Restoring(String),
    /// The path names no file.
    #[error("{0} is not the path of a file")]
    NotAFile(String),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// The path of a restore, with a temporary file beside it.
pub(super) struct Target {
    path: PathBuf,
    temporary: PathBuf,
    force: bool,
    /// Keep other processes off the old database until the new one is in place.
    locks: Vec<WholeFileLock>,
    /// Keeps other restores off the temporary file.
    _alone: LockGuard,
}

impl Target {
    /// Refuses what [`Target::prepare`] would refuse, and touches nothing.
    pub(super) async fn check(path: &Path, force: bool) -> Result<(), TargetError> {
        if path.file_name().is_none() {
            return Err(TargetError::NotAFile(path.display().to_string()));
        }
        if force {
            return lock(path).await.map(drop);
        }
        if disk::exists(path).await? {
            return Err(TargetError::Exists(path.display().to_string()));
        }
        match sidecars(path).await?.first() {
            Some(sidecar) => Err(TargetError::Sidecar(sidecar.display().to_string())),
            None => Ok(()),
        }
    }

    /// Checks that the target may be written, and opens the temporary file: empty, or as an interrupted restore left it.
    pub(super) async fn prepare(path: &Path, force: bool) -> Result<(Self, File), TargetError> {
        Self::check(path, force).await?;
        let locks = if force { lock(path).await? } else { Vec::new() };
        let name = path.file_name().ok_or_else(|| TargetError::NotAFile(path.display().to_string()))?;
        // The same name each time, so that the next restore finds what an interrupted one left.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(".restore");
        let temporary = path.with_file_name(temporary);
        let alone = disk::lock(&temporary).await.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => TargetError::Restoring(path.display().to_string()),
            _ => error.into(),
        })?;
        let file = File::open(&temporary, OpenMode::OpenOrCreate).await?;
        Ok((Self { path: path.to_owned(), temporary, force, locks, _alone: alone }, file))
    }

    /// Where the database is being put together.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Where a restore that is interrupted says how far it came.
    pub(super) fn state(&self) -> PathBuf {
        beside(&self.temporary, "-state")
    }

    /// Gives the finished file its name, durably.
    pub(super) async fn publish(&self) -> Result<(), TargetError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let sidecars = sidecars(&self.path).await?;
        if self.force {
            for sidecar in sidecars {
                disk::remove_file(&sidecar).await?;
            }
            // Durable before the rename: after a power cut no old sidecar may lie beside the new database.
            disk::sync_directory(directory).await?;
            disk::rename(&self.temporary, &self.path).await?;
        } else {
            if let Some(sidecar) = sidecars.first() {
                return Err(TargetError::Sidecar(sidecar.display().to_string()));
            }
            // A link, unlike a rename, refuses to replace what came there meanwhile.
            match disk::hard_link(&self.temporary, &self.path).await {
                Ok(()) => disk::remove_file(&self.temporary).await?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(TargetError::Exists(self.path.display().to_string()));
                }
                Err(_unsupported) if !disk::exists(&self.path).await? => {
                    disk::rename(&self.temporary, &self.path).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(disk::sync_directory(directory).await?)
    }

    /// Removes the temporary file and whatever SQLite put beside it.
    pub(super) async fn discard(self) {
        let mut leftovers = vec![self.temporary.clone()];
        leftovers.extend(SIDECARS.map(|suffix| beside(&self.temporary, suffix)));
        for leftover in leftovers {
            if let Err(error) = disk::remove_file(&leftover).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a temporary file is left");
            }
        }
        drop(self.locks);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The sidecars that lie beside `path`.
async fn sidecars(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for suffix in SIDECARS {
        let sidecar = beside(path, suffix);
        if disk::exists(&sidecar).await? {
            found.push(sidecar);
        }
    }
    Ok(found)
}

/// Takes the locks that any process with the database open would hold: a connection in WAL mode keeps a shared lock
/// on the database file and on the `-shm` file for as long as it lives.
async fn lock(path: &Path) -> Result<Vec<WholeFileLock>, TargetError> {
    let mut locks = Vec::new();
    for file in [path.to_owned(), beside(path, "-shm")] {
        let shown = file.display().to_string();
        let locked = task::blocking(move || local::lock_whole_file(&file)).await.map_err(io::Error::other)?;
        match locked {
            Ok(lock) => locks.extend(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(TargetError::InUse(shown)),
            Err(error) => return Err(TargetError::Disk(io::Error::new(error.kind(), format!("{shown}: {error}")))),
        }
    }
    Ok(locks)
}
