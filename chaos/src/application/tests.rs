//! The writers, against real SQLite.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::net::Host;
use crate::process::{Ending, Process};
use crate::tools::tests::has_what_it_needs;

const PATIENCE: Duration = Duration::from_secs(60);

/// A host, a database, and applications on it.
struct Bench {
    host: Host,
    directory: TempDir,
}

/// A running application and what it says.
struct Writer {
    name: String,
    process: Process,
    lines: Receiver<Result<ApplicationLine, LineError>>,
    heard: BTreeMap<u64, u64>,
}

impl Bench {
    fn new() -> Self {
        let (host, ()) = Host::start("application-1", Ipv4Addr::LOCALHOST, || Ok(())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        // An awkward directory: what is a query or an escape in a URI.
        std::fs::create_dir(directory.path().join("a %3f#b")).unwrap();
        let bench = Self { host, directory };
        create_database(&bench.database()).unwrap();
        bench
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("a %3f#b/app.db")
    }

    fn start(&self, language: Language, name: &str, rate: u32) -> Writer {
        let path = self.database();
        let application = Application { name: name.to_owned(), language, database: "app".to_owned(), path, rate };
        let (heard, lines) = channel();
        let launch = application.launch(self.directory.path(), &self.log(), move |line| {
            let _ = heard.send(line);
        });
        let process = self.host.spawn(launch.unwrap()).unwrap();
        Writer { name: name.to_owned(), process, lines, heard: BTreeMap::new() }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn journal(&self) -> Journal {
        Journal::read(&self.database())
    }

    fn await_said(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            assert!(Instant::now() < deadline, "nobody says {words:?}; the log: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Writer {
    fn next(&mut self) -> ApplicationLine {
        let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{} says nothing", self.name)).unwrap();
        if let ApplicationLine::Committed { seq, chain } = line {
            self.heard.insert(seq, chain);
        }
        line
    }

    /// Hears `count` commits.
    fn commits(&mut self, count: usize) {
        let enough = self.heard.len() + count;
        while self.heard.len() < enough {
            self.next();
        }
    }

    /// What it still said before it ended.
    fn drain(&mut self) {
        assert!(!self.process.is_running());
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if let ApplicationLine::Committed { seq, chain } = line.unwrap() {
                self.heard.insert(seq, chain);
            }
        }
    }
}

/// What a database holds, found right: the chain follows from the rows, and the balances from the amounts.
struct Journal {
    rows: BTreeMap<u64, (u64, String)>,
}

impl Journal {
    fn read(path: &Path) -> Self {
        let database = Connection::open(path).unwrap();
        database.busy_timeout(PATIENCE).unwrap();
        let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let mut balances: BTreeMap<i64, i64> = (1..=10).map(|account| (account, 1000)).collect();
        let mut rows = BTreeMap::new();
        let mut last = (0i64, 1i64);
        let transaction = database.unchecked_transaction().unwrap();
        let mut statement = database
            .prepare(
                "SELECT seq, amount, source, target, chain, application, length(payload) FROM journal ORDER BY seq",
            )
            .unwrap();
        let mut cursor = statement.query([]).unwrap();
        while let Some(row) = cursor.next().unwrap() {
            let [seq, amount, source, target, chain] = [0, 1, 2, 3, 4].map(|column| row.get::<_, i64>(column).unwrap());
            assert_eq!(seq, last.0 + 1, "a gap");
            let expected = (last.1 * 48271 + seq * 69621 + amount * 16807 + source * 31 + target) % 2_147_483_647;
            assert_eq!(chain, expected, "chain of row {seq}");
            assert!(amount > 0 && source != target, "row {seq} moves nothing");
            assert!((100..=400).contains(&row.get::<_, i64>(6).unwrap()), "payload of row {seq}");
            *balances.get_mut(&source).unwrap() -= amount;
            *balances.get_mut(&target).unwrap() += amount;
            rows.insert(seq as u64, (chain as u64, row.get(5).unwrap()));
            last = (seq, chain);
        }
        let mut accounts = database.prepare("SELECT id, balance FROM account").unwrap();
        let found = accounts.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(found.collect::<Result<BTreeMap<i64, i64>, _>>().unwrap(), balances);
        drop(transaction);
        Self { rows }
    }

    fn last(&self) -> (u64, u64) {
        self.rows.last_key_value().map_or((0, 1), |(seq, (chain, _))| (*seq, *chain))
    }

    /// Everything that `writer` said is there, with the chain it said and its name.
    fn holds_what_it_said(&self, writer: &Writer) {
        assert!(!writer.heard.is_empty());
        for (seq, chain) in &writer.heard {
            assert_eq!(self.rows.get(seq), Some(&(*chain, writer.name.clone())), "row {seq}");
        }
    }

    fn of(&self, name: &str) -> Vec<u64> {
        self.rows.iter().filter(|(_, (_, application))| application == name).map(|(seq, _)| *seq).collect()
    }
}

fn goes_on_after_kills(language: Language) {
    if !has_what_it_needs(language.missing()) {
        return;
    }
    let bench = Bench::new();
    let mut writer = bench.start(language, "o'bank", 0);
    assert_eq!(writer.next(), ApplicationLine::Resumed { seq: 0, chain: 1 });
    writer.commits(200);
    for count in [50, 1, 100] {
        writer.process.kill();
        writer.drain();
        let journal = bench.journal();
        journal.holds_what_it_said(&writer);
        // At most the last commit was not said before it was killed.
        let unsaid = journal.last().0 - writer.heard.last_key_value().unwrap().0;
        assert!(unsaid <= 1, "{unsaid} commits were not said");
        writer = bench.start(language, "o'bank", 0);
        let (seq, chain) = journal.last();
        assert_eq!(writer.next(), ApplicationLine::Resumed { seq, chain });
        writer.commits(count);
        assert!(writer.heard.first_key_value().unwrap().0 == &(seq + 1));
    }
    // Told to stop, it says everything that it committed.
    assert_eq!(writer.process.terminate(PATIENCE), Ending::Code(0), "{}", bench.said());
    writer.drain();
    let journal = bench.journal();
    journal.holds_what_it_said(&writer);
    let (seq, (chain, _)) = journal.rows.last_key_value().unwrap();
    assert_eq!(writer.heard.last_key_value().unwrap(), (seq, chain));
}

#[test]
fn python_goes_on_after_kills() {
    goes_on_after_kills(Language::Python);
}

#[test]
fn the_shell_goes_on_after_kills() {
    goes_on_after_kills(Language::Shell);
}

#[test]
fn node_goes_on_after_kills() {
    goes_on_after_kills(Language::Node);
}

#[test]
fn all_languages_share_one_database() {
    let languages = Language::ALL.into_iter().filter(|language| has_what_it_needs(language.missing()));
    let bench = Bench::new();
    let mut writers: Vec<_> = languages.map(|language| bench.start(language, &format!("{language:?}"), 0)).collect();
    for writer in &mut writers {
        writer.commits(50);
    }
    for writer in &mut writers {
        assert_eq!(writer.process.terminate(PATIENCE), Ending::Code(0), "{}", bench.said());
        writer.drain();
    }
    let journal = bench.journal();
    for writer in &writers {
        journal.holds_what_it_said(writer);
        assert_eq!(
            journal.of(&writer.name),
            writer.heard.keys().copied().collect::<Vec<_>>(),
            "rows of {}",
            writer.name
        );
    }
}

#[test]
fn a_locked_database_is_told_and_tried_again() {
    for language in Language::ALL.into_iter().filter(|language| has_what_it_needs(language.missing())) {
        let bench = Bench::new();
        let mut writer = bench.start(language, "bank", 0);
        writer.commits(1);
        // Longer than its busy time-out.
        let lock = Connection::open(bench.database()).unwrap();
        lock.busy_timeout(PATIENCE).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        bench.await_said("database is locked");
        lock.execute_batch("ROLLBACK").unwrap();
        while !matches!(writer.next(), ApplicationLine::Resumed { .. }) || writer.heard.is_empty() {}
        writer.commits(20);
        assert_eq!(writer.process.terminate(PATIENCE), Ending::Code(0), "{}", bench.said());
        writer.drain();
        bench.journal().holds_what_it_said(&writer);
    }
}

#[test]
fn a_database_that_is_gone_is_not_made_anew() {
    for language in Language::ALL.into_iter().filter(|language| has_what_it_needs(language.missing())) {
        let bench = Bench::new();
        let away = bench.directory.path().join("away.db");
        std::fs::rename(bench.database(), &away).unwrap();
        let mut writer = bench.start(language, "bank", 0);
        bench.await_said("trying again");
        assert!(!bench.database().exists());
        std::fs::rename(&away, bench.database()).unwrap();
        writer.commits(3);
        assert_eq!(writer.process.terminate(PATIENCE), Ending::Code(0), "{}", bench.said());
    }
}

#[test]
fn a_paused_application_goes_on_at_its_rate() {
    for language in Language::ALL.into_iter().filter(|language| has_what_it_needs(language.missing())) {
        let bench = Bench::new();
        let mut writer = bench.start(language, &format!("{language:?}"), 50);
        writer.commits(10);
        writer.process.pause();
        // What it said before arrives; then nothing does.
        while let Ok(line) = writer.lines.recv_timeout(Duration::from_secs(2)) {
            line.unwrap();
        }
        writer.process.resume();
        let resumed = Instant::now();
        writer.commits(100);
        // Two seconds' worth, of which one may be made up for at once.
        assert!(resumed.elapsed() > Duration::from_millis(900), "{:?}", resumed.elapsed());
        assert_eq!(writer.process.terminate(PATIENCE), Ending::Code(0), "{}", bench.said());
    }
}

#[test]
fn a_full_disk_is_told_and_tried_again() {
    for language in Language::ALL.into_iter().filter(|language| has_what_it_needs(language.missing())) {
        let bench = Bench::new();
        let Some(disk) = SmallDisk::mount(&bench.directory.path().join("a %3f#b"), 2) else { return };
        create_database(&bench.database()).unwrap();
        let hog = bench.directory.path().join("a %3f#b/hog");
        let mut writer = bench.start(language, "bank", 0);
        writer.commits(1);
        let _ = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&hog).unwrap());
        bench.await_said("is full");
        std::fs::remove_file(&hog).unwrap();
        while !matches!(writer.next(), ApplicationLine::Resumed { .. }) {}
        writer.commits(5);
        assert_eq!(writer.process.terminate(PATIENCE), Ending::Code(0), "{}", bench.said());
        writer.drain();
        bench.journal().holds_what_it_said(&writer);
        drop(disk);
    }
}

/// A small disk; it is taken away when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of so many MiB, or nothing where mounting is not allowed.
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        let options = format!("size={mebibytes}m");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options.as_str())) {
            Ok(()) => Some(Self(at.to_owned())),
            Err(error) => {
                assert!(
                    std::env::var_os("CI").is_none() || error == nix::errno::Errno::EPERM,
                    "cannot mount a small disk: {error}"
                );
                eprintln!("SKIPPED: cannot mount a small disk: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
