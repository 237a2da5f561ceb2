//! A connection that leaves the database as it is.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{OpenFlags, ffi};
use seawall_proto::position::{InvalidPageSize, PageNumber, PageSize};

use super::error::SqliteError;
use super::ffi as c;
use super::snapshot::Snapshot;

/// How far a WAL is, and how much of it stands in the database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Committed frames in the WAL.
    pub frames: u32,
    /// Frames whose pages are in the database file.
    pub backfilled: u32,
}

/// A connection that never creates a file, never checkpoints by itself (not even when it is the last to close), never
/// removes the WAL, and never waits for a lock: what is busy is answered with [`SqliteError::Busy`].
pub struct Connection {
    inner: rusqlite::Connection,
    path: PathBuf,
}

/// The version of the SQLite library inside this program.
pub fn library_version() -> &'static str {
    rusqlite::version()
}

impl Connection {
    /// Opens the database at `path`. Reads nothing of it yet.
    ///
    /// # Errors
    /// [`SqliteError`]: nothing at the path, no permission, or a library without the options needed.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let inner =
            rusqlite::Connection::open_with_flags(path, flags).map_err(|error| classify("open", path, &error))?;
        let connection = Self { inner, path: path.to_owned() };
        connection.set_up().map_err(|error| match error {
            Fault::Option(option) => SqliteError::MissingOption { option },
            Fault::Sqlite(error) => classify("set up a connection to", path, &error),
            Fault::Code(code) => connection.failed("set up a connection to", code),
        })?;
        Ok(connection)
    }

    fn set_up(&self) -> Result<(), Fault> {
        // rusqlite waits five seconds for locks by default.
        self.inner.busy_timeout(std::time::Duration::ZERO)?;
        for option in ["ENABLE_SNAPSHOT", "ENABLE_DBPAGE_VTAB"] {
            let used: bool =
                self.inner.query_row("SELECT sqlite_compileoption_used(?1)", [option], |row| row.get(0))?;
            if !used {
                return Err(Fault::Option(option));
            }
        }
        self.inner.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.inner.query_row("PRAGMA wal_autocheckpoint=0", [], |_| Ok(()))?;
        // Every page is read once: a cache would only cost memory, and hide from the scrub what is on disk.
        self.inner.execute_batch("PRAGMA cache_size=16")?;
        c::persist_wal(&self.inner).map_err(Fault::Code)
    }

    /// The database file, with symbolic links followed.
    pub fn file(&self) -> Option<&Path> {
        self.inner.path().filter(|path| !path.is_empty()).map(Path::new)
    }

    /// The journal mode in the database's header: `wal`, `delete`, …
    ///
    /// # Errors
    /// [`SqliteError::Busy`] while somebody holds the database exclusively.
    pub fn journal_mode(&self) -> Result<String, SqliteError> {
        let mode = self.inner.query_row("PRAGMA journal_mode", [], |row| row.get(0));
        mode.map_err(|error| classify("read", &self.path, &error))
    }

    /// The page size.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn page_size(&self) -> Result<PageSize, SqliteError> {
        let size: u32 = self
            .inner
            .query_row("PRAGMA page_size", [], |row| row.get(0))
            .map_err(|error| classify("read", &self.path, &error))?;
        PageSize::new(size).map_err(|error: InvalidPageSize| SqliteError::Failed {
            action: "read the page size of",
            path: self.path.clone(),
            code: ffi::SQLITE_CORRUPT,
            message: error.to_string(),
        })
    }

    /// The size of the database in pages, as the open transaction sees it.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn page_count(&self) -> Result<u32, SqliteError> {
        let count = self.inner.query_row("PRAGMA page_count", [], |row| row.get(0));
        count.map_err(|error| classify("read", &self.path, &error))
    }

    /// Opens a read transaction on a read mark above 0 (unless the WAL is empty), so that the WAL cannot restart
    /// under it. `None`: the WAL was never written; the transaction is open then too.
    ///
    /// # Errors
    /// [`SqliteError`]; no transaction is open then.
    pub fn pin(&self) -> Result<Option<Snapshot>, SqliteError> {
        self.execute("BEGIN")?;
        match c::snapshot_get(&self.inner) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(ffi::SQLITE_ERROR) => self.read_something().map(|()| None),
            Err(code) => {
                self.rollback();
                Err(self.failed("read", code))
            }
        }
    }

    /// Opens a read transaction as any reader does: on read mark 0 if the whole WAL is in the database file.
    ///
    /// # Errors
    /// [`SqliteError`]; no transaction is open then.
    pub fn read_plainly(&self) -> Result<Option<Snapshot>, SqliteError> {
        self.execute("BEGIN")?;
        self.read_something()?;
        match c::snapshot_get(&self.inner) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(ffi::SQLITE_ERROR) => Ok(None),
            Err(code) => {
                self.rollback();
                Err(self.failed("read", code))
            }
        }
    }

    fn read_something(&self) -> Result<(), SqliteError> {
        let read = self.inner.query_row("SELECT count(*) FROM (SELECT 1 FROM sqlite_schema LIMIT 1)", [], |_| Ok(()));
        read.map_err(|error| {
            self.rollback();
            classify("read", &self.path, &error)
        })
    }

    /// Takes the write lock, writing nothing.
    ///
    /// # Errors
    /// [`SqliteError::Busy`] while somebody writes.
    pub fn begin_immediate(&self) -> Result<(), SqliteError> {
        self.execute("BEGIN IMMEDIATE").inspect_err(|_| self.rollback())
    }

    /// Ends the open transaction, if there is one.
    pub fn rollback(&self) {
        if !self.inner.is_autocommit() {
            // A transaction that only read or wrote nothing has nothing to fail on.
            let _ = self.inner.execute_batch("ROLLBACK");
        }
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        !self.inner.is_autocommit()
    }

    fn execute(&self, sql: &str) -> Result<(), SqliteError> {
        self.inner.execute_batch(sql).map_err(|error| classify("read", &self.path, &error))
    }

    /// How far the WAL is; takes no lock and does no work.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn progress(&self) -> Result<Checkpoint, SqliteError> {
        self.checkpoint(ffi::SQLITE_CHECKPOINT_NOOP)
    }

    /// Copies pages from the WAL to the database file as far as readers allow; waits for nobody.
    ///
    /// # Errors
    /// [`SqliteError::Busy`] while another connection checkpoints.
    pub fn checkpoint_passively(&self) -> Result<Checkpoint, SqliteError> {
        self.checkpoint(ffi::SQLITE_CHECKPOINT_PASSIVE)
    }

    fn checkpoint(&self, mode: i32) -> Result<Checkpoint, SqliteError> {
        let (frames, backfilled) = c::checkpoint(&self.inner, mode).map_err(|code| self.failed("checkpoint", code))?;
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        Ok(Checkpoint { frames: count(frames), backfilled: count(backfilled) })
    }

    /// Gives the pages `pages` of the open transaction's snapshot, in that order, to `visit`, until it answers false.
    ///
    /// # Errors
    /// [`SqliteError`], also if a page is not there.
    pub fn pages(
        &self,
        pages: impl IntoIterator<Item = PageNumber>,
        mut visit: impl FnMut(PageNumber, &[u8]) -> bool,
    ) -> Result<(), SqliteError> {
        let read = || -> rusqlite::Result<()> {
            let mut statement = self.inner.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
            for page in pages {
                let mut rows = statement.query([page.0])?;
                let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                if !visit(page, bytes) {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| classify("read pages of", &self.path, &error))
    }

    fn failed(&self, action: &'static str, code: i32) -> SqliteError {
        let message = ffi::code_to_str(code).to_owned();
        match code & 0xff {
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => SqliteError::Busy,
            _ => SqliteError::Failed { action, path: self.path.clone(), code, message },
        }
    }
}

enum Fault {
    Option(&'static str),
    Sqlite(rusqlite::Error),
    Code(i32),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn classify(action: &'static str, path: &Path, error: &rusqlite::Error) -> SqliteError {
    let code = error.sqlite_error().map_or(ffi::SQLITE_ERROR, |cause| cause.extended_code);
    match code & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => SqliteError::Busy,
        ffi::SQLITE_CANTOPEN if matches!(seawall_host::local::stat(path), Ok(None)) => {
            SqliteError::Missing { path: path.to_owned() }
        }
        _ => SqliteError::Failed { action, path: path.to_owned(), code, message: error.to_string() },
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.path).finish()
    }
}
