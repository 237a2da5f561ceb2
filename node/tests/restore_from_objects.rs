//! Restoring from objects: which state comes out, and what happens when objects are damaged, missing or lying.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use history::{EPOCH, History};
use proptest::prelude::*;
use seawall_host::time::UnixMillis;
use seawall_node::restore::{
    Breadth, ByteStream, IntegrityCheck, Listing, Outcome, Progress, RestoreError, RestoreOptions, RestoreSource,
    Restored, SourceError, SourceObject, TargetError, When, restore,
};
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};

/// Objects in memory.
#[derive(Default)]
struct Objects {
    /// What a narrow look finds, and what only a wide one does.
    narrow: Vec<(ObjectName, Bytes)>,
    wide: Vec<(ObjectName, Bytes)>,
    /// Listed, and gone when read.
    missing: Vec<ObjectName>,
    head: Option<Position>,
    /// The head when it is looked at widely, if it moved on.
    wide_head: Option<Position>,
    read: Mutex<Vec<ObjectName>>,
}

impl RestoreSource for Objects {
    fn describe(&self) -> &str {
        "memory"
    }

    fn list(&self, breadth: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        let moved = self.wide_head.filter(|_| breadth == Breadth::Wide);
        let mut listing = Listing { head: moved.or(self.head), ..Listing::default() };
        let wide = if breadth == Breadth::Wide { &self.wide[..] } else { &[] };
        for (route, (name, bytes)) in self.narrow.iter().chain(wide).enumerate() {
            listing.objects.push(SourceObject {
                origin: Arc::from("memory"),
                route: route as u32,
                name: *name,
                size: bytes.len() as u64,
                commit_time_ms: None,
            });
        }
        async { Ok(listing) }.boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        self.read.lock().unwrap().push(object.name);
        let (name, bytes) = self.narrow.iter().chain(&self.wide).nth(object.route as usize).unwrap();
        if self.missing.contains(name) {
            let (origin, object) = ("memory".to_owned(), name.to_string());
            let error = SourceError::Object { origin, object, cause: "it does not exist".to_owned() };
            return stream::iter([Err(error)]).boxed();
        }
        let pieces: Vec<_> = bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces).boxed()
    }
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    warnings: Warnings,
}

impl Fixture {
    fn new() -> Self {
        seawall_host::real::install();
        Self { directory: tempfile::tempdir().unwrap(), warnings: Warnings::default() }
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("restored.db")
    }

    async fn run(&self, source: &Objects, change: impl FnOnce(&mut RestoreOptions)) -> Result<Outcome, RestoreError> {
        let mut options = RestoreOptions::new(self.output());
        change(&mut options);
        restore(source, &options, &self.warnings).await
    }

