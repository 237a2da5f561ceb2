//! A model of what is shipped, and applications to be captured.

#![allow(dead_code, unreachable_pub, clippy::disallowed_methods, clippy::unwrap_used)]

pub mod fake;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use seawall_agent::ClusterClock;
use seawall_agent::capture::{
    Base, Capture, CaptureError, Look, Maintained, PageVector, Progress, Resumption, Resync, Sink,
};
use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize};
use seawall_proto::segment::EncodeError;
use seawall_proto::v1::WalPosition;

/// A database rebuilt from what was captured, commit by commit.
#[derive(Clone)]
pub struct Model {
    pub page_size: PageSize,
    pub pages: Vec<Option<Vec<u8>>>,
    open: Vec<(PageNumber, Vec<u8>)>,
    expected: u32,
    pub commits: u64,
    pub shipped_pages: u64,
    pub last_time: UnixMillis,
    pub checksum: Checksum,
}

impl Model {
    pub fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            pages: Vec::new(),
            open: Vec::new(),
            expected: 0,
            commits: 0,
            shipped_pages: 0,
            last_time: UnixMillis(i64::MIN),
            checksum: Checksum::EMPTY,
        }
    }

    pub fn vector(&self) -> PageVector {
        let hash = |(index, page): (usize, &Option<Vec<u8>>)| {
            page.as_ref().map_or(0, |bytes| Checksum::of_page(PageNumber(index as u32 + 1), bytes).0)
        };
        PageVector::from_hashes(self.page_size, self.pages.iter().enumerate().map(hash).collect())
    }

    /// Drops the transaction that never ended, as a cluster does when its agent goes away.
    pub fn abandon(&mut self) {
        self.open.clear();
        self.expected = 0;
    }

    pub fn between_transactions(&self) -> bool {
        self.open.is_empty() && self.expected == 0
    }
}

impl Sink for Model {
    fn begin(&mut self, transactions: u32) -> Result<(), EncodeError> {
        assert!(self.between_transactions(), "a group began inside another");
        self.expected = transactions;
        Ok(())
    }

    fn page(&mut self, page: PageNumber, bytes: &[u8]) -> Result<(), EncodeError> {
        assert!(self.expected > 0, "a page outside of any group");
        assert_ne!(page, self.page_size.lock_page());
        self.shipped_pages += 1;
        self.open.push((page, bytes.to_vec()));
        Ok(())
    }

    fn commit(&mut self, page_count: u32, time: UnixMillis, checksum_after: Checksum) -> Result<(), EncodeError> {
        let before = self.pages.len();
        self.pages.resize(before.max(page_count as usize), None);
        for (page, bytes) in self.open.drain(..) {
            assert!(page.0 <= page_count, "page {} beyond the commit's size {page_count}", page.0);
            self.pages[page.0 as usize - 1] = Some(bytes);
        }
        self.pages.truncate(page_count as usize);
        self.commits += 1;
        self.expected -= 1;
        assert!(time >= self.last_time, "commit times went back");
        self.last_time = time;
        self.checksum = checksum_after;
        if self.commits.is_multiple_of(16) || self.expected == 0 {
            assert_eq!(self.vector().checksum(), checksum_after, "the checksum is not that of the pages");
        }
        Ok(())
    }

    fn end(&mut self, _wal: Option<WalPosition>) -> Result<(), EncodeError> {
        assert_eq!(self.expected, 0, "the group ended early");
        Ok(())
    }
}

/// A capture that ships into a model.
pub struct Follower {
    pub path: PathBuf,
    pub capture: Capture,
    pub model: Model,
    /// Where the model's state was captured.
    pub position: Option<WalPosition>,
    pub surprises: Vec<&'static str>,
    pub resyncs: u32,
    pub comparisons: u32,
    pub barriers: u32,
    pub gave_way: u32,
    pub restarts: u32,
    salts: (u32, u32),
    hold: bool,
}

/// A clock that was told the time just now.
pub fn clock() -> Arc<ClusterClock> {
    Arc::new(ClusterClock::at(UnixMillis::now()))
}

/// Repeats what is busy, for at most ten seconds.
pub fn patiently<T>(mut attempt: impl FnMut() -> Result<T, CaptureError>) -> Result<T, CaptureError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(CaptureError::Busy) if start.elapsed() < Duration::from_secs(10) => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}

impl Follower {
    /// Starts with nothing shipped yet.
    pub fn start(path: &Path) -> Self {
        let capture = Capture::open(path, clock()).unwrap();
        let model = Model::new(capture.page_size());
        let mut follower = Self {
            path: path.to_owned(),
            capture,
            model,
            position: None,
            surprises: Vec::new(),
            resyncs: 0,
            comparisons: 0,
            barriers: 0,
            gave_way: 0,
            restarts: 0,
            salts: (0, 0),
            hold: false,
        };
        follower.begin_again();
        follower
    }

    /// A new life of the agent on top of what the model has. Answers whether it resumed without resync.
    pub fn begin_again(&mut self) -> bool {
        self.model.abandon();
        self.capture = Capture::open(&self.path, clock()).unwrap();
        let resumed = (|| {
            patiently(|| self.capture.attach())?;
            self.capture.floor_commit_time(self.model.last_time);
            let resumed = match &self.position {
                Some(position) => self.capture.resume(position, &self.model.vector())? == Resumption::Continued,
                None => false,
            };
            if !resumed {
                self.resync()?;
            }
            Ok(resumed)
        })();
        match resumed {
            Ok(resumed) => resumed,
            Err(error) => {
                self.note(&error);
                self.begin_again()
            }
        }
    }

