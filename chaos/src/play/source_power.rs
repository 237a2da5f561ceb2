//! What a power cut takes from an application's machine: with `synchronous=NORMAL`, any of the last commits in the WAL.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt};

/// `walformat.html` of SQLite's documentation, sections 1.2 and 1.3: the header of the WAL, and of each frame.
const WAL_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// Section 2.1 there, the fields of the WAL index (in the machine's byte order).
const MAX_FRAME_AT: usize = 16;
const BACKFILL_ATTEMPTED_AT: usize = 128;

/// Cuts the WAL of `database`, which nobody has open, as a power cut could have: somewhere behind the last frame that a checkpoint
/// relied on, for SQLite had synced up to there. How many frames there were, and how many are gone.
///
/// # Errors
/// The files cannot be read or cut.
pub(super) fn cut(database: &Path, rng: &mut impl Rng) -> io::Result<(u32, u32)> {
    let (wal, index) = (beside(database, "-wal"), beside(database, "-shm"));
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", wal.display()));
    let bytes = match fs::read(&wal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        Err(error) => return Err(explain(error)),
    };
    let page_size = bytes.get(8..12).and_then(|size| Some(u32::from_be_bytes(size.try_into().ok()?)));
    let (Some(page_size), Some((frames, synced))) = (page_size, frames(&fs::read(&index).map_err(explain)?)) else {
        return Ok((0, 0));
    };
    let kept = rng.random_range(synced.min(frames)..=frames);
    let len = WAL_HEADER + u64::from(kept) * (FRAME_HEADER + u64::from(page_size));
    let file = OpenOptions::new().write(true).open(&wal).map_err(explain)?;
    if len < file.metadata().map_err(explain)?.len() {
        file.set_len(len).map_err(explain)?;
    }
    // It was in memory only.
    fs::remove_file(index).map_err(explain)?;
    Ok((frames, frames - kept))
}

/// The number of frames, and of those that a checkpoint may have copied, by a WAL index.
fn frames(index: &[u8]) -> Option<(u32, u32)> {
    let field = |at: usize| Some(u32::from_ne_bytes(index.get(at..at + 4)?.try_into().ok()?));
    Some((field(MAX_FRAME_AT)?, field(BACKFILL_ATTEMPTED_AT)?))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rusqlite::Connection;

    use super::*;

    /// A copy of a database as a killed machine leaves it: 50 commits in the WAL, some of them checkpointed.
    fn left_behind(directory: &Path, checkpointed: u32) -> PathBuf {
        let (live, dead) = (directory.join("live.db"), directory.join("dead.db"));
        let db = Connection::open(&live).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n INTEGER PRIMARY KEY)",
        )
        .unwrap();
        for n in 1..=50 {
            db.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
            if n == checkpointed {
                db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
            }
        }
        for suffix in ["", "-wal", "-shm"] {
            fs::copy(beside(&live, suffix), beside(&dead, suffix)).unwrap();
        }
        dead
    }

    #[test]
    fn takes_the_last_commits_and_never_what_a_checkpoint_relied_on() {
        let mut fewest = 50;
        for seed in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let database = left_behind(directory.path(), 20);
            let (frames, lost) = cut(&database, &mut StdRng::seed_from_u64(seed)).unwrap();
            assert!(lost <= frames);
            let db = Connection::open(&database).unwrap();
            let (rows, last): (u32, u32) =
                db.query_row("SELECT count(*), max(n) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!(rows, last, "commits go from the end");
            assert!((20..=50).contains(&rows), "{rows} rows after {lost} of {frames} frames were lost");
            let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(whole, "ok");
            fewest = fewest.min(rows);
        }
        assert!(fewest < 40, "something has to be lost now and then");
    }
}
