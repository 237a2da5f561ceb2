//! The application of the demonstration: one writer that updates rows as fast as SQLite lets it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, params};
use seawall_host::random;
use seawall_host::task::{self, JoinError, JoinHandle};

const ROWS: i64 = 5_000;

/// A running writer.
pub(super) struct Workload {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    writer: JoinHandle<Result<rusqlite::Result<()>, JoinError>>,
}

impl Workload {
    /// Creates the database at `path` (WAL mode, some megabytes).
    pub(super) async fn create(path: &Path) -> Result<(), super::run::DemoError> {
        let path = path.to_owned();
        Ok(task::blocking(move || create(&path)).await??)
    }

    /// Starts updating.
    pub(super) fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let commits = Arc::new(AtomicU64::new(0));
        let (asked, counter) = (Arc::clone(&stop), Arc::clone(&commits));
        let writer = task::spawn(task::blocking(move || write(&path, &asked, &counter)));
        Self { stop, commits, writer }
    }

    /// Commits so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Stops after the commit in progress; answers the number of commits.
    pub(super) async fn stop(self) -> Result<u64, super::run::DemoError> {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await???;
        Ok(self.commits.load(Ordering::Relaxed))
    }
}

fn create(path: &Path) -> rusqlite::Result<()> {
    let mut db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = db.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT NOT NULL);
         CREATE TABLE ledger (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL);",
    )?;
    for id in 0..ROWS {
        transaction.execute("INSERT INTO account VALUES (?1, 0, ?2)", params![id, note(id as u64)])?;
    }
    transaction.commit()
}

fn note(seed: u64) -> String {
    format!("{seed:016x}").repeat(12)
}

fn write(path: &Path, stop: &AtomicBool, commits: &AtomicU64) -> rusqlite::Result<()> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    while !stop.load(Ordering::Relaxed) {
        let transaction = db.transaction()?;
        let amount = i64::from(random::u64() as u8);
        for _ in 0..3 {
            let account = random::below(ROWS as u64) as i64;
            let change = params![amount, note(random::u64()), account];
            transaction
                .prepare_cached("UPDATE account SET balance = balance + ?1, note = ?2 WHERE id = ?3")?
                .execute(change)?;
            transaction
                .prepare_cached("INSERT INTO ledger (account, amount) VALUES (?1, ?2)")?
                .execute(params![account, amount])?;
        }
        transaction.commit()?;
        commits.fetch_add(1, Ordering::Relaxed);
        // An application does something between its commits; this one would otherwise starve the machine it shares
        // with three nodes.
        std::thread::yield_now();
    }
    Ok(())
}
