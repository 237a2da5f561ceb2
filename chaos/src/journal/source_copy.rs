//! A copy of a source that stands still, brought into one file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::Connection;
use tempfile::TempDir;

use super::error::JournalError;
use super::inspect::beside;

/// An agent may be moving frames from the WAL into the database just then: so often is it tried to catch both unchanged.
const ATTEMPTS: u32 = 5;

/// A copy of a database with what its WAL holds in one file that stands alone. The source is only read. Gone when dropped.
///
/// The applications must have ended orderly: a transaction that one was killed in the middle of may be in the copy and not
/// in the source, since SQLite reads the WAL anew for the copy.
pub struct SourceCopy {
    path: PathBuf,
    _directory: TempDir,
}

impl SourceCopy {
    /// Copies `database` into a directory of its own in `scratch`, which has room for twice the database and its WAL.
    ///
    /// # Errors
    /// It cannot be read or copied, it does not stand still, or SQLite cannot bring its WAL into it.
    pub fn new(database: &Path, scratch: &Path) -> Result<Self, JournalError> {
        let directory = TempDir::with_prefix_in("source-", scratch).map_err(JournalError::io(scratch))?;
        let path = directory.path().join("copy.db");
        copy_unchanged(database, &path)?;
        checkpoint(database, &path)?;
        Ok(Self { path, _directory: directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn copy_unchanged(database: &Path, path: &Path) -> Result<(), JournalError> {
    let wal = beside(database, "-wal");
    for _ in 0..ATTEMPTS {
        let before = (stamp(database)?, stamp(&wal)?);
        fs::copy(database, path).map_err(JournalError::io(database))?;
        if before.1.is_some() {
            fs::copy(&wal, beside(path, "-wal")).map_err(JournalError::io(&wal))?;
        }
        if before == (stamp(database)?, stamp(&wal)?) {
            return Ok(());
        }
    }
    let message = format!("changed {ATTEMPTS} times while it was copied: stop the applications first");
    Err(JournalError::io(database)(io::Error::new(io::ErrorKind::ResourceBusy, message)))
}

/// Length and time of the last change; nothing if there is no such file.
fn stamp(path: &Path) -> Result<Option<(u64, Option<SystemTime>)>, JournalError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.len(), metadata.modified().ok()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io(path)(error)),
    }
}

/// Brings the copy's WAL into the copy. Closing the last connection removes the WAL.
fn checkpoint(database: &Path, path: &Path) -> Result<(), JournalError> {
    let sqlite = || JournalError::sqlite(database);
    let connection = Connection::open(path).map_err(sqlite())?;
    let (busy, in_wal, moved) = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(sqlite())?;
    if busy != 0 || in_wal != moved {
        return Err(JournalError::Checkpoint { path: database.to_owned(), busy, in_wal, moved });
    }
    connection.close().map_err(|(_, error)| sqlite()(error))
}

#[cfg(test)]
mod tests {
    use super::super::inspect::tests::{database, write};
    use super::super::{inspect, same_pages};
    use super::*;

    #[test]
    fn a_source_with_a_wal_is_brought_into_one_file_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("app.db");
        let connection = database(&source, 30);
        connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        write(&connection, 31, 60);
        let names = [source.clone(), beside(&source, "-wal"), beside(&source, "-shm")];
        let before = names.each_ref().map(|path| fs::read(path).unwrap());
        let copy = SourceCopy::new(&source, directory.path()).unwrap();
        assert!(names.each_ref().map(|path| fs::read(path).unwrap()) == before);
        let journal = inspect(copy.path()).unwrap();
        assert_eq!((journal.seq, journal.problem), (60, None));
        // Closing brings the source itself into one file.
        connection.close().unwrap();
        assert_eq!(same_pages(copy.path(), &source).unwrap(), None);
        let kept = copy.path().to_owned();
        drop(copy);
        assert!(!kept.exists());
    }

    #[test]
    fn a_source_that_has_shrunk_is_copied_at_its_size() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("app.db");
        let connection = database(&source, 3);
        connection
            .execute_batch("INSERT INTO ballast VALUES (1, zeroblob(200000)); PRAGMA wal_checkpoint(PASSIVE)")
            .unwrap();
        connection.execute_batch("DELETE FROM ballast; VACUUM").unwrap();
        let copy = SourceCopy::new(&source, directory.path()).unwrap();
        assert!(fs::metadata(copy.path()).unwrap().len() < 200_000);
        connection.close().unwrap();
        assert_eq!(same_pages(copy.path(), &source).unwrap(), None);
    }

    #[test]
    fn an_absent_source_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent.db");
        let error = SourceCopy::new(&absent, directory.path()).err().unwrap();
        assert!(error.to_string().contains("absent.db"), "{error}");
    }
}