    async fn restored(&self, source: &Objects, change: impl FnOnce(&mut RestoreOptions)) -> Restored {
        match self.run(source, change).await.unwrap() {
            Outcome::Restored(restored) => restored,
            other => panic!("{other:?}"),
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn warned(&self, text: &str) -> bool {
        self.warnings.0.lock().unwrap().iter().any(|warning| warning.contains(text))
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn flip(object: (ObjectName, Bytes), at: usize) -> (ObjectName, Bytes) {
    let mut bytes = object.1.to_vec();
    bytes[at] ^= 0x40;
    (object.0, bytes.into())
}

/// Damages an object where its pages are.
fn damage(object: (ObjectName, Bytes)) -> (ObjectName, Bytes) {
    let at = object.1.len() / 4;
    flip(object, at)
}

#[tokio::test]
async fn every_txid_restores_to_exactly_its_state() {
    let history = History::random(40, 1);
    let source = Objects {
        narrow: vec![
            history.log(1, 7),
            history.snapshot(10),
            history.log(6, 20),
            history.squashed(Level::One, 11, 24),
            history.snapshot(24),
            history.log(21, 33),
            history.log(34, 40),
        ],
        ..Objects::default()
    };
    for txid in 1..=40 {
        let fixture = Fixture::new();
        let restored = fixture.restored(&source, |options| options.when = When::Txid(Txid(txid))).await;
        assert_eq!(restored.position, history.position(txid));
        assert_eq!(restored.time, UnixMillis(EPOCH + txid as i64 * 1000));
        assert!(read(&fixture.output()) == history.states[txid as usize].file(), "txid {txid}");
        assert_eq!(fixture.files(), ["restored.db"]);
    }
    let fixture = Fixture::new();
    let restored = fixture.restored(&source, |_| {}).await;
    assert_eq!(restored.position, history.position(40));
    assert_eq!(restored.size, read(&fixture.output()).len() as u64);
    assert_eq!(restored.sources, ["memory"]);
}

#[tokio::test]
async fn a_time_restores_the_last_commit_at_or_before_it() {
    let history = History::random(30, 2);
    let source = Objects {
        narrow: vec![history.snapshot(5), history.log(6, 12), history.log(10, 19), history.log(20, 30)],
        ..Objects::default()
    };
    for (millis, expected) in
        [(5_000, 5), (5_999, 5), (6_000, 6), (12_500, 12), (19_999, 19), (20_000, 20), (99_000, 30)]
    {
        let fixture = Fixture::new();
        let when = When::Time(UnixMillis(EPOCH + millis));
        let restored = fixture.restored(&source, |options| options.when = when).await;
        assert_eq!(restored.position, history.position(expected), "{millis}");
    }
    let fixture = Fixture::new();
    let when = When::Time(UnixMillis(EPOCH + 4_999));
    let error = fixture.run(&source, |options| options.when = when).await.unwrap_err();
    assert!(matches!(error, RestoreError::TooEarly(Some(UnixMillis(oldest))) if oldest == EPOCH + 5_000), "{error}");
}

#[tokio::test]
async fn a_time_is_never_taken_for_an_earlier_one_because_of_damage() {
    let history = History::random(30, 20);
    let mut source = Objects {
        narrow: vec![history.log(1, 10), history.log(11, 20), history.log(21, 30)],
        missing: vec![history.name(Level::Log, 11, 20)],
        ..Objects::default()
    };
    let at = |millis| move |options: &mut RestoreOptions| options.when = When::Time(UnixMillis(EPOCH + millis));
    let fixture = Fixture::new();
    let error = fixture.run(&source, at(15_500)).await.unwrap_err();
    assert!(matches!(error, RestoreError::TimeHidden { txid: Txid(10), .. }), "{error}");
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert_eq!(fixture.files(), [""; 0]);
    // What is certain is restored all the same.
    assert_eq!(Fixture::new().restored(&source, at(9_500)).await.position, history.position(9));
    source.wide.push(history.log(9, 17));
    assert_eq!(Fixture::new().restored(&source, at(15_500)).await.position, history.position(15));
}

#[tokio::test]
async fn the_newest_state_is_followed_when_the_source_moves_on_with_it() {
    let history = History::random(25, 21);
    let source = Objects {
        narrow: vec![history.snapshot(10), history.log(11, 20)],
        wide: vec![history.snapshot(23), history.log(24, 25)],
        missing: vec![history.name(Level::Log, 11, 20)],
        head: Some(history.position(20)),
        wide_head: Some(history.position(25)),
        ..Objects::default()
    };
    assert_eq!(Fixture::new().restored(&source, |_| {}).await.position, history.position(25));
}

#[tokio::test]
async fn a_time_crosses_lineages_and_a_txid_means_the_newest() {
    let old = History::random(6, 3);
    let mut new = History::random(9, 4);
    new.lineage = 2;
    for state in &mut new.states {
        state.time += 100_000;
    }
    let source = Objects { narrow: vec![old.log(1, 6), new.log(1, 9)], ..Objects::default() };
    for (millis, expected) in [(6_500, old.position(6)), (100_500, old.position(6)), (101_000, new.position(1))] {
        let when = When::Time(UnixMillis(EPOCH + millis));
        let restored = Fixture::new().restored(&source, |options| options.when = when).await;
        assert_eq!(restored.position, expected);
    }
    let newest = Fixture::new().restored(&source, |options| options.when = When::Txid(Txid(3))).await;
    assert_eq!(newest.position, new.position(3));
    let older = Fixture::new().restored(&source, |options| options.lineage = Some(Lineage(1))).await;
    assert_eq!(older.position, old.position(6));
}

#[tokio::test]
async fn a_changed_page_size_is_followed() {
    let mut history = History::random(8, 5);
    history.change_page_size(2048, 3);
    history.commit(&[2, 4], 4, 9);
    history.change_page_size(1024, 30);
    let source =
        Objects { narrow: vec![history.log(1, 8), history.log(9, 10), history.log(11, 11)], ..Objects::default() };
    for txid in [8, 9, 10, 11] {
        let fixture = Fixture::new();
        fixture.restored(&source, |options| options.when = When::Txid(Txid(txid))).await;
        assert!(read(&fixture.output()) == history.states[txid as usize].file(), "txid {txid}");
    }
}

#[tokio::test]
async fn a_damaged_object_falls_over_to_another() {
    let history = History::random(30, 6);
    for at in 0..history.log(11, 20).1.len() {
        let source = Objects {
            narrow: vec![history.snapshot(10), flip(history.log(11, 20), at), history.log(21, 30)],
            wide: vec![history.log(8, 15), history.log(14, 26)],
            ..Objects::default()
        };
        let fixture = Fixture::new();
        fixture.restored(&source, |_| {}).await;
        assert!(read(&fixture.output()) == history.states[30].file(), "byte {at}");
        // What is not looked at before the end of the run may be flipped unnoticed; all else is told.
        if at < 40 {
            assert!(fixture.warned("looking for another copy"), "byte {at}");
        }
        assert_eq!(fixture.files(), ["restored.db"]);
    }
}

#[tokio::test]
async fn a_damaged_snapshot_falls_back_to_an_older_one() {
    let history = History::random(30, 7);
    let narrow = vec![history.snapshot(10), history.log(11, 22), damage(history.snapshot(20)), history.log(21, 30)];
    let source = Objects { narrow, ..Objects::default() };
    let fixture = Fixture::new();
    let restored = fixture.restored(&source, |_| {}).await;
    assert_eq!(restored.position, history.position(30));
    assert!(fixture.warned("is damaged"));
}

#[tokio::test]
async fn a_run_that_nothing_else_continues_is_replaced_from_the_start() {
    let history = History::random(30, 8);
    let narrow = vec![
        history.snapshot(10),
        damage(history.log(11, 30)),
        history.squashed(Level::One, 6, 30),
        history.snapshot(5),
    ];
    let source = Objects { narrow, ..Objects::default() };
    let fixture = Fixture::new();
    fixture.restored(&source, |_| {}).await;
    assert!(read(&fixture.output()) == history.states[30].file());
}

#[tokio::test]
async fn a_missing_object_is_looked_for_again() {
    let history = History::random(20, 9);
    let source = Objects {
        narrow: vec![history.log(1, 10), history.log(11, 20)],
        wide: vec![history.squashed(Level::One, 11, 20)],
        missing: vec![history.name(Level::Log, 11, 20)],
        ..Objects::default()
    };
    let fixture = Fixture::new();
    fixture.restored(&source, |_| {}).await;
    assert!(read(&fixture.output()) == history.states[20].file());
    assert!(fixture.warned("does not exist"));
}

#[tokio::test]
async fn nothing_is_left_behind_when_no_chain_leads_there() {
    let history = History::random(20, 10);
    let source = Objects { narrow: vec![history.log(1, 10), damage(history.log(11, 20))], ..Objects::default() };
    let fixture = Fixture::new();
    let error = fixture.run(&source, |_| {}).await.unwrap_err();
    assert!(matches!(error, RestoreError::NoChain { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("txid 20") && text.contains("the nearest that can is 10"), "{text}");
    assert!(text.contains("is damaged"), "{text}");
    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test]
async fn an_object_that_lies_about_its_content_is_not_believed() {
    let history = History::random(20, 11);
    let other = History::random(20, 12);
    // Sound segments, of another history: their names are forged to fit.
    let forged_log = (history.name(Level::Log, 11, 20), other.log(11, 20).1);
    let forged_snapshot = (history.name(Level::Snapshot, 1, 15), other.snapshot(15).1);
    let source = Objects {
        narrow: vec![forged_snapshot, history.log(1, 10), forged_log, history.log(9, 20)],
        ..Objects::default()
    };
    let fixture = Fixture::new();
    let restored = fixture.restored(&source, |_| {}).await;
    assert_eq!(restored.position, history.position(20));
    assert!(read(&fixture.output()) == history.states[20].file());
}

#[tokio::test]
async fn the_newest_state_must_be_the_one_the_source_names() {
    let history = History::random(20, 13);
    let mut source =
        Objects { narrow: vec![history.log(1, 19)], head: Some(history.position(20)), ..Objects::default() };
    let fixture = Fixture::new();
    let error = fixture.run(&source, |_| {}).await.unwrap_err();
    assert!(matches!(error, RestoreError::BehindHead { reached: Txid(19), .. }), "{error}");
    source.narrow.push(history.log(20, 20));
    let wrong = Position { checksum: history.position(19).checksum, ..history.position(20) };
    source.head = Some(wrong);
    let error = fixture.run(&source, |_| {}).await.unwrap_err();
    assert!(matches!(error, RestoreError::WrongState { .. }), "{error}");
    assert_eq!(fixture.files(), [""; 0]);
    source.head = Some(history.position(20));
    assert_eq!(fixture.restored(&source, |_| {}).await.position, history.position(20));
}

#[tokio::test]
async fn a_gap_is_told_and_what_is_before_it_restored() {
    let history = History::random(20, 14);
    let source = Objects { narrow: vec![history.log(1, 10), history.log(13, 20)], ..Objects::default() };
    let fixture = Fixture::new();
    assert_eq!(fixture.restored(&source, |_| {}).await.position, history.position(10));
    assert!(fixture.warned("up to txid 20, but a gap after 10"));
}

#[tokio::test]
async fn an_existing_database_or_its_sidecars_are_not_touched() {
    let history = History::random(5, 15);
    let source = Objects { narrow: vec![history.log(1, 5)], ..Objects::default() };
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let fixture = Fixture::new();
        let path = fixture.directory.path().join(format!("restored.db{suffix}"));
        std::fs::write(&path, b"old").unwrap();
        let error = fixture.run(&source, |_| {}).await.unwrap_err();
        let expected = match suffix {
            "" => matches!(error, RestoreError::Target(TargetError::Exists(_))),
            _ => matches!(error, RestoreError::Target(TargetError::Sidecar(_))),
        };
        assert!(expected, "{error}");
        assert_eq!(read(&path), b"old");
        assert_eq!(fixture.files(), [format!("restored.db{suffix}")]);
        assert!(source.read.lock().unwrap().is_empty());
    }
    let fixture = Fixture::new();
    for suffix in ["", "-wal", "-shm", "-journal"] {
        std::fs::write(fixture.directory.path().join(format!("restored.db{suffix}")), b"old").unwrap();
    }
    fixture.restored(&source, |options| options.force = true).await;
    assert!(read(&fixture.output()) == history.states[5].file());
    assert_eq!(fixture.files(), ["restored.db"]);
}

#[tokio::test]
async fn a_failed_forced_restore_leaves_the_old_database_whole() {
    let history = History::random(5, 16);
    let source = Objects { narrow: vec![damage(history.log(1, 5))], ..Objects::default() };
    let fixture = Fixture::new();
    for suffix in ["", "-wal"] {
        std::fs::write(fixture.directory.path().join(format!("restored.db{suffix}")), b"old").unwrap();
    }
    fixture.run(&source, |options| options.force = true).await.unwrap_err();
    assert_eq!(fixture.files(), ["restored.db", "restored.db-wal"]);
    assert_eq!(read(&fixture.output()), b"old");
}

#[tokio::test]
async fn conditions_make_nothing_to_do_a_success() {
    let history = History::random(5, 17);
    let fixture = Fixture::new();
    let empty = Objects::default();
    assert!(matches!(fixture.run(&empty, |_| {}).await, Err(RestoreError::Empty(_))));
    let outcome = fixture.run(&empty, |options| options.if_replica_exists = true).await.unwrap();
    assert_eq!(outcome, Outcome::NothingToRestore);
    let source = Objects { narrow: vec![history.log(1, 5)], ..Objects::default() };
    let planned = fixture.run(&source, |options| options.dry_run = true).await.unwrap();
    assert!(matches!(&planned, Outcome::Planned { txid: Txid(5), objects, .. } if objects.len() == 1), "{planned:?}");
    assert_eq!(fixture.files(), [""; 0]);
    std::fs::write(fixture.output(), b"old").unwrap();
    let outcome = fixture.run(&source, |options| options.if_db_not_exists = true).await.unwrap();
    assert_eq!(outcome, Outcome::DatabaseExists);
    assert_eq!(read(&fixture.output()), b"old");
}

/// A history whose states are what SQLite made of them.
fn sqlite_history(directory: &Path) -> History {
    let path = directory.join("source.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL; CREATE TABLE t (a, b);").unwrap();
    let mut history = History::new();
    for round in 0..5 {
        connection
            .execute("INSERT INTO t SELECT value, ?1 FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c LIMIT 50) SELECT value FROM c)", [round])
            .unwrap();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let file = std::fs::read(&path).unwrap();
        let mut state = history.states.last().unwrap().clone();
        state.page_count = (file.len() / 512) as u32;
        state.written.clear();
        for (page, bytes) in (1..).zip(file.chunks(512)) {
            if state.pages.insert(page, bytes.to_vec()).as_deref() != Some(bytes) {
                state.written.push(page);
            }
        }
        state.time = EPOCH + history.states.len() as i64 * 1000;
        history.states.push(state);
    }
    history
}

#[tokio::test]
async fn sqlite_finds_the_restored_database_sound_and_the_check_leaves_no_sidecars() {
    let fixture = Fixture::new();
    let scratch = tempfile::tempdir().unwrap();
    let history = sqlite_history(scratch.path());
    let source = Objects { narrow: vec![history.snapshot(2), history.log(3, 5)], ..Objects::default() };
    for check in [IntegrityCheck::Quick, IntegrityCheck::Full] {
        fixture.restored(&source, |options| options.integrity_check = check).await;
        assert_eq!(fixture.files(), ["restored.db"]);
        std::fs::remove_file(fixture.output()).unwrap();
    }
    fixture.restored(&source, |_| {}).await;
    let connection = rusqlite::Connection::open(fixture.output()).unwrap();
    let rows: u32 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 250);
    drop(connection);

    // Pages that no SQLite wrote: the checksums hold, and SQLite complains.
    let nonsense = History::random(5, 18);
    let source = Objects { narrow: vec![nonsense.log(1, 5)], ..Objects::default() };
    let fixture = Fixture::new();
    let check = |options: &mut RestoreOptions| options.integrity_check = IntegrityCheck::Full;
    let error = fixture.run(&source, check).await.unwrap_err();
    assert!(matches!(error, RestoreError::Integrity(_)), "{error}");
    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test]
async fn force_refuses_while_another_process_has_the_database_open() {
    let has_python = std::process::Command::new("python3").args(["-c", "import sqlite3"]).status();
    if !has_python.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "python3 with sqlite3 is needed");
        eprintln!("SKIPPED: python3 with sqlite3 is needed");
        return;
    }
    let fixture = Fixture::new();
    let path = fixture.output();
    let mut other = std::process::Command::new("python3")
        .args(["-c", "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('pragma journal_mode=wal')\nc.execute('create table t(a)')\nc.execute('select * from t').fetchall()\nprint('open', flush=True)\nsys.stdin.read()"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "open\n");
    let history = History::random(5, 19);
    let source = Objects { narrow: vec![history.log(1, 5)], ..Objects::default() };
    let error = fixture.run(&source, |options| options.force = true).await.unwrap_err();
    assert!(matches!(error, RestoreError::Target(TargetError::InUse(_))), "{error}");
    drop(other.stdin.take());
    other.wait().unwrap();
    fixture.restored(&source, |options| options.force = true).await;
    assert!(read(&path) == history.states[5].file());
    assert_eq!(fixture.files(), ["restored.db"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_objects_what_comes_out_is_an_exact_state(
        seed: u64,
        cuts in proptest::collection::vec((0..4_u8, 1..25_u64, 0..12_u64, any::<bool>()), 1..10),
        target in proptest::option::of(1..26_u64),
    ) {
        let history = History::random(25, seed);
        let mut source = Objects::default();
        for (kind, first, more, broken) in cuts {
            let last = (first + more).min(25);
            let object = match kind {
                0 => history.snapshot(last),
                1 => history.squashed(Level::One, first, last),
                _ => history.log(first, last),
            };
            source.narrow.push(if broken && seed % 2 == 0 { damage(object) } else { object });
        }
        let fixture = Fixture::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let when = target.map_or(When::Newest, |txid| When::Txid(Txid(txid)));
        match runtime.block_on(fixture.run(&source, |options| options.when = when)) {
            Ok(Outcome::Restored(restored)) => {
                let txid = restored.position.txid.0;
                prop_assert!(target.is_none_or(|target| target == txid));
                prop_assert_eq!(restored.position, history.position(txid));
                prop_assert!(read(&fixture.output()) == history.states[txid as usize].file());
                prop_assert_eq!(fixture.files(), ["restored.db"]);
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(error) => {
                prop_assert!(matches!(error, RestoreError::NoChain { .. }), "{error}");
                prop_assert_eq!(fixture.files(), [""; 0]);
            }
        }
    }
}
