//! A SQLite application for tests: each of its commits is a function of the commit's number, so what the database must
//! hold after commit N can be computed, and any restored copy be compared row by row.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

/// Rows of the table `kv`, which every commit updates some of.
pub const ROWS: i64 = 400;
/// How many rows the table `journal` keeps; older ones are deleted, so that pages are freed and used again.
const JOURNAL_ROWS: i64 = 40;

/// Everything the application's database holds: `kv` and `journal`, each by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub commits: i64,
    pub kv: BTreeMap<i64, (i64, String)>,
    pub journal: BTreeMap<i64, Vec<u8>>,
}

fn mix(seed: u64, commit: i64) -> u64 {
    let mut x = seed ^ (commit as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn touched(seed: u64, commit: i64) -> impl Iterator<Item = i64> {
    let count = if commit % 100 == 0 { 150 } else { 1 + mix(seed, commit) % 4 };
    (0..count).map(move |i| (mix(seed + i, commit) % ROWS as u64) as i64)
}

fn value(seed: u64, commit: i64, id: i64) -> String {
    let word = format!("{:016x}", mix(seed ^ id as u64, commit));
    word.repeat(1 + (mix(id as u64, commit) % 6) as usize)
}

fn journal_entry(seed: u64, commit: i64) -> Option<Vec<u8>> {
    let draw = mix(!seed, commit);
    draw.is_multiple_of(5).then(|| {
        let byte = (draw >> 8) as u8;
        vec![byte; 100 + (draw >> 16) as usize % 20_000]
    })
}

impl Contents {
    /// What the database holds after `commits` commits.
    pub fn after(seed: u64, commits: i64) -> Self {
        let mut contents = Self { commits, ..Self::default() };
        for id in 0..ROWS {
            contents.kv.insert(id, (0, String::new()));
        }
        for commit in 1..=commits {
            for id in touched(seed, commit) {
                contents.kv.insert(id, (commit, value(seed, commit, id)));
            }
            if let Some(entry) = journal_entry(seed, commit) {
                contents.journal.insert(commit, entry);
                while contents.journal.len() as i64 > JOURNAL_ROWS {
                    contents.journal.pop_first();
                }
            }
        }
        contents
    }

    /// What the database at `path` holds.
    pub fn read(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.busy_timeout(Duration::from_secs(10))?;
        let transaction = db.unchecked_transaction()?;
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        assert_eq!(check, "ok", "{}", path.display());
        let commits = commits(&db)?;
        let kv = db
            .prepare("SELECT id, n, value FROM kv")?
            .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
            .collect::<rusqlite::Result<_>>()?;
        let journal = db
            .prepare("SELECT id, entry FROM journal")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        drop(transaction);
        Ok(Self { commits, kv, journal })
    }

    /// Compares every row, and names the first that differs.
    pub fn assert_equals(&self, expected: &Self, what: &str) {
        assert_eq!(self.commits, expected.commits, "{what}: number of commits");
        for (id, row) in &expected.kv {
            assert_eq!(self.kv.get(id), Some(row), "{what}: kv row {id} at commit {}", self.commits);
        }
        assert_eq!(self.kv.len(), expected.kv.len(), "{what}: rows of kv");
        assert!(self.journal == expected.journal, "{what}: journal differs at commit {}", self.commits);
    }
}

fn commits(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT commits FROM progress", [], |row| row.get(0))
}

/// How many commits the database at `path` has seen.
pub fn read_commits(path: &Path) -> i64 {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    commits(&db).unwrap()
}

/// Creates the application's database.
pub fn create(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL;
         BEGIN;
         CREATE TABLE progress (commits INTEGER);
         INSERT INTO progress VALUES (0);
         CREATE TABLE kv (id INTEGER PRIMARY KEY, n INTEGER, value TEXT);
         CREATE TABLE journal (id INTEGER PRIMARY KEY, entry BLOB);",
    )
    .unwrap();
    for id in 0..ROWS {
        db.execute("INSERT INTO kv VALUES (?1, 0, '')", [id]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Makes `count` more commits (all it can until it is killed, if `None`), each synced as a critical application would.
pub fn write(path: &Path, seed: u64, count: Option<i64>) {
    let mut db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db.execute_batch("PRAGMA synchronous=FULL").unwrap();
    let mut commit = commits(&db).unwrap();
    let end = count.map_or(i64::MAX, |count| commit + count);
    while commit < end {
        commit += 1;
        let transaction = db.transaction().unwrap();
        for id in touched(seed, commit) {
            let row = params![commit, value(seed, commit, id), id];
            transaction.prepare_cached("UPDATE kv SET n = ?1, value = ?2 WHERE id = ?3").unwrap().execute(row).unwrap();
        }
        if let Some(entry) = journal_entry(seed, commit) {
            transaction.execute("INSERT INTO journal VALUES (?1, ?2)", params![commit, entry]).unwrap();
            let keep = "DELETE FROM journal WHERE id NOT IN (SELECT id FROM journal ORDER BY id DESC LIMIT ?1)";
            transaction.execute(keep, [JOURNAL_ROWS]).unwrap();
        }
        transaction.execute("UPDATE progress SET commits = ?1", [commit]).unwrap();
        transaction.commit().unwrap();
    }
}

const PATH: &str = "SEAWALL_TEST_APPLICATION_PATH";
const SEED: &str = "SEAWALL_TEST_APPLICATION_SEED";

/// The application as a process of its own: this test binary, told to run [`run_if_asked`] alone.
pub fn spawn(path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "application_process", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(SEED, seed.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The body of the ignored test `application_process`: writes until killed if this process was asked to.
pub fn run_if_asked() {
    if let (Ok(path), Ok(seed)) = (std::env::var(PATH), std::env::var(SEED)) {
        write(Path::new(&path), seed.parse().unwrap(), None);
    }
}
