//! What an application needs of SQLite beyond SQL, and what makes SQLite deterministic.

#![allow(unsafe_code, reason = "SQLite's test control has no safe wrapper")]

use std::path::Path;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use seawall_proto::position::{InvalidPageSize, PageNumber, PageSize};
use thiserror::Error;

/// What went wrong with a real database.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A lock is missing: try again later.
    #[error("the database is locked")]
    Busy,
    /// SQLite's own words.
    #[error("SQLite: {0}")]
    Sqlite(rusqlite::Error),
    /// SQLite named a page size that there is not.
    #[error(transparent)]
    PageSize(#[from] InvalidPageSize),
    /// The operating system, on a file beside SQLite.
    #[error("{action} {path}: {cause}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// The simulator asked for something that can't be.
    #[error("{0}")]
    Impossible(String),
}

impl From<rusqlite::Error> for SourceError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error().map(|cause| cause.extended_code & 0xff) {
            Some(ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}

/// The generator inside SQLite (salts of WALs, temporary names) belongs to the process, so one world at a time uses it.
static TURN: Mutex<()> = Mutex::new(());

/// SQLite's generator, seeded: while this lives everything that SQLite draws follows from the seed, and every other
/// world of the process that wants it waits. Dropping it gives SQLite its own randomness back.
#[derive(Debug)]
pub struct SeededSqlite {
    _turn: MutexGuard<'static, ()>,
}

impl SeededSqlite {
    /// Waits for the turn and seeds the generator. Not to be called twice on one thread without a drop in between.
    pub fn new(seed: u64) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The first attempt of a process to open a file resets the generator: let that be over.
        let _ = Connection::open_with_flags("/nonexistent/seawall", OpenFlags::SQLITE_OPEN_READ_ONLY);
        // 0 would mean "draw the seed from the operating system".
        let seed = (seed ^ (seed >> 32)) as u32 | 1;
        reseed(seed);
        Self { _turn: turn }
    }
}

impl Drop for SeededSqlite {
    fn drop(&mut self) {
        reseed(0);
    }
}

fn reseed(seed: u32) {
    // SAFETY: this opcode reads an int and a connection, which may be null; an amount of 0 with no place to write to
    // resets the generator, as documented.
    unsafe {
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, seed, ptr::null_mut::<ffi::sqlite3>());
        ffi::sqlite3_randomness(0, ptr::null_mut());
    }
}

/// Opens the database at `path`, creating it if nothing is there. The connection never waits for a lock, and does not
/// checkpoint when it is dropped: dropping it is what a killed process does.
///
/// # Errors
/// [`SourceError`].
pub fn open(path: &Path) -> Result<Connection, SourceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    checkpoint_on_close(&connection, false)?;
    // Temporary files would be named by the process.
    connection.execute_batch("PRAGMA temp_store=MEMORY")?;
    Ok(connection)
}

/// Whether closing the connection, if it is the last, writes everything back and deletes the WAL, as an application's
/// does that ends in order.
///
/// # Errors
/// [`SourceError`].
pub fn checkpoint_on_close(connection: &Connection, on: bool) -> Result<(), SourceError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !on)?;
    Ok(())
}

/// The page size of a database.
///
/// # Errors
/// [`SourceError`].
pub fn page_size(connection: &Connection) -> Result<PageSize, SourceError> {
    let bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Ok(PageSize::new(bytes)?)
}

/// The number of pages of a database.
///
/// # Errors
/// [`SourceError`].
pub fn page_count(connection: &Connection) -> Result<u32, SourceError> {
    Ok(connection.query_row("PRAGMA page_count", [], |row| row.get(0))?)
}

/// Gives `visit` every page of the newest state in order; one statement, so one snapshot.
///
/// # Errors
/// [`SourceError`].
pub fn for_each_page(connection: &Connection, mut visit: impl FnMut(PageNumber, &[u8])) -> Result<(), SourceError> {
    let mut statement = connection.prepare_cached("SELECT pgno, data FROM sqlite_dbpage")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(PageNumber(row.get(0)?), row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
    }
    Ok(())
}

/// How a checkpoint of an application is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Waits for nobody.
    Passive,
    /// Wants all of the WAL in the database.
    Full,
    /// And the next writer at the WAL's start.
    Restart,
    /// And the WAL's file empty.
    Truncate,
}

impl CheckpointMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passive, Self::Full, Self::Restart, Self::Truncate];
}

/// Checkpoints; answers whether it did all that it was asked for.
///
/// # Errors
/// [`SourceError`], `Busy` too.
pub fn checkpoint(connection: &Connection, mode: CheckpointMode) -> Result<bool, SourceError> {
    let sql = match mode {
        CheckpointMode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        CheckpointMode::Full => "PRAGMA wal_checkpoint(FULL)",
        CheckpointMode::Restart => "PRAGMA wal_checkpoint(RESTART)",
        CheckpointMode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let busy: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(busy == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::directory::TemporaryDirectory;

    /// Writes, closes, checkpoints and opens again many times; gives the bytes of every WAL on the way.
    fn wals(seed: u64) -> Vec<Vec<u8>> {
        let _seeded = SeededSqlite::new(seed);
        let directory = TemporaryDirectory::new().unwrap();
        let path = directory.path().join("app.db");
        let mut wals = Vec::new();
        for round in 0..12 {
            let connection = open(&path).unwrap();
            connection
                .execute_batch(
                    "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (randomblob(700))",
                )
                .unwrap();
            if round % 3 == 1 {
                assert!(checkpoint(&connection, CheckpointMode::ALL[round / 3]).unwrap());
                connection.execute_batch("INSERT INTO t VALUES (random()); VACUUM").unwrap();
            }
            checkpoint_on_close(&connection, round % 4 == 3).unwrap();
            wals.push(super::super::files::read(&directory.path().join("app.db-wal")).unwrap().unwrap());
        }
        wals
    }

    #[test]
    fn the_same_seed_writes_the_same_wals_salts_and_all() {
        let first = wals(7);
        assert!(first.iter().all(|wal| wal.len() > 32));
        assert_eq!(first, wals(7));
        let other = wals(8);
        // Bytes 16 to 23 of a WAL are its salts.
        assert!(first.iter().zip(&other).all(|(wal, other)| wal[16..24] != other[16..24]));
    }
}