    fn note(&mut self, error: &CaptureError) {
        match error {
            CaptureError::Surprise(surprise) => {
                self.surprises.push(surprise.reason());
                self.hold = true;
                self.position = None;
            }
            other => panic!("{other}"),
        }
    }

    fn resync(&mut self) -> Result<(), CaptureError> {
        self.resyncs += 1;
        let same_size = self.model.page_size == self.capture.page_size();
        let base = if self.model.pages.is_empty() || !same_size {
            self.model = Model { commits: self.model.commits, ..Model::new(self.capture.page_size()) };
            Base::Nothing
        } else {
            Base::State(self.model.vector())
        };
        let mut resync = Resync::new(base, std::mem::take(&mut self.hold));
        while patiently(|| resync.step(&mut self.capture, Instant::now(), &mut self.model, 64 << 10))? == Progress::More
        {
        }
        self.position = self.capture.position();
        Ok(())
    }

    fn catch_up(&mut self) -> Result<bool, CaptureError> {
        if patiently(|| self.capture.look())? == Look::Nothing {
            return Ok(false);
        }
        self.capture.note_commit(Instant::now());
        while self.capture.advance(&mut self.model, 100_000)? == Progress::More {}
        self.position = self.capture.position();
        let position = self.position.clone().unwrap();
        if (position.salt1, position.salt2) != self.salts {
            self.salts = (position.salt1, position.salt2);
            self.restarts += 1;
        }
        Ok(true)
    }

    /// Captures all that is committed by now, then does what is due for the WAL. Answers whether anything was new.
    pub fn cycle(&mut self) -> bool {
        let found = self.catch_up().and_then(|found| {
            match self.capture.maintain(Instant::now(), &mut self.model) {
                Ok(Maintained::Sealed) => {
                    self.barriers += 1;
                    self.position = self.capture.position();
                }
                Ok(Maintained::NotSealed) => self.position = self.capture.position(),
                Ok(Maintained::GaveWay) => self.gave_way += 1,
                Ok(Maintained::Busy) => self.capture.retry_barrier(),
                Ok(Maintained::Nothing | Maintained::Checkpointed) | Err(CaptureError::Busy) => {}
                Err(error) => return Err(error),
            }
            Ok(found)
        });
        match found {
            Ok(found) => found,
            Err(error) => {
                self.note(&error);
                self.begin_again();
                true
            }
        }
    }

    /// Compares the model with the source, byte for byte, in the very state that was captured.
    pub fn compare(&mut self) {
        if !self.model.between_transactions() {
            return;
        }
        let mut seen = 0;
        let model = &self.model;
        let read = self.capture.read_pages(PageNumber(1), |page, bytes| {
            let found = model.pages.get(page.0 as usize - 1).and_then(Option::as_deref);
            assert!(found == Some(bytes), "page {} differs from the source after {} commits", page.0, model.commits);
            seen += 1;
            true
        });
        if read.unwrap() {
            let there = self.model.pages.iter().enumerate();
            let expected = there.filter(|(index, _)| *index as u32 + 1 != model.page_size.lock_page().0).count();
            assert_eq!(seen, expected, "pages of the source");
            assert_eq!(self.model.vector().checksum(), self.capture.vector().checksum());
            self.comparisons += 1;
        }
    }

    /// Cycles until nothing new comes, then compares.
    pub fn settle(&mut self) {
        while self.cycle() {}
        let before = self.comparisons;
        self.compare();
        assert!(self.comparisons > before, "nothing was compared");
    }

    /// Cycles until `done`, for at most ten seconds.
    pub fn cycle_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(10), "waited in vain");
            self.cycle();
            std::thread::yield_now();
        }
    }
}

/// Whether there is a Python with SQLite to be an application in a process of its own. Where there is none, tests in
/// CI fail and others are skipped.
pub fn has_python() -> bool {
    let found = Command::new("python3").args(["-c", "import sqlite3"]).status().is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "python3 with sqlite3 is needed");
        eprintln!("SKIPPED: python3 with sqlite3 is needed");
    }
    found
}

/// Runs a Python program with the system's SQLite: an application in a process of its own.
pub fn python(program: &str, arguments: &[&str]) -> Child {
    Command::new("python3")
        .arg("-c")
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs one to its end.
pub fn run_python(program: &str, arguments: &[&str]) -> String {
    let output = python(program, arguments).wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    String::from_utf8(output.stdout).unwrap()
}

/// A new database in WAL mode.
pub fn database(directory: &Path, page_size: u32) -> (PathBuf, rusqlite::Connection) {
    let path = directory.join("app.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL;
             CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, text TEXT);"
        ))
        .unwrap();
    (path, connection)
}

/// Inserts rows `from..to`, each with `length` characters.
pub fn insert(connection: &rusqlite::Connection, from: u32, to: u32, length: u32) {
    connection
        .execute(
            "WITH RECURSIVE c(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < ?2)
             INSERT INTO t(id, n, text) SELECT i, i, hex(randomblob(?3 / 2)) FROM c",
            [from, to, length],
        )
        .unwrap();
}
