//! The calls of SQLite's C interface that rusqlite does not wrap. The only unsafe code of the agent.

#![allow(unsafe_code, reason = "three C functions without a safe wrapper")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use rusqlite::{Connection, ffi};

use super::snapshot::Snapshot;

const MAIN: &CStr = c"main";

/// `sqlite3_snapshot_get`: opens a read transaction if none is open (the connection must not be in autocommit mode),
/// on a read mark above 0 unless the WAL is empty, and gives its coordinates.
///
/// # Errors
/// SQLite's result code; `SQLITE_ERROR` if the WAL was never written.
pub(super) fn snapshot_get(connection: &Connection) -> Result<Snapshot, c_int> {
    let mut snapshot: *mut ffi::sqlite3_snapshot = ptr::null_mut();
    // SAFETY: the handle lives as long as `connection`; "main" is a C string; `snapshot` is a valid place for the
    // answer, which is set only with SQLITE_OK, then owned by us, and freed exactly once below.
    unsafe {
        let code = ffi::sqlite3_snapshot_get(connection.handle(), MAIN.as_ptr(), &raw mut snapshot);
        if code != ffi::SQLITE_OK {
            return Err(code);
        }
        let bytes = snapshot.cast::<[u8; Snapshot::BYTES]>().read_unaligned();
        ffi::sqlite3_snapshot_free(snapshot);
        Ok(Snapshot::from_bytes(&bytes))
    }
}

/// `sqlite3_wal_checkpoint_v2`: answers (frames in the WAL, frames backfilled), -1 where unknown.
///
/// # Errors
/// SQLite's result code.
pub(super) fn checkpoint(connection: &Connection, mode: c_int) -> Result<(c_int, c_int), c_int> {
    let (mut frames, mut backfilled) = (-1, -1);
    // SAFETY: the handle lives as long as `connection`; "main" is a C string; both places are valid for the call.
    let code = unsafe {
        ffi::sqlite3_wal_checkpoint_v2(connection.handle(), MAIN.as_ptr(), mode, &raw mut frames, &raw mut backfilled)
    };
    if code == ffi::SQLITE_OK { Ok((frames, backfilled)) } else { Err(code) }
}

/// `SQLITE_FCNTL_PERSIST_WAL`: the last connection that closes leaves the WAL where it is.
///
/// # Errors
/// SQLite's result code.
pub(super) fn persist_wal(connection: &Connection) -> Result<(), c_int> {
    let mut on: c_int = 1;
    // SAFETY: the handle lives as long as `connection`; "main" is a C string; this opcode reads and writes one int.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            MAIN.as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast::<c_void>(),
        )
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
}
