//! Why a file could not be looked at.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file could not be looked at: nothing is known of what it holds.
#[derive(Debug, Error)]
pub enum JournalError {
    /// It cannot be read, or its copy not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// SQLite cannot open it, for a reason that is not its content.
    #[error("{}: SQLite: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// A sidecar lies beside a file that should stand alone: what SQLite reads there is not what the file holds.
    #[error("{} lies beside {}, which should stand alone: remove it, or restore to another path", sidecar.display(), path.display())]
    Sidecar {
        /// The file.
        path: PathBuf,
        /// What lies beside it.
        sidecar: PathBuf,
    },
    /// The copy of a source's WAL could not be brought into the copy of its database.
    #[error("the copy of {} cannot be checkpointed: {busy} busy, {in_wal} frames in the WAL, {moved} of them moved", path.display())]
    Checkpoint {
        /// The source.
        path: PathBuf,
        /// 1 if something held it.
        busy: i64,
        /// Frames in the WAL.
        in_wal: i64,
        /// Frames that were moved.
        moved: i64,
    },
}

impl JournalError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Sqlite { path, source }
    }
}
